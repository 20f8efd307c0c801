package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
)

const (
	// retryMin and retryMax are the outside contract's waits between the sends of
	// one item.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
)

// send gives an item to the sink, again and again in place until the sink has
// decided: order holds. Each send is recorded before it is made.
func (j *job) send(ctx context.Context, it item) (*ledgerlinev1.Settlement, error) {
	if already := j.alreadyBooked(it); already != nil {
		return already, nil
	}
	body, err := j.payload.item(it.id)
	if err != nil {
		return nil, err
	}
	if j.payload != nil && body == nil {
		j.logger.Warn().Stringer("accounting_entry_id", it.id).Msg(logevent.PayloadMissing)
	}
	waits := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(retryMin),
		backoff.WithMaxInterval(retryMax),
		// The job's deadline ends it, nothing else.
		backoff.WithMaxElapsedTime(0),
	)
	for {
		attempt, err := j.recordSend(ctx, it)
		if err != nil {
			return nil, err
		}
		// The lease is looked at last before the effect.
		if !j.lease.Held() {
			return nil, fmt.Errorf("%w: the lease was not confirmed in time", errLater)
		}
		answer := j.c.config.Sink.Deliver(context.WithoutCancel(ctx), sink.Delivery{
			JobID: j.id.String(), CompanyID: j.company.String(), AccountingEntryID: it.id.String(),
			Position: it.position, Total: j.total(), Epoch: j.tenure.Epoch, Attempt: attempt,
			Date: it.date, Item: body, Traceparent: j.manifest.GetTraceparent(),
		})
		// This send is answered: whatever comes next is another one.
		j.past.Attempts[it.id] = attempt
		j.announced = nil

		settled := &ledgerlinev1.Settlement{Position: it.position, EntryId: it.id[:], At: timestamppb.Now()}
		switch answer.Outcome {
		case sink.Booked:
			settled.Outcome = ledgerlinev1.Outcome_OUTCOME_BOOKED
			settled.ExternalId, settled.ExternalUrl = answer.ExternalID, answer.ExternalURL
			delete(j.past.Attempts, it.id)
			return settled, nil
		case sink.Failed:
			settled.Outcome = ledgerlinev1.Outcome_OUTCOME_FAILED
			settled.FailureReason, settled.FailureReasonType = answer.FailureReason, answer.FailureReasonType
			delete(j.past.Attempts, it.id)
			return settled, nil
		case sink.Stale:
			return nil, errStale
		}
		wait := waits.NextBackOff()
		if answer.RetryAfter > 0 {
			wait = answer.RetryAfter
		}
		event, message := j.logger.Warn(), logevent.ItemRetried
		if answer.Outcome == sink.Refused {
			// The sink refuses us, not the item: a person must act.
			event, message = j.logger.Error(), logevent.SinkRefused
		}
		event.Uint32("position", it.position).Uint32("attempt", attempt).Dur("retry_in", wait).
			Str("detail", answer.Detail).Msg(message)
		if err := j.wait(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// recordSend makes sure that the send stands in the ledger before it is made, and
// returns its attempt. Mostly it stands already, with the settlement of the item
// before.
func (j *job) recordSend(ctx context.Context, it item) (uint32, error) {
	if s := j.announced; s != nil && s.GetPosition() == it.position {
		return s.GetAttempt(), nil
	}
	attempt := j.past.Attempts[it.id] + 1
	err := j.record(ctx, &ledgerlinev1.LedgerRecord{
		Send: &ledgerlinev1.Send{Position: it.position, EntryId: it.id[:], Attempt: attempt},
	})
	return attempt, err
}
