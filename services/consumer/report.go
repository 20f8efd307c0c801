package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// reportBatch is the upstream's bound on one update.
	reportBatch = pleo.MaxUpdateBatch
	// reportDelay is how long the oldest result waits for others to join it.
	reportDelay = time.Second
	// maxReportTries is how often an item that the upstream refuses is reported.
	maxReportTries = 5
	// reportRetry is the wait before refused items are reported again.
	reportRetry = 500 * time.Millisecond
	// maxUnreported is how many results may wait for Pleo: with a lane's buffer
	// and the item in hand they stay below maxAckPending.
	maxUnreported = maxAckPending - fetchBatch - fetchAhead - 1
)

// reporter tells Pleo the results of one job in their order, and acks an item
// once its result is accepted. Where reporting is off nobody is told, and the acks
// go out together all the same: one at a time each would stand before the next
// record on the connection, and a job without a slow sink ran at nine tenths.
type reporter struct {
	j    *job
	fail context.CancelCauseFunc // ends the lane
	done chan struct{}

	mu      sync.Mutex
	waiting []*result          // not accepted, in order of position
	pending map[uint32]*result // the same by position
	flushed bool               // send what waits at once
	last    bool               // also after the deadline
	err     error
	// stuck tells that err is about results that Pleo does not take: others may
	// still go out.
	stuck bool
	// wake is how many results must wait for run to be woken before its time.
	wake int
	// size is how many results go into one update. The goroutine of run has it, and
	// from done on who finishes the job.
	size int
	// moved is closed, and replaced, when something that somebody waits for changed.
	moved chan struct{}
}

type result struct {
	settled *ledgerlinev1.Settlement
	msg     jetstream.Msg // the delivery to ack
	since   time.Time
	tries   int
}

func startReporter(ctx context.Context, j *job, fail context.CancelCauseFunc) *reporter {
	r := &reporter{j: j, fail: fail, done: make(chan struct{}), size: reportBatch, pending: map[uint32]*result{}, moved: make(chan struct{})}
	go r.run(ctx)
	return r
}

// add takes a settled item. It never waits.
func (r *reporter) add(_ context.Context, s *ledgerlinev1.Settlement, msg jetstream.Msg) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil && !r.stuck {
		return r.err
	}
	if known, again := r.pending[s.GetPosition()]; again {
		known.msg = msg
		return r.err
	}
	one := &result{settled: s, msg: msg, since: time.Now()}
	r.waiting = append(r.waiting, one)
	r.pending[s.GetPosition()] = one
	if len(r.waiting) >= r.wake {
		r.signal()
	}
	return r.err
}

// repeat takes a delivery of an item that this tenure settled: it is acked with
// its result, or now when that is accepted already.
func (r *reporter) repeat(_ context.Context, it item) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, waits := r.pending[it.position]; waits {
		known.msg = it.msg
		return nil
	}
	return ack(it.msg)
}

// ack is not confirmed: a lost one only makes the item come again, settled.
func ack(msg jetstream.Msg) error {
	if msg == nil { // reported again from the ledger, acked long ago
		return nil
	}
	crashpoint.Before(crashpoint.ConsumerItemAck)
	err := msg.Ack()
	crashpoint.After(crashpoint.ConsumerItemAck)
	if err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return fmt.Errorf("ack an item: %w", err)
	}
	return nil
}

// room waits until few enough results wait for Pleo.
func (r *reporter) room(ctx context.Context) error {
	return r.until(ctx, r.j.stop, r.few)
}

// few tells whether there is room; mu is held.
func (r *reporter) few() bool { return len(r.waiting) <= maxUnreported }

// hasRoom is room without a wait.
func (r *reporter) hasRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.few()
}

// pastDeadline makes what waits go out even though the job's deadline has passed:
// where it is still possible Pleo takes it.
func (r *reporter) pastDeadline() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = true
}

