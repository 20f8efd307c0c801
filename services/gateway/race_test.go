package gateway

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Two gateways, webhooks to both (each twice, in any order) and polls, 50 companies
// with three jobs each: every job is started once, by age, and never two of a
// company at a time. The upstream of these tests notes a start that is too early.
// Trap 10.
func TestTwoGatewaysStartEachJobOnceAndInOrder(t *testing.T) {
	t.Parallel()
	const companies, each = 50, 3
	b := newBench(t)
	gateways := []*running{}
	for range 2 {
		gateways = append(gateways, b.start(func(c *Config) { c.PollInterval = 100 * time.Millisecond }))
	}
	want := map[string][]uuid.UUID{}
	var hooks []uuid.UUID
	for range companies {
		company := uuid.New()
		for range each {
			job := b.pleo.add(company, "pending")
			want[company.String()] = append(want[company.String()], job)
			hooks = append(hooks, job, job)
		}
	}
	rand.Shuffle(len(hooks), func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
	var sending sync.WaitGroup
	defer sending.Wait()
	for i, g := range gateways {
		sending.Go(func() {
			for n := i; n < len(hooks); n += len(gateways) {
				g.announce(t, hooks[n], b.pleo)
			}
		})
	}
	got := map[string][]uuid.UUID{}
	seen := map[uuid.UUID]bool{}
	for len(seen) < companies*each {
		// An event may come twice after a takeover; the fetcher makes one of it.
		job := b.event()
		if seen[job] {
			continue
		}
		seen[job] = true
		company := b.pleo.company(job.String())
		got[company] = append(got[company], job)
		b.end(job)
	}
	for company, jobs := range want {
		if !slices.Equal(got[company], jobs) {
			t.Errorf("company %s: events in the order %v, want %v", company, got[company], jobs)
		}
		for _, job := range jobs {
			if j := b.pleo.job(job); j.started != 1 || j.refused != 0 {
				t.Errorf("job %s was started %d times, refused %d times", job, j.started, j.refused)
			}
		}
	}
	if n := b.pleo.count("POST"); n != companies*each {
		t.Errorf("%d posts for %d jobs", n, companies*each)
	}
}
