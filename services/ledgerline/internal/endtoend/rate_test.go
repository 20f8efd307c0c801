package endtoend

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/governor"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

var rateFor = flag.Duration("rate.for", 6*time.Second, "how long TestReplicasShareOneRate measures; 30s and more are judged by the promise itself")

const (
	// rateLimit of the simulated upstream, and how many fetchers of which rate ask
	// it: together more than twice the limit.
	rateLimit    = 50
	rateReplicas = 3
	rateEach     = 40
	// rateDrains is what a fetcher has under way at a time.
	rateDrains = 8
)

// Guards the rate promise: three processes that know nothing of the upstream's
// limit but its 429 use at least nine tenths of it, and fewer than one call in
// fifty is refused (trap 40). Without the governor a third is.
//
//	go test ./services/ledgerline/internal/endtoend -run TestReplicasShareOneRate -v -count=1 -args -rate.for=60s
func TestReplicasShareOneRate(t *testing.T) {
	t.Parallel()
	// The start, in which the limit is found, weighs more in a short measurement.
	used, refused := 0.90, 0.02
	if *rateFor < 30*time.Second {
		used, refused = 0.75, 0.05
	}
	in := install(t, simulator.Config{Seed: 40, Jobs: rateReplicas * rateDrains, ItemsPerJob: 1, RateLimit: rateLimit})
	jobs := in.upstream.Snapshot().Jobs

	ctx, cancel := context.WithTimeout(context.Background(), *rateFor)
	defer cancel()
	var seen tally
	var drains sync.WaitGroup
	began := time.Now()
	for replica := range rateReplicas {
		conn := in.connect()
		t.Cleanup(conn.Close)
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		g, err := governor.New(governor.Options{JetStream: js, Replicas: 1, Rate: rateEach, Logger: in.logger()})
		if err != nil {
			t.Fatal(err)
		}
		client := in.client(func(c *pleo.Config) {
			c.Limiter, c.Observe = g.Limiter(subject.CredentialKey(uuid.Nil)), seen.add
		})
		for _, job := range jobs[replica*rateDrains:][:rateDrains] {
			drains.Go(func() {
				of, err := client.For(job.CompanyID)
				for err == nil {
					_, err = of.Job(ctx, job.ID.String())
				}
				if ctx.Err() == nil {
					t.Error(err)
				}
			})
		}
	}
	drains.Wait()
	took := time.Since(began).Seconds()
	// The burst that the upstream allows besides its rate is not counted as limit:
	// it would only make the share larger.
	share, lost := float64(seen.ok)/(rateLimit*took), float64(seen.refused)/float64(seen.ok+seen.refused)
	t.Logf("%d replicas, limit %d/s, %.0f s: %d calls answered (%.1f %% of the limit), %d refused (%.2f %%)",
		rateReplicas, rateLimit, took, seen.ok, 100*share, seen.refused, 100*lost)
	if share < used {
		t.Errorf("%.1f %% of the limit was used, want %.0f %%", 100*share, 100*used)
	}
	if lost > refused {
		t.Errorf("%.2f %% of the calls were refused, want %.0f %% at most", 100*lost, 100*refused)
	}
}

// tally counts answers.
type tally struct {
	mu          sync.Mutex
	ok, refused int
}

func (c *tally) add(call pleo.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch call.Code {
	case "200":
		c.ok++
	case "429":
		c.refused++
	}
}