// flush sends what waits and waits until all of it is accepted.
func (r *reporter) flush(ctx context.Context) error {
	r.mu.Lock()
	r.flushed = true
	r.signal()
	r.mu.Unlock()
	return r.until(ctx, nil, func() bool { return len(r.waiting) == 0 })
}

// until waits until good, or until ctx or stop ends.
func (r *reporter) until(ctx context.Context, stop <-chan struct{}, good func() bool) error {
	for {
		r.mu.Lock()
		ok, err, moved := good(), r.err, r.moved
		r.mu.Unlock()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-moved:
		case <-stop:
			return errStopping
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signal wakes whoever waits; mu is held.
func (r *reporter) signal() {
	close(r.moved)
	r.moved = make(chan struct{})
}

// failure is why the reporter stopped the lane.
func (r *reporter) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *reporter) run(ctx context.Context) {
	defer close(r.done)
	for {
		batch, wait, moved := r.ready(r.size)
		if batch == nil {
			timer := time.NewTimer(wait)
			select {
			case <-moved:
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			if ctx.Err() != nil {
				return
			}
			continue
		}
		again, err := r.send(ctx, batch)
		var api *pleo.APIError
		if errors.As(err, &api) && api.Status == http.StatusRequestEntityTooLarge && r.size > 1 {
			// An older description names 10: halve until it fits.
			r.size = (r.size + 1) / 2
			r.j.logger.Warn().Int("batch", r.size).Msg(logevent.ReportTooLarge)
			continue
		}
		if err != nil {
			r.stop(ctx, err)
			return
		}
		if again > 0 && !pause(ctx, reportRetry) {
			return
		}
	}
}

// rest reports what waits besides the results that Pleo does not take: the job is
// parked for those, and the others need not wait for a person. Each is sent once.
func (r *reporter) rest(ctx context.Context) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		batch := r.untried()
		if len(batch) == 0 {
			return nil
		}
		if _, err := r.send(ctx, batch); err != nil {
			return err
		}
	}
}

// untried is a batch of results that Pleo was not told of yet.
func (r *reporter) untried() (batch []*result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stuck {
		return nil
	}
	for _, one := range r.waiting {
		if one.tries == 0 && len(batch) < r.size {
			batch = append(batch, one)
		}
	}
	return batch
}

// ready is the batch to send now, or nil and how long nothing will be due.
func (r *reporter) ready(size int) (batch []*result, wait time.Duration, moved chan struct{}) {
	const idle = time.Hour
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.wake = 1
		return nil, idle, r.moved
	}
	if wait := reportDelay - time.Since(r.waiting[0].since); len(r.waiting) < size && !r.flushed && wait > 0 {
		r.wake = size
		return nil, wait, r.moved
	}
	r.wake = math.MaxInt // run looks again when this batch is through
	return append([]*result(nil), r.waiting[:min(size, len(r.waiting))]...), 0, r.moved
}

// send reports one batch and acks what was accepted; again is how many were not.
func (r *reporter) send(ctx context.Context, batch []*result) (again int, err error) {
	if !r.j.c.config.Report {
		return r.accept(batch, nil)
	}
	calling, cancel := r.bounded(ctx)
	defer cancel()
	updates := make([]pleo.ItemUpdate, len(batch))
	for i, one := range batch {
		updates[i] = update(one.settled)
	}
	began := time.Now()
	calling, span := r.j.c.config.Traces.Start(calling, tracing.SpanReport,
		tracing.Text(tracing.AttrJob, r.j.id.String()), tracing.Number(tracing.AttrItems, len(batch)))
	crashpoint.Before(crashpoint.ConsumerReport)
	answer, err := r.j.pleo.UpdateJobItems(calling, r.j.id.String(), updates)
	crashpoint.After(crashpoint.ConsumerReport)
	span.End(err)
	r.j.c.metrics.ReportDuration.Observe(time.Since(began).Seconds())
	if err != nil {
		var api *pleo.APIError
		if errors.As(err, &api) && api.Status == http.StatusRequestEntityTooLarge && len(batch) > 1 {
			return 0, err
		}
		return 0, r.j.upstream(ctx, calling, err)
	}
	refused := map[uuid.UUID]string{}
	for _, e := range answer.Errors {
		if id, err := uuid.Parse(e.AccountingEntryID); err == nil {
			refused[id] = e.Type + ": " + e.Message
		}
	}
	for _, e := range answer.Unanswered {
		if id, err := uuid.Parse(e); err == nil {
			refused[id] = "the answer does not name it"
		}
	}
	if len(refused) > 0 {
		// An item that has the result already is refused by some upstreams: look.
		if err := r.strikeAccepted(calling, batch, refused); err != nil {
			return 0, r.j.upstream(ctx, calling, err)
		}
	}
	return r.accept(batch, refused)
}

