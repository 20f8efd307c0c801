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

func TestReadinessIsAskedOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		away := errors.New("away")
		r := &readiness{check: func(context.Context) error { asked++; return away }}
		for range 10 {
			if err := r.ask(t.Context()); !errors.Is(err, away) {
				t.Fatal(err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times in one moment", asked)
		}
		pause(t.Context(), readyFor)
		away = nil
		if err := r.ask(t.Context()); err != nil || asked != 2 {
			t.Errorf("after a second: %v, asked %d times", err, asked)
		}
		// What ended with its asker says nothing about the sink.
		pause(t.Context(), readyFor)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		away = errors.New("gone")
		_ = r.ask(gone)
		away = nil
		if err := r.ask(t.Context()); err != nil {
			t.Errorf("an asker's end was kept: %v", err)
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
