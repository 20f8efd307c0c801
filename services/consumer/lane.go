package consumer

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

// errFailedItem ends the lane of a job whose item failed, where a failure stops
// the job.
var errFailedItem = errors.New("an item failed and a failure stops the job")

// lane works the items strictly in order, from the first one that is not settled
// to the last. nil means that position n is settled: nothing else does.
func (j *job) lane(ctx context.Context) error {
	j.pace = forecast{began: time.Now(), position: j.tenure.Position}
	src, err := j.openSource(ctx)
	if err != nil {
		return err
	}
	defer src.close()
	for j.tenure.Position < j.total() {
		// An item whose send stands in the ledger is in hand and goes out.
		if j.announced == nil {
			if err := j.untilResumed(ctx, src, j.mayGoOn(ctx)); err != nil {
				return err
			}
		}
		it, err := src.next(ctx)
		if err != nil {
			return err
		}
		err = j.step(ctx, src, it)
		if errors.Is(err, errPaused) && it.position > j.tenure.Position {
			// Paused between two sends of the item: it is the next one again.
			src.buffer = append([]item{it}, src.buffer...)
		}
		if err := j.untilResumed(ctx, src, err); err != nil {
			return err
		}
	}
	// Settled items that came again and are not acked yet.
	return j.drainAgain(ctx, src)
}

// step settles the item, and with it those behind it that need no sending, and
// records that together with the send of the item after them: one synced write
// an item is record, position and fence.
func (j *job) step(ctx context.Context, src *source, it item) error {
	// The span is written once the settlement is recorded: there is one for each
	// position, whoever settles it.
	sending, span := j.traceItem(ctx, it)
	settled, err := j.send(sending, it, span)
	if err != nil {
		return err
	}
	var (
		batch = []*ledgerlinev1.Settlement{settled}
		items = []item{it}
		send  *ledgerlinev1.Send
	)
	var later error // why nothing more is sent, told once this item is recorded
	stop := settled.GetOutcome() == ledgerlinev1.Outcome_OUTCOME_FAILED && j.c.config.OnFailure == OnFailureStop
	for !stop {
		next, ok, err := src.peek()
		if later = err; err != nil || !ok || next.position != items[len(items)-1].position+1 {
			break
		}
		if later = j.mayGoOn(ctx); later != nil {
			break
		}
		already := j.alreadyBooked(next)
		if already == nil {
			send = &ledgerlinev1.Send{Position: next.position, EntryId: next.id[:], Attempt: j.past.Attempts[next.id] + 1}
			break
		}
		src.buffer = src.buffer[1:]
		batch, items = append(batch, already), append(items, next)
	}
	if err := j.record(ctx, &ledgerlinev1.LedgerRecord{Settled: batch, Send: send}); err != nil {
		return err
	}
	j.unhindered(ctx)
	for i, s := range batch {
		if i > 0 {
			_, span = j.traceItem(ctx, items[i])
		}
		if j.c.config.Traces != nil {
			span.Set(tracing.Text(tracing.AttrOutcome, outcomeName(s)))
			span.End(nil)
		}
		j.digest.Write(s.GetEntryId())
		j.counts.add(s)
		j.c.metrics.ItemSettled(s.GetOutcome())
		j.logger.Debug().Uint32("position", s.GetPosition()).Stringer("accounting_entry_id", items[i].id).
			Stringer("outcome", s.GetOutcome()).Msg(logevent.ItemSettled)
		if err := j.reporter.add(ctx, s, items[i].msg); err != nil {
			return err
		}
	}
	if stop {
		return errFailedItem
	}
	return later
}

// traceItem begins the span of an item, linked to the one before.
func (j *job) traceItem(ctx context.Context, it item) (context.Context, tracing.Span) {
	if j.c.config.Traces == nil {
		return ctx, tracing.Span{}
	}
	name := tracing.SpanSend
	if j.alreadyBooked(it) != nil {
		name = tracing.SpanSkip
	}
	return j.c.config.Traces.StartItem(ctx, name, j.traced(it), tracing.Text(tracing.AttrJob, j.id.String()),
		tracing.Number(tracing.AttrPosition, it.position), tracing.Text(tracing.AttrEntry, it.id.String()),
		tracing.Number(tracing.AttrEpoch, j.tenure.Epoch))
}

// traced is the item as its trace knows it.
func (j *job) traced(it item) tracing.Item {
	return tracing.Item{Job: j.id, Run: j.manifest.GetRun(), Position: it.position}
}

