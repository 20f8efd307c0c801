package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// pendingOnly begins every poll's call: those of a look name their company.
const pendingOnly = "GET /v3/export-jobs?limit=2&statuses=pending"

// Trap 36: a webhook that never came, or never again, loses no job.
func TestThePollFindsWhatNoWebhookTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start(func(c *Config) { c.PollInterval = 100 * time.Millisecond })
	b.log.WaitCount(logevent.JobsPolled, 1)
	var jobs []uuid.UUID
	for range 5 {
		jobs = append(jobs, b.pleo.add(uuid.New(), "pending"))
	}
	seen := map[uuid.UUID]bool{}
	for range jobs {
		seen[b.event()] = true
	}
	if len(seen) != len(jobs) {
		t.Errorf("%d of %d jobs were started", len(seen), len(jobs))
	}
	// In progress is asked for at the start alone, and company by company.
	b.pleo.wait(pendingOnly, 2)
	if n := b.pleo.count("GET /v3/export-jobs?limit=2&statuses=pending&statuses=in_progress"); n != 1 {
		t.Errorf("%d polls asked for in_progress, want that of the start", n)
	}
}

// With one company set, nothing else is asked about (trap 38; trap 24: by its real name).
func TestThePollOfOneCompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	other, job := b.pleo.add(uuid.New(), "pending"), b.pleo.add(company, "pending")
	b.start(func(c *Config) { c.Company, c.PollInterval = company, 50*time.Millisecond })
	b.wantEvent(job)
	b.pleo.wait("GET /v3/export-jobs?company_id="+company.String()+"&limit=2&statuses=pending", 4)
	if n := b.pleo.job(other).started; n != 0 {
		t.Errorf("the other company's job was started %d times", n)
	}
	b.pleo.set(func(p *fakePleo) {
		for _, call := range p.calls {
			if strings.HasPrefix(call, "GET /v3/export-jobs?") && !strings.Contains(call, company.String()) {
				t.Errorf("asked without the company: %s", call)
			}
		}
	})
}

// Of two gateways one polls at each interval, and the other one goes on when that
// one is gone.
func TestTwoGatewaysShareOneClock(t *testing.T) {
	t.Parallel()
	const interval, polls = 200 * time.Millisecond, 10
	b := newBench(t)
	set := func(c *Config) { c.PollInterval = interval }
	first := b.start(set)
	b.start(set)
	b.log.WaitCount(logevent.JobsPolled, 2)
	began, from := time.Now(), b.pleo.count(pendingOnly)
	b.pleo.wait(pendingOnly, from+polls)
	// Both by themselves would have needed half as long. The jitter is a tenth.
	if took := time.Since(began); took < (polls-1)*interval*8/10 {
		t.Errorf("%d polls took %s at an interval of %s: both gateways poll", polls, took, interval)
	}
	first.stop()
	b.pleo.wait(pendingOnly, b.pleo.count(pendingOnly)+3)
}

// Interval 0: after the start nobody polls, and jobs go on by webhook and by the
// end of the one before.
func TestWithoutPollingTheNextJobStillFollows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	first, second := b.pleo.add(company, "pending"), b.pleo.add(company, "pending")
	g := b.start()
	b.wantEvent(first)
	b.end(first)
	b.wantEvent(second)
	third := b.pleo.add(company, "pending")
	b.end(second)
	b.wantEvent(third)
	b.end(third)
	b.settled()
	last := b.pleo.add(uuid.New(), "pending")
	g.announce(t, last, b.pleo)
	b.wantEvent(last)
	if n := b.pleo.count(pendingOnly); n > 4 { // the pages of the start's poll
		t.Errorf("%d polls", n)
	}
	info, err := b.stream("LEDGERLINE_DETECTED").Info(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs > 1 { // the last one's, on its way to be acked
		t.Errorf("%d detections are left: a clock that nobody set", info.State.Msgs)
	}
}

// A poll that fails is made again, with the jobs in progress.
func TestTheStartsPollIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "in_progress")
	refusals := 0
	b.pleo.set(func(p *fakePleo) {
		p.listing = func(w http.ResponseWriter, _ *http.Request) bool {
			if refusals++; refusals > 2 {
				return false
			}
			refuse(w, http.StatusForbidden, "FORBIDDEN")
			return true
		}
	})
	b.start()
	b.log.WaitCount(logevent.PollFailed, 2)
	b.wantEvent(job)
}

func TestOnlyWhatFailedOfAStartsPollIsMadeAgain(t *testing.T) {
	t.Parallel()
	refused, fine := uuid.New(), uuid.New()
	all := []uuid.UUID{uuid.Nil, refused, fine}
	var r recovery
	if left := r.left(7, all); !slices.Equal(left, all) {
		t.Errorf("at first %v", left)
	}
	r.keep(7, failures{refused: errors.New("no")})
	if left := r.left(7, all); !slices.Equal(left, []uuid.UUID{refused}) {
		t.Errorf("again %v", left)
	}
	if left := r.left(8, all); !slices.Equal(left, all) {
		t.Errorf("at the next start %v", left)
	}
}

func TestTheIntervalIsJittered(t *testing.T) {
	t.Parallel()
	g := &Gateway{config: Config{PollInterval: 100 * time.Second}}
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		low, high = min(low, g.interval()), max(high, g.interval())
	}
	if low < 90*time.Second || high > 110*time.Second || low > 95*time.Second || high < 105*time.Second {
		t.Errorf("intervals from %s to %s, want 90s to 110s", low, high)
	}
}
