package steer

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
)

// Cancel ends a job: the item in hand is finished, what was booked is reported,
// `failed` is posted to Pleo, and the company's next job begins. It cannot be
// taken back.
func (s *Steer) Cancel(ctx context.Context, job uuid.UUID) (Answer, error) {
	state, done, err := s.wish(ctx, job, "cancel", func(state *ledgerlinev1.JobState) error {
		if state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL {
			return errNothingToDo
		}
		state.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL
		return nil
	}, func(state *ledgerlinev1.JobState) bool { return ledger.Final(state.GetPhase()) })
	if err != nil {
		return Answer{}, err
	}
	text := waits("cancel")
	switch {
	case done && state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED:
		text = fmt.Sprintf("the job is cancelled after %d of %d items; `ledgerline ledger %s` shows what it booked", state.GetPosition(), state.GetTotal(), job)
	case done:
		text = "the job had ended before the wish reached it"
	}
	return answer(job, state, done, text), nil
}
