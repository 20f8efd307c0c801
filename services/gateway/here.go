package gateway

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// standing is how a job stands here.
type standing int

const (
	// unknown: nothing is known of the job here.
	unknown standing = iota
	// starting: a gateway has it in hand, its event is not published.
	starting
	// underWay: its event was published and it has not ended.
	underWay
	// over: completed, failed, parked or cancelled.
	over
)

func standingOf(s *ledgerlinev1.JobState) standing {
	switch {
	case ledger.Final(s.GetPhase()):
		return over
	case jobstate.Starting(s):
		return starting
	}
	return underWay
}

// here knows the jobs of the bucket as the watch tells them: those of the last
// jobstate.KeepEnded. It may be behind; what must not be wrong is read again from
// the bucket by the one who marks a job.
type here struct {
	mu   sync.Mutex
	jobs map[uuid.UUID]knownJob
	// open are the jobs of each company that are not over.
	open map[uuid.UUID]map[uuid.UUID]struct{}
}

type knownJob struct {
	company  uuid.UUID // uuid.Nil for a job that was parked before it could be read
	standing standing
	phase    ledgerlinev1.JobPhase
}

func newHere() *here {
	return &here{jobs: map[uuid.UUID]knownJob{}, open: map[uuid.UUID]map[uuid.UUID]struct{}{}}
}

// learn takes one state of the first listing.
func (h *here) learn(s *ledgerlinev1.JobState, _ time.Time) { h.visit(s, false) }

// visit takes one state of the bucket. It returns the company whose next job may
// now begin: that of a job which has ended and was not known to have.
func (h *here) visit(s *ledgerlinev1.JobState, removed bool) (freed uuid.UUID) {
	job, err := subject.ParseID(s.GetJobId())
	if err != nil {
		return uuid.Nil // not one of ours
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.jobs[job]
	now := knownJob{company: before.company, standing: standingOf(s), phase: s.GetPhase()}
	if company, err := subject.ParseID(s.GetCompanyId()); err == nil {
		now.company = company
	}
	if removed {
		now.standing = unknown
	}
	if before.standing == starting || before.standing == underWay {
		delete(h.open[before.company], job)
		if len(h.open[before.company]) == 0 {
			delete(h.open, before.company)
		}
	}
	switch now.standing {
	case unknown:
		delete(h.jobs, job)
		if before.standing != over {
			return before.company
		}
		return uuid.Nil
	case over:
		h.jobs[job] = now
		if before.standing != over {
			return now.company
		}
		return uuid.Nil
	}
	h.jobs[job] = now
	if h.open[now.company] == nil {
		h.open[now.company] = map[uuid.UUID]struct{}{}
	}
	h.open[now.company][job] = struct{}{}
	return uuid.Nil
}

// forget forgets every job, when the bucket that told of them is gone: what is
// known of them must be learnt anew.
func (h *here) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.jobs)
	clear(h.open)
}

// job tells how a job stands here.
func (h *here) job(job uuid.UUID) knownJob {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jobs[job]
}

// busy is a job of the company that is under way, if any.
func (h *here) busy(company uuid.UUID) (job uuid.UUID, phase ledgerlinev1.JobPhase, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.open[company] {
		if h.jobs[id].standing != underWay {
			continue
		}
		if !found || bytes.Compare(id[:], job[:]) < 0 { // any of them; always the same
			job, phase, found = id, h.jobs[id].phase, true
		}
	}
	return job, phase, found
}

// marked are the jobs of the company that a gateway has in hand.
func (h *here) marked(company uuid.UUID) []uuid.UUID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var jobs []uuid.UUID
	for id := range h.open[company] {
		if h.jobs[id].standing == starting {
			jobs = append(jobs, id)
		}
	}
	return jobs
}

// watch follows the bucket: it keeps here up to date and wakes a company whose job
// has ended. What ended while the bucket could not be followed shows when it can
// be again, since every state is told anew then.
func (g *Gateway) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.jobs.Watch(ctx, func(s *ledgerlinev1.JobState, _ time.Time, removed bool) {
			if freed := g.here.visit(s, removed); freed != uuid.Nil && g.serves(freed) {
				g.wakes.add(freed)
			}
		})
		if err != nil && ctx.Err() == nil {
			g.logger.Warn().Err(err).Msg(logevent.StatesUnwatched)
			pause(ctx, pullPause)
		}
	}
}

// keep makes anew what is gone of the streams and the bucket, and then begins as at a
// start: with the poll that also takes up what is in progress at Pleo and not known
// here. With the queue of detections the clock of the polls is gone too.
func (g *Gateway) keep(ctx context.Context) {
	topology.Keep(ctx, g.js, g.config.Topology, g.logger, func(names []string) {
		if slices.Contains(names, "KV_"+subject.BucketJobs) {
			g.here.forget()
			if err := g.jobs.List(ctx, g.here.learn); err != nil && ctx.Err() == nil {
				g.logger.Warn().Err(err).Msg(logevent.StatesUnwatched)
			}
		}
		g.announceStart(ctx)
	})
}

// wakes are the companies to look at because a job of theirs has ended. Every
// gateway puts each into the queue, where they become one.
type wakes struct {
	mu        sync.Mutex
	companies map[uuid.UUID]struct{}
	added     chan struct{} // holds one when companies may be in
}

func newWakes() *wakes {
	return &wakes{companies: map[uuid.UUID]struct{}{}, added: make(chan struct{}, 1)}
}

func (w *wakes) add(company uuid.UUID) {
	w.mu.Lock()
	w.companies[company] = struct{}{}
	w.mu.Unlock()
	select {
	case w.added <- struct{}{}:
	default:
	}
}

func (w *wakes) next() (company uuid.UUID, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for company := range w.companies {
		delete(w.companies, company)
		return company, true
	}
	return uuid.Nil, false
}

// wake asks for a look at each company whose job has ended, apart from the watch,
// which must not wait for the queue. A company that cannot be stored is tried
// again; if this process ends first, another gateway has it too, or the poll at
// the next start finds its job.
func (g *Gateway) wake(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakes.added:
		}
		for {
			company, found := g.wakes.next()
			if !found {
				break
			}
			if err := g.storeCompany(ctx, company); err != nil {
				if ctx.Err() != nil {
					return
				}
				g.logger.Warn().Err(err).Stringer("company_id", company).Msg(logevent.CompanyNotWoken)
				g.wakes.add(company)
				if !pause(ctx, pullPause) {
					return
				}
			}
		}
	}
}
