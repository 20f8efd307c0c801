package consumer

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// turnRecheck is how long a waiting job sleeps when nothing wakes it: the bucket
// is only a hint, the ledger decides.
const turnRecheck = time.Second

// turns knows the open jobs of each company, as the bucket tells, so that the
// oldest goes first. That two never run at once is the ledger's doing.
type turns struct {
	lease time.Duration

	mu   sync.Mutex
	open map[uuid.UUID]map[uuid.UUID]openJob // by company, by job
	// companyOf finds the company of an entry that was removed.
	companyOf map[uuid.UUID]uuid.UUID
	// changed is closed, and replaced, when something about a company changed.
	changed map[uuid.UUID]chan struct{}
}

type openJob struct {
	created time.Time
	phase   ledgerlinev1.JobPhase
	request ledgerlinev1.OperatorRequest
	at      time.Time // when the state was written
}

func newTurns(lease time.Duration) *turns {
	return &turns{
		lease:     lease,
		open:      map[uuid.UUID]map[uuid.UUID]openJob{},
		companyOf: map[uuid.UUID]uuid.UUID{},
		changed:   map[uuid.UUID]chan struct{}{},
	}
}

// visit takes one state of the bucket; wished tells that something new is asked of
// the job.
func (t *turns) visit(s *ledgerlinev1.JobState, at time.Time, removed bool) (wished bool) {
	job, err := subject.ParseID(s.GetJobId())
	if err != nil {
		return false // not one of ours
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	company, known := t.companyOf[job]
	if !known {
		if company, err = subject.ParseID(s.GetCompanyId()); err != nil {
			return false // parked before its company was known
		}
	}
	if removed && t.open[company][job].request == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE {
		return false // whoever holds the job writes its state again
	}
	if removed || ledger.Final(s.GetPhase()) {
		delete(t.companyOf, job)
		delete(t.open[company], job)
		if len(t.open[company]) == 0 {
			delete(t.open, company)
		}
	} else {
		t.companyOf[job] = company
		if t.open[company] == nil {
			t.open[company] = map[uuid.UUID]openJob{}
		}
		asks := s.GetRequest()
		wished = asks != ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED && asks != t.open[company][job].request
		t.open[company][job] = openJob{created: s.GetCreatedAt().AsTime(), phase: s.GetPhase(), request: s.GetRequest(), at: at}
	}
	if c, waiting := t.changed[company]; waiting {
		close(c)
		delete(t.changed, company)
	}
	return wished
}

// olderJob is an open job that goes before another one of its company.
type olderJob struct {
	id uuid.UUID
	openJob
}

// older are the company's open jobs that go before job, the oldest first. A job that
// is being drained counts while its fetcher shows signs of life.
func (t *turns) older(company, job uuid.UUID, created time.Time) []olderJob {
	t.mu.Lock()
	defer t.mu.Unlock()
	self := olderJob{job, openJob{created: created}}
	var before []olderJob
	for id, open := range t.open[company] {
		other := olderJob{id, open}
		if id == job || byAge(other, self) > 0 {
			continue
		}
		if open.phase == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING && time.Since(open.at) > 2*t.lease {
			continue
		}
		before = append(before, other)
	}
	slices.SortFunc(before, byAge)
	return before
}

// byAge is the order in which the jobs of a company are worked.
func byAge(a, b olderJob) int {
	return cmp.Or(a.created.Compare(b.created), bytes.Compare(a.id[:], b.id[:]))
}

// request is what an operator asks of a job, as the bucket told last.
func (t *turns) request(company, job uuid.UUID) ledgerlinev1.OperatorRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[company][job].request
}

// changes is closed when something about the company changes.
func (t *turns) changes(company uuid.UUID) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed, waiting := t.changed[company]
	if !waiting {
		changed = make(chan struct{})
		t.changed[company] = changed
	}
	return changed
}

// wait returns when changed is closed, after turnRecheck, or when ctx or stop
// ends.
func (t *turns) wait(ctx context.Context, stop, changed <-chan struct{}) {
	timer := time.NewTimer(turnRecheck)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	case <-stop:
	}
}
