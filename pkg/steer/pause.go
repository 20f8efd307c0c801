package steer

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
)

// Pause holds a job between two items until Resume, or until its deadline. A job
// that is being drained is held once it is sealed. The wish stands in the job's
// state for as long as the pause lasts, so that it outlives every worker.
func (s *Steer) Pause(ctx context.Context, job uuid.UUID) (Answer, error) {
	state, done, err := s.wish(ctx, job, "pause", func(state *ledgerlinev1.JobState) error {
		switch state.GetRequest() {
		case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL:
			return refuse("job %s is being cancelled; there is nothing to pause", job)
		case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE:
			return errNothingToDo
		}
		switch state.GetPhase() {
		case ledgerlinev1.JobPhase_JOB_PHASE_REPORTING:
			return refuse("every item of job %s is settled already and being reported; `ledgerline job %s` shows its end", job, job)
		case ledgerlinev1.JobPhase_JOB_PHASE_SEALED, ledgerlinev1.JobPhase_JOB_PHASE_WAITING:
			// Nobody works on it: whoever takes its manifest holds it.
			state.Phase, state.Reason, state.Worker = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, PausedReason, ""
		}
		state.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE
		return nil
	}, isPaused)
	if err != nil {
		return Answer{}, err
	}
	text := waits("pause")
	switch {
	case done:
		text = fmt.Sprintf("the job is paused after %d of %d items and holds its company's turn until `ledgerline resume %s` or its deadline", state.GetPosition(), state.GetTotal(), job)
	case state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING:
		text = "the job is being drained; it is paused once it is sealed"
	}
	return answer(job, state, done, text), nil
}

func isPaused(state *ledgerlinev1.JobState) bool {
	return state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_PAUSED
}

// Resume lets a paused job go on, or takes back a pause that was not carried out.
func (s *Steer) Resume(ctx context.Context, job uuid.UUID) (Answer, error) {
	state, done, err := s.wish(ctx, job, "resume", func(state *ledgerlinev1.JobState) error {
		asked := state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE
		switch {
		case state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME:
			return errNothingToDo
		case state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL:
			return refuse("job %s is being cancelled; that cannot be taken back", job)
		case !asked && !isPaused(state):
			return refuse("job %s is %s, not paused; there is nothing to resume", job, jobstate.PhaseName(state.GetPhase()))
		}
		state.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		switch {
		case isPaused(state) && state.GetWorker() != "":
			// Its worker holds it, and tells when it goes on.
			state.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME
		case isPaused(state):
			state.Phase, state.Reason = ledgerlinev1.JobPhase_JOB_PHASE_SEALED, ""
		}
		return nil
	}, func(state *ledgerlinev1.JobState) bool {
		return state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED && !isPaused(state)
	})
	if err != nil {
		return Answer{}, err
	}
	text := waits("resume")
	if done {
		text = fmt.Sprintf("the job goes on after %d of %d items", state.GetPosition(), state.GetTotal())
	}
	return answer(job, state, done, text), nil
}
