package consumer

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// state is what the bucket tells of a job, nil for nothing.
func (c *Consumer) state(ctx context.Context, id uuid.UUID) (*ledgerlinev1.JobState, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	state, _, err := c.jobs.Get(ctx, id)
	if errors.Is(err, jobstate.ErrNotFound) {
		return nil, nil
	}
	return state, err
}

// errOvertaken is returned when the bucket tells of a later run, or of a later claim.
var errOvertaken = errors.New("the job's state is of a later run or claim")

// note writes to the bucket what people ask of a job. It decides nothing, so
// trouble is only logged.
func (j *job) note(ctx context.Context, change func(*ledgerlinev1.JobState)) {
	if err := j.tell(ctx, change); err != nil {
		j.logger.Warn().Err(err).Msg(logevent.StateNotWritten)
	}
}

// tell is note for what must come to be known, such as the end, which the company's
// next job waits for.
//
// A worker that was overtaken says nothing: the run that an operator has asked for
// since, or the worker that has the job now, does.
func (j *job) tell(ctx context.Context, change func(*ledgerlinev1.JobState)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerNote)
	_, err := j.c.jobs.Update(ctx, j.id, func(s *ledgerlinev1.JobState) error {
		if s.GetRun() > j.manifest.GetRun() || j.tenure != nil && s.GetEpoch() > j.tenure.Epoch {
			return errOvertaken
		}
		s.CompanyId, s.Run, s.Total = j.company.String(), j.manifest.GetRun(), j.total()
		if s.GetCreatedAt() == nil {
			s.CreatedAt = j.manifest.GetCreatedAt()
		}
		if s.GetSealedAt() == nil {
			s.SealedAt = j.manifest.GetSealedAt()
		}
		change(s)
		return nil
	})
	crashpoint.After(crashpoint.ConsumerNote)
	if errors.Is(err, errOvertaken) {
		return nil
	}
	return err
}
