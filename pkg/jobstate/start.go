package jobstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/cas"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
)

// ErrChanged is returned when the bucket is not at the expected revision any
// more: nothing was written.
var ErrChanged = errors.New("the job's state was written by somebody else")

// Starting tells whether a gateway has the job in hand to start it at Pleo: its
// job-started event is not published yet, and nobody else may act on the job. A
// job that is being drained has no worker, since fetchers do not put themselves
// down.
func Starting(s *ledgerlinev1.JobState) bool {
	return s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING && s.GetWorker() != ""
}

// Replace writes a job's state in place of one revision, 0 for a job that is not
// known; ErrChanged when another one stands there. After any other error it is
// not known whether it was written.
func (s *Store) Replace(ctx context.Context, job uuid.UUID, state *ledgerlinev1.JobState, revision uint64) error {
	state.JobId = job.String()
	err := s.put(ctx, job, state, revision)
	if cas.IsConflict(err) {
		return ErrChanged
	}
	if err != nil {
		return fmt.Errorf("write the state of job %s: %w", job, err)
	}
	return nil
}