// outcomeName is the outcome as the metrics call it.
func outcomeName(s *ledgerlinev1.Settlement) string {
	return strings.ToLower(strings.TrimPrefix(s.GetOutcome().String(), "OUTCOME_"))
}

// record appends to the ledger. It must go through also when the lease is about
// to end: what the sink has booked must be remembered, and the ledger's own
// compare-and-set tells whether the job is still ours.
func (j *job) record(ctx context.Context, r *ledgerlinev1.LedgerRecord) error {
	recording, cancel := j.recording(context.WithoutCancel(ctx))
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerRecord)
	err := j.tenure.Append(recording, r)
	crashpoint.After(crashpoint.ConsumerRecord)
	if err != nil {
		return err
	}
	j.announced = r.GetSend()
	return nil
}

// recording bounds a write to the ledger: whether one was stored is asked for until
// that is known, which a ledger that was lost may never tell.
func (j *job) recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, j.c.config.Topology.Lease, errUnrecorded)
}

// alreadyBooked is the settlement of an entry that was booked before this run, or
// nil.
func (j *job) alreadyBooked(it item) *ledgerlinev1.Settlement {
	b, ok := j.past.Bookings[it.id]
	if !ok {
		return nil
	}
	return &ledgerlinev1.Settlement{
		Position: it.position, EntryId: it.id[:], Outcome: ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED,
		ExternalId: b.GetExternalId(), ExternalUrl: b.GetExternalUrl(), At: b.GetAt(),
	}
}

// again takes a settled item that came again: its ack was lost, or its report was
// not accepted yet.
func (j *job) again(ctx context.Context, it item) error {
	if i := int(it.position) - 1; i >= 0 && i < len(j.past.Settled) {
		return j.reportWhereNeeded(ctx, j.past.Settled[i], it)
	}
	// Settled in this tenure: the reporter has it, and acks it by this delivery
	// too.
	return j.reporter.repeat(ctx, it)
}

// statusesPatience is how long each page of what Pleo has already is waited for: while
// Pleo is away for longer, the job is to hear of a shutdown and of a wish.
const statusesPatience = 10 * time.Second

// reportWhereNeeded reports what a former worker settled, unless Pleo has it
// already: the ack alone was lost then, or the consumer's state with the server's
// memory. Pleo is asked once a tenure; where it does not answer, all is reported, once
// more perhaps.
func (j *job) reportWhereNeeded(ctx context.Context, s *ledgerlinev1.Settlement, it item) error {
	if !j.c.config.Report {
		return j.reporter.add(ctx, s, it.msg)
	}
	if j.atPleo == nil {
		calling, cancel := j.untilDeadline(ctx)
		defer cancel()
		statuses, err := j.statuses(calling, statusesPatience)
		switch {
		case errors.Is(err, errNoPage):
			statuses = map[uuid.UUID]pleo.ItemStatus{}
		case err != nil:
			return j.upstream(ctx, calling, err)
		}
		j.atPleo = statuses
	}
	if j.atPleo[it.id] == update(s).Status {
		return ack(it.msg)
	}
	return j.reporter.add(ctx, s, it.msg)
}

// drainAgain takes what the server still has of a job whose items are all
// settled.
func (j *job) drainAgain(ctx context.Context, src *source) error {
	for src.pending > 0 || len(src.buffer) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(src.buffer) == 0 {
			if err := src.fill(ctx); err != nil {
				return err
			}
			if len(src.buffer) == 0 {
				// A lost delivery is not worth a wait: position n is settled, and
				// the re-read at Pleo tells what is not reported.
				return nil
			}
		}
		for _, it := range src.buffer {
			if it.position > j.tenure.Position {
				return park("the job has an item at position %d, sealed were %d", it.position, j.total())
			}
			if err := j.again(ctx, it); err != nil {
				return err
			}
		}
		src.buffer = nil
	}
	return nil
}

// wait sleeps for d, or less when the job's deadline, its lease or the process
// ends first, or an operator asks for something.
func (j *job) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, max(time.Until(j.deadline.when()), 0)))
	defer timer.Stop()
	for {
		changed := j.c.turns.changes(j.company)
		if err := j.asked(); err != nil {
			return err
		}
		select {
		case <-timer.C:
			return j.mayGoOn(ctx)
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-j.stop:
			return errStopping
		}
	}
}
