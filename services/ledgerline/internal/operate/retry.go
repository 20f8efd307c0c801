package operate

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/parked"
)

// Retry is `ledgerline retry JOB`.
type Retry struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run asks for a further run of a parked job: it is drained again, results that
// Pleo has not taken are reported, and what is open is worked under the same
// promises. The parked entry is removed last, so that a crash in between leaves
// something to retry.
func (c *Retry) Run(s *Session) error {
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		if err := retry(ctx, js, id); err != nil {
			return err
		}
		answer := struct {
			JobID string `json:"jobId"`
		}{id.String()}
		return s.print(answer, func() error {
			return s.printf("Job %s is drained again. `ledgerline job %s` shows how it goes.\n", id, id)
		})
	})
}

func retry(ctx context.Context, js jetstream.JetStream, id uuid.UUID) error {
	v, err := openView(ctx, js)
	if err != nil {
		return err
	}
	store, err := parked.Open(ctx, js)
	if err != nil {
		return err
	}
	known, err := store.Knows(ctx, id)
	if err != nil {
		return err
	}
	state, _, err := v.jobs.Get(ctx, id)
	switch {
	case errors.Is(err, jobstate.ErrNotFound):
		state = nil
	case err != nil:
		return err
	}
	isParked := state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_PARKED
	if !isParked && !known {
		if state == nil {
			return fmt.Errorf("job %s: %w, and no event of it is parked; `ledgerline start %s` publishes one", id, jobstate.ErrNotFound, id)
		}
		return fmt.Errorf("job %s is %s, not parked: nothing to retry", id, jobstate.PhaseName(state.GetPhase()))
	}
	if isParked {
		if err := v.furtherRun(ctx, id); err != nil {
			return err
		}
	}
	if _, err := Publish(ctx, js, id); err != nil {
		return err
	}
	return store.Remove(ctx, id)
}

// furtherRun marks a parked job to be drained again, as the run after the ledger's
// last.
func (v *view) furtherRun(ctx context.Context, id uuid.UUID) error {
	last, err := v.ledger.LastOfJob(ctx, id)
	if err != nil {
		return err
	}
	_, err = v.jobs.Update(ctx, id, func(s *ledgerlinev1.JobState) error {
		if !ledger.Final(s.GetPhase()) {
			return fmt.Errorf("job %s is %s by now", id, jobstate.PhaseName(s.GetPhase()))
		}
		s.Phase, s.Reason, s.EndedAt, s.Worker = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, "", nil, ""
		s.Run = max(s.GetRun(), runOf(last)) + 1
		return nil
	})
	return err
}

// runOf is the run of a record, 0 for none.
func runOf(e *ledger.Entry) uint32 {
	if e == nil {
		return 0
	}
	return e.Record.GetRun()
}
