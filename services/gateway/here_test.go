package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
)

func TestACompanyIsFreedOnce(t *testing.T) {
	t.Parallel()
	const (
		draining = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
		active   = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
		parked   = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
		done     = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	)
	h := newHere()
	company, job := uuid.New(), uuid.New()
	for i, step := range []struct {
		phase   ledgerlinev1.JobPhase
		worker  string
		removed bool
		freed   bool
		busy    bool
		marked  int
	}{
		{draining, "gateway-1", false, false, false, 1},
		{draining, "", false, false, true, 0},
		{active, "consumer-1", false, false, true, 0},
		{parked, "", false, true, false, 0},
		{parked, "", false, false, false, 0}, // told again, after the watch was lost
		{draining, "", false, false, true, 0},
		{done, "", false, true, false, 0},
		{done, "", true, false, false, 0}, // forgotten after 30 days
		{done, "", false, true, false, 0}, // begun and ended while the bucket was not followed
		{draining, "gateway-1", false, false, false, 1},
		{draining, "", true, true, false, 0}, // deleted by a person
	} {
		freed := h.visit(&ledgerlinev1.JobState{JobId: job.String(), CompanyId: company.String(), Phase: step.phase, Worker: step.worker}, step.removed)
		_, _, busy := h.busy(company)
		if (freed == company) != step.freed || busy != step.busy || len(h.marked(company)) != step.marked {
			t.Errorf("step %d: freed %v, busy %v, marked %v; want %+v", i, freed, busy, h.marked(company), step)
		}
	}
	if len(h.jobs) != 0 || len(h.open) != 0 {
		t.Errorf("left behind: %v %v", h.jobs, h.open)
	}
}

// A job is started on a fresh word only: a sink that was ready a moment ago may be
// away now. A refusal holds for a second.
func TestReadinessIsFreshAndARefusalHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var answer error
		away := errors.New("away")
		r := &readiness{check: func(context.Context) error { asked++; return answer }}
		for n := range 3 {
			if err := r.ask(t.Context()); err != nil || asked != n+1 {
				t.Errorf("question %d: %v, asked %d times", n+1, err, asked)
			}
		}
		answer = away
		for range 10 {
			if err := r.ask(t.Context()); !errors.Is(err, away) {
				t.Fatalf("the sink is away, and the answer is %v", err)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times, want 4: a refusal holds", asked)
		}
		pause(t.Context(), awayFor)
		answer = nil
		if err := r.ask(t.Context()); err != nil || asked != 5 {
			t.Errorf("after a second: %v, asked %d times", err, asked)
		}
		// What ended with its asker says nothing about the sink.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		answer = errors.New("gone")
		_ = r.ask(gone)
		answer = nil
		if err := r.ask(t.Context()); err != nil {
			t.Errorf("an asker's end was kept: %v", err)
		}
		// A question that began after a caller came answers that one too.
		r.began, asked = time.Now().Add(time.Minute), 0
		if err := r.ask(t.Context()); err != nil || asked != 0 {
			t.Errorf("a later question's answer was not taken: %v, asked %d times", err, asked)
		}
	})
}

func TestAMarkIsStaleByTheClockOfWhoLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMarks()
		job := uuid.New()
		const lease = 10 * time.Second
		for i, step := range []struct {
			after    time.Duration
			revision uint64
			stale    bool
		}{{0, 1, false}, {lease - 1, 1, false}, {0, 2, false}, {lease - 1, 2, false}, {1, 2, true}} {
			pause(t.Context(), step.after)
			if got := m.stale(job, step.revision, lease); got != step.stale {
				t.Errorf("step %d: stale %v", i, got)
			}
		}
	})
}

// A start in hand outlives the process's context by its grace, and no longer.
func TestAStartInHandHasItsGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		process, end := context.WithCancelCause(t.Context())
		ctx, cancel := finishing(process, time.Minute)
		defer cancel()
		why := errors.New("a signal")
		end(why)
		pause(t.Context(), time.Minute-1)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it ended before its grace")
		}
		pause(t.Context(), 1)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), why) {
			t.Errorf("after its grace: %v", context.Cause(ctx))
		}
		unused, cancelUnused := finishing(t.Context(), time.Minute)
		cancelUnused()
		if unused.Err() == nil {
			t.Error("cancelled, and alive")
		}
	})
}
