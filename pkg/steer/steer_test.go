package steer_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// limit ends a test that hangs.
const limit = time.Minute

const (
	draining  = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
	sealed    = ledgerlinev1.JobPhase_JOB_PHASE_SEALED
	active    = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
	waiting   = ledgerlinev1.JobPhase_JOB_PHASE_WAITING
	paused    = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED
	reporting = ledgerlinev1.JobPhase_JOB_PHASE_REPORTING
	completed = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	isParked  = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
	cancelled = ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED

	none   = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
	pause  = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE
	resume = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME
	cancel = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL
)

type bench struct {
	t     *testing.T
	ctx   context.Context
	js    jetstream.JetStream
	store *jobstate.Store
	steer *steer.Steer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, end := context.WithTimeout(context.Background(), limit)
	t.Cleanup(end)
	b := &bench{t: t, ctx: ctx, js: natstest.Start(t).JetStream(t)}
	if err := topology.Ensure(ctx, b.js, topology.Options{Replicas: 1, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.store, err = jobstate.Open(ctx, b.js); err != nil {
		t.Fatal(err)
	}
	if b.steer, err = steer.Open(ctx, b.js); err != nil {
		t.Fatal(err)
	}
	b.steer.Patience = time.Millisecond
	return b
}

func (b *bench) job(phase ledgerlinev1.JobPhase, request ledgerlinev1.OperatorRequest, worker string) uuid.UUID {
	b.t.Helper()
	job := uuid.New()
	b.set(job, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Request, s.Worker, s.Run, s.Position, s.Total = phase, request, worker, 1, 2, 5
	})
	return job
}

func (b *bench) set(job uuid.UUID, change func(*ledgerlinev1.JobState)) {
	b.t.Helper()
	if _, err := b.store.Update(b.ctx, job, func(s *ledgerlinev1.JobState) error { change(s); return nil }); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) state(job uuid.UUID) *ledgerlinev1.JobState {
	b.t.Helper()
	state, _, err := b.store.Get(b.ctx, job)
	if err != nil {
		b.t.Fatal(err)
	}
	return state
}

// What each wish makes of each state, while no worker runs.
func TestWishes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	verbs := map[string]func(context.Context, uuid.UUID) (steer.Answer, error){
		"pause": b.steer.Pause, "resume": b.steer.Resume, "cancel": b.steer.Cancel, "retry": b.steer.Retry,
	}
	for _, c := range []struct {
		verb    string
		phase   ledgerlinev1.JobPhase
		request ledgerlinev1.OperatorRequest
		worker  string

		thenPhase   ledgerlinev1.JobPhase
		thenRequest ledgerlinev1.OperatorRequest
		done        bool
		refusal     string // words of it; empty for none
	}{
		{"pause", draining, none, "", draining, pause, false, ""},
		{"pause", draining, none, "gateway-1", draining, none, false, "gateway-1"},
		{"pause", sealed, none, "", paused, pause, true, ""},
		{"pause", waiting, none, "", paused, pause, true, ""},
		{"pause", active, none, "w", active, pause, false, ""},
		{"pause", active, resume, "w", active, pause, false, ""},
		{"pause", active, pause, "w", active, pause, false, ""},
		{"pause", paused, pause, "w", paused, pause, true, ""},
		{"pause", active, cancel, "w", active, cancel, false, "being cancelled"},
		{"pause", reporting, none, "w", reporting, none, false, "settled already"},
		{"pause", completed, none, "", completed, none, false, "`ledgerline ledger"},
		{"pause", isParked, none, "", isParked, none, false, "`ledgerline retry"},

		{"resume", paused, pause, "w", paused, resume, false, ""},
		{"resume", paused, pause, "", sealed, none, true, ""},
		{"resume", draining, pause, "", draining, none, true, ""},
		{"resume", active, pause, "w", active, none, true, ""},
		{"resume", paused, resume, "w", paused, resume, false, ""},
		{"resume", active, none, "w", active, none, false, "not paused"},
		{"resume", paused, cancel, "w", paused, cancel, false, "cannot be taken back"},
		{"resume", completed, none, "", completed, none, false, "has ended"},

		{"cancel", draining, none, "", draining, cancel, false, ""},
		{"cancel", draining, none, "gateway-1", draining, none, false, "gateway-1"},
		{"cancel", sealed, none, "", sealed, cancel, false, ""},
		{"cancel", active, none, "w", active, cancel, false, ""},
		{"cancel", paused, pause, "w", paused, cancel, false, ""},
		{"cancel", reporting, none, "w", reporting, cancel, false, ""},
		{"cancel", active, cancel, "w", active, cancel, false, ""},
		{"cancel", cancelled, none, "", cancelled, none, false, "has ended"},

		{"retry", isParked, none, "", draining, none, true, ""},
		{"retry", isParked, pause, "", draining, none, true, ""},
		{"retry", active, none, "w", active, none, false, "`ledgerline parked`"},
		{"retry", completed, none, "", completed, none, false, "not parked"},
	} {
		name := strings.Join([]string{c.verb, c.phase.String(), c.request.String(), c.worker}, " ")
		job := b.job(c.phase, c.request, c.worker)
		answer, err := verbs[c.verb](b.ctx, job)
		now := b.state(job)
		if now.GetPhase() != c.thenPhase || now.GetRequest() != c.thenRequest {
			t.Errorf("%s: then %s with %s", name, now.GetPhase(), now.GetRequest())
		}
		if c.refusal != "" {
			if !errors.Is(err, steer.ErrRefused) || !strings.Contains(err.Error(), c.refusal) || !strings.Contains(err.Error(), job.String()) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || answer.Done != c.done || answer.Text == "" || answer.JobID != job.String() || answer.State != jobstate.PhaseName(now.GetPhase()) {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
}

func TestAWishForAJobThatIsNotHere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, verb := range []func(context.Context, uuid.UUID) (steer.Answer, error){b.steer.Pause, b.steer.Resume, b.steer.Cancel, b.steer.Retry} {
		job := uuid.New()
		if _, err := verb(b.ctx, job); !errors.Is(err, jobstate.ErrNotFound) || !strings.Contains(err.Error(), "`ledgerline start "+job.String()) {
			t.Errorf("%v", err)
		}
		if _, _, err := b.store.Get(b.ctx, job); !errors.Is(err, jobstate.ErrNotFound) {
			t.Errorf("a state was written: %v", err)
		}
	}
}

// A wish is followed until it is carried out, and a worker is asked for it again
// and again: it may just be starting.
func TestAWishIsFollowedAndAskedForAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.steer.Patience = limit
	job := b.job(sealed, none, "")
	var mu sync.Mutex
	asked := 0
	sub, err := b.js.Conn().Subscribe(subject.ConsumerSteer, func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		var request steer.Request
		if err := json.Unmarshal(msg.Data, &request); err != nil || request.JobID != job.String() {
			t.Errorf("asked %s: %v", msg.Data, err)
		}
		if asked++; asked == 2 {
			b.set(job, func(s *ledgerlinev1.JobState) { s.Phase, s.Request, s.Position = cancelled, none, 4 })
		}
		if err := msg.Respond([]byte(`{"done":false}`)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	answer, err := b.steer.Cancel(b.ctx, job)
	if err != nil || !answer.Done || answer.State != "cancelled" || answer.Position != 4 {
		t.Errorf("%+v, %v", answer, err)
	}
}

// A retry marks a further run, publishes its event with the company, and forgets
// what was parked only then.
func TestRetry(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job, company := b.job(isParked, none, ""), uuid.New()
	b.set(job, func(s *ledgerlinev1.JobState) { s.CompanyId, s.Run, s.Reason = company.String(), 3, "why" })
	store, err := parked.Open(b.ctx, b.js)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Job(b.ctx, job, company, "why"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.steer.Retry(b.ctx, job); err != nil {
		t.Fatal(err)
	}
	if s := b.state(job); s.GetRun() != 4 || s.GetReason() != "" || s.GetEndedAt() != nil {
		t.Errorf("%v", s)
	}
	if things, err := store.Of(b.ctx, job); len(things) > 0 || err != nil {
		t.Errorf("it is parked still: %v, %v", things, err)
	}
	events, err := b.js.Stream(b.ctx, subject.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := events.GetLastMsgForSubject(b.ctx, subject.JobStarted)
	if err != nil || string(msg.Data) != `{"jobId":"`+job.String()+`","companyId":"`+company.String()+`"}` {
		t.Errorf("%v: %v", msg, err)
	}
	// Of a job that only an event named, nothing else is known.
	other := uuid.New()
	event := `{"jobId":"` + other.String() + `","companyId":"` + company.String() + `"}`
	if err := store.Event(b.ctx, other, []byte(event), "", "pending at Pleo"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.steer.Retry(b.ctx, other); err != nil {
		t.Error(err)
	}
	if things, err := store.Of(b.ctx, other); len(things) > 0 || err != nil {
		t.Errorf("it is parked still: %v, %v", things, err)
	}
	// Its company goes with it: a fetcher may have no other credential.
	if msg, err = events.GetLastMsgForSubject(b.ctx, subject.JobStarted); err != nil || string(msg.Data) != event {
		t.Errorf("%s: %v", msg.Data, err)
	}
}

// A job that is shown as parked before its end is written is no job to retry yet: the
// wish would be lost.
func TestAJobThatIsBeingParkedIsNotRetried(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.job(ledgerlinev1.JobPhase_JOB_PHASE_REPORTING, none, "worker")
	store, err := parked.Open(b.ctx, b.js)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Job(b.ctx, job, uuid.New(), "why"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.steer.Retry(b.ctx, job); err == nil || !strings.Contains(err.Error(), "in a moment") {
		t.Errorf("%v", err)
	}
	if things, err := store.Of(b.ctx, job); len(things) != 1 || err != nil {
		t.Errorf("what is parked: %v, %v", things, err)
	}
}

// No wish overwrites another writer: a pause and the worker's own notes meet.
func TestAWishOverwritesNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.job(active, none, "w")
	const writes = 20
	var running sync.WaitGroup
	running.Go(func() {
		for range writes {
			b.set(job, func(s *ledgerlinev1.JobState) { s.Pages++ })
		}
	})
	running.Go(func() {
		for range writes / 2 {
			if _, err := b.steer.Pause(b.ctx, job); err != nil {
				t.Error(err)
			}
			if _, err := b.steer.Resume(b.ctx, job); err != nil {
				t.Error(err)
			}
		}
	})
	running.Wait()
	if s := b.state(job); s.GetPages() != writes || s.GetRequest() != none {
		t.Errorf("%v", s)
	}
}