func (r *reporter) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last {
		return context.WithTimeout(ctx, lastReport)
	}
	return r.j.untilDeadline(ctx)
}

// accept acks and forgets the results of a batch that were not refused.
func (r *reporter) accept(batch []*result, refused map[uuid.UUID]string) (again int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var acks []jetstream.Msg
	for _, one := range batch {
		id := uuid.UUID(one.settled.GetEntryId())
		why, no := refused[id]
		if !no {
			delete(r.pending, one.settled.GetPosition())
			acks = append(acks, one.msg)
			continue
		}
		again++
		if one.tries++; one.tries >= maxReportTries {
			r.stuck = true
			err = park("Pleo did not take the result of entry %s in %d tries: %s", id, maxReportTries, why)
		}
	}
	kept := r.waiting[:0]
	for _, one := range r.waiting {
		if _, waits := r.pending[one.settled.GetPosition()]; waits {
			kept = append(kept, one)
		}
	}
	clear(r.waiting[len(kept):])
	r.waiting = kept
	r.signal()
	for _, msg := range acks {
		if ackErr := ack(msg); ackErr != nil {
			r.j.logger.Warn().Err(ackErr).Msg(logevent.AckFailed)
		}
	}
	if again > 0 {
		r.j.logger.Warn().Int("items", again).Msg(logevent.ReportRefused)
	}
	if r.j.c.config.Report {
		r.j.logger.Debug().Int("items", len(acks)).Msg(logevent.ItemsReported)
	}
	return again, err
}

// strikeAccepted removes from refused the items that Pleo shows with the very
// status that was reported.
func (r *reporter) strikeAccepted(ctx context.Context, batch []*result, refused map[uuid.UUID]string) error {
	wanted := map[uuid.UUID]pleo.ItemStatus{}
	for _, one := range batch {
		wanted[uuid.UUID(one.settled.GetEntryId())] = update(one.settled).Status
	}
	crashpoint.Before(crashpoint.ConsumerStrike)
	_, err := r.j.pleo.EachJobItem(ctx, r.j.id.String(), func(page []pleo.JobItem) error {
		for _, it := range page {
			if id, err := uuid.Parse(it.AccountingEntryID); err == nil && wanted[id] == it.Status {
				delete(refused, id)
			}
		}
		return nil
	})
	crashpoint.After(crashpoint.ConsumerStrike)
	return err
}

// stop ends reporting and with it the lane.
func (r *reporter) stop(ctx context.Context, err error) {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	r.err = err
	r.signal()
	r.mu.Unlock()
	r.fail(errReported)
}

// update is a settlement as Pleo wants it.
func update(s *ledgerlinev1.Settlement) pleo.ItemUpdate {
	u := pleo.ItemUpdate{AccountingEntryID: uuid.UUID(s.GetEntryId()).String()}
	if s.GetOutcome() == ledgerlinev1.Outcome_OUTCOME_FAILED {
		u.Status = pleo.ItemFailed
		u.FailureReason = s.GetFailureReason()
		u.FailureReasonType = pleo.ItemFailureType(s.GetFailureReasonType())
		return u
	}
	u.Status = pleo.ItemSuccessful
	u.ExportedAt = s.GetAt().AsTime()
	u.ExternalID, u.ExternalURL = s.GetExternalId(), s.GetExternalUrl()
	return u
}
