package steer

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
)

// ErrRefused is returned, wrapped in a sentence that names the way out, when the
// job is not in a state in which the wish means anything.
var ErrRefused = errors.New("refused")

// refusal is a sentence that is an ErrRefused.
type refusal struct{ text string }

func (r *refusal) Error() string        { return r.text }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// unknown says what to do about a job that the bucket does not have.
func unknown(job uuid.UUID) error {
	return fmt.Errorf("job %s: %w; `ledgerline jobs` lists the ones that are, `ledgerline start %s` publishes its event", job, jobstate.ErrNotFound, job)
}

// ended says what is left to do about a job that has ended.
func ended(job uuid.UUID, phase ledgerlinev1.JobPhase, verb string) error {
	if phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		return refuse("job %s is parked: nobody works on it, so there is nothing to %s; `ledgerline retry %s` drains it again", job, verb, job)
	}
	return refuse("job %s is %s: it has ended, so there is nothing to %s; `ledgerline ledger %s` shows what it booked", job, jobstate.PhaseName(phase), verb, job)
}
