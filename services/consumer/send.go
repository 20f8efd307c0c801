package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// retryMin and retryMax are the outside contract's waits between the sends of
	// one item.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
	// retryJitter spreads workers that met the same trouble in the same moment.
	retryJitter = 0.2
	// retryGrowth: 0.6, 0.9, 1.4, 2.1 seconds and so on, before jitter: a sink that
	// restarts has its items soon.
	retryGrowth = 1.5
)

// send gives an item to the sink, again and again in place until the sink has
// decided: order holds. Each send is recorded before it is made.
func (j *job) send(ctx context.Context, it item, span tracing.Span) (*ledgerlinev1.Settlement, error) {
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
	var waits *backoff.ExponentialBackOff
	for sends := 1; ; sends++ {
		attempt, err := j.recordSend(ctx, it)
		if err != nil {
			return nil, err
		}
		// The lease is looked at last before the effect.
		if !j.lease.Held() {
			return nil, fmt.Errorf("%w: the lease was not confirmed in time", errLater)
		}
		began := time.Now()
		crashpoint.Before(crashpoint.ConsumerSend)
		answer := j.c.config.Sink.Deliver(context.WithoutCancel(ctx), sink.Delivery{
			JobID: j.id.String(), CompanyID: j.company.String(), AccountingEntryID: it.id.String(),
			Position: it.position, Total: j.total(), Epoch: j.tenure.Epoch, Attempt: attempt,
			Date: it.date, Item: body, Traceparent: j.traced(it).Of(tracing.From(ctx)).String(),
		})
		crashpoint.After(crashpoint.ConsumerSend)
		j.c.metrics.SinkDuration.Observe(time.Since(began).Seconds())
		span.Event(tracing.EventSent, tracing.Number(tracing.AttrAttempt, attempt), tracing.Text(tracing.AttrOutcome, answer.Outcome.String()))
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
			j.c.metrics.StaleEpochs.Inc()
			return nil, errStale
		}
		if waits == nil {
			waits = newWaits()
		}
		wait := waits.NextBackOff()
		if answer.RetryAfter > 0 {
			wait = answer.RetryAfter
		}
		event, message := j.logger.Warn(), logevent.ItemRetried
		if answer.Outcome == sink.Refused {
			j.c.metrics.SinkRefusals.Inc()
			// The sink refuses us, not the item: a person must act.
			event, message = j.logger.Error(), logevent.SinkRefused
		}
		event.Uint32("position", it.position).Uint32("attempt", attempt).Dur("retry_in", wait).
			Str("detail", answer.Detail).Msg(message)
		j.hindered(ctx, it.position, sends, answer.Detail)
		if err := j.wait(ctx, wait); err != nil {
			return nil, err
		}
		j.c.metrics.ItemRetries.Inc()
	}
}

// newWaits gives the growing waits between the sends of one item.
func newWaits() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		// Jitter goes both ways; the two ends are set so that no wait leaves
		// retryMin…retryMax.
		backoff.WithInitialInterval(time.Duration(float64(retryMin)/(1-retryJitter))),
		backoff.WithMaxInterval(time.Duration(float64(retryMax)/(1+retryJitter))),
		backoff.WithRandomizationFactor(retryJitter),
		backoff.WithMultiplier(retryGrowth),
		// The job's deadline ends it, nothing else.
		backoff.WithMaxElapsedTime(0),
	)
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
