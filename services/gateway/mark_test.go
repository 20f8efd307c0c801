package gateway

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// The mark is a compare-and-set: of many gateways that come to a job in the same
// moment one has it.
func TestOfManyGatewaysOneMarksAJob(t *testing.T) {
	t.Parallel()
	const gateways, jobs = 8, 10
	b := newBench(t)
	var all []*running
	for range gateways {
		g := b.gateway()
		if err := g.open(b.ctx()); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	for range jobs {
		job := candidate{Job: pleo.Job{CreatedAt: time.Now()}, id: uuid.New(), company: uuid.New()}
		var marked atomic.Int32
		var racing sync.WaitGroup
		begin := make(chan struct{})
		for _, g := range all {
			racing.Go(func() {
				<-begin
				m, _, err := g.mark(b.ctx(), job, zerolog.Nop())
				switch {
				case err == nil:
					marked.Add(1)
					m.stop()
				case !errors.Is(err, errHeld):
					t.Errorf("mark: %v", err)
				}
			})
		}
		close(begin)
		racing.Wait()
		if n := marked.Load(); n != 1 {
			t.Errorf("%d gateways have marked one job", n)
		}
	}
}

// A gateway's mark does not keep out itself, so it looks at a company once at a
// time.
func TestAGatewayLooksAtACompanyOnceAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	job := b.pleo.add(company, "pending")
	posting, release := make(chan struct{}), make(chan struct{})
	b.pleo.set(func(p *fakePleo) {
		p.posting = func(http.ResponseWriter, *fakeJob) bool {
			p.posting = nil
			close(posting)
			p.mu.Unlock()
			<-release
			p.mu.Lock()
			return false
		}
	})
	g := b.gateway()
	if err := g.open(b.ctx()); err != nil {
		t.Fatal(err)
	}
	var looking sync.WaitGroup
	looking.Go(func() {
		if o, err := g.look(b.ctx(), company, zerolog.Nop()); err != nil || o.Action != started {
			t.Errorf("the first look: %+v %v", o, err)
		}
	})
	<-posting
	o, err := g.look(b.ctx(), company, zerolog.Nop())
	var wait *laterError
	if !errors.As(err, &wait) || wait.in != inHandPause {
		t.Errorf("a look beside it: %+v %v", o, err)
	}
	close(release)
	looking.Wait()
	b.wantEvent(job)
	if j := b.pleo.job(job); j.started != 1 || j.refused != 0 {
		t.Errorf("started %d times, refused %d times", j.started, j.refused)
	}
}
