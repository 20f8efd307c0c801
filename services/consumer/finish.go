package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// lastReport bounds the report of what is booked when a job ends early.
	lastReport = 10 * time.Second
	// maxCloseTries bounds the closing event's tries where Pleo says neither yes
	// nor that the job has ended.
	maxCloseTries = 5
	// closeRetry is the wait between them: an accepted event need not be visible
	// at once.
	closeRetry = time.Second
)

// finish reports what is booked and, when the lane is through, closes the job at
// Pleo. It returns an *endError when the run ends here.
func (j *job) finish(ctx, untilStop context.Context, laneErr error) error {
	if laneErr == nil || errors.Is(laneErr, errFailedItem) {
		laneErr = j.complete(untilStop, laneErr)
	}
	if errors.Is(laneErr, errCancelled) {
		laneErr = j.cancel(untilStop)
	}
	var end *endError
	switch {
	case errors.Is(laneErr, errExpired):
		j.reportLast(ctx)
		return j.expired()
	case errors.Is(laneErr, errStopping):
		j.reportLast(ctx)
	case errors.As(laneErr, &end) && end.phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED:
		j.reportLast(ctx)
	}
	return laneErr
}

// expired is the end of a job whose deadline has passed.
func (j *job) expired() error {
	return park("job_expired: the deadline %s has passed with %d of %d items settled",
		j.deadline.when().UTC().Format(time.RFC3339), j.tenure.Position, j.total())
}

// reportLast reports what is booked where that is still possible. What is not
// accepted stays unacked and is reported by whoever has the job next.
func (j *job) reportLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastReport)
	defer cancel()
	j.reporter.pastDeadline()
	err := j.reporter.flush(ctx)
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, j.reporter.rest(ctx))
	}
	if err != nil {
		j.logger.Warn().Err(err).Msg(logevent.ReportUnfinished)
	}
}

// complete ends a job whose lane is through: settled to its last position, or
// stopped at a failed item.
func (j *job) complete(ctx context.Context, laneErr error) error {
	j.closing = true
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Position = ledgerlinev1.JobPhase_JOB_PHASE_REPORTING, j.tenure.Position
	})
	stopped := errors.Is(laneErr, errFailedItem)
	if sum := j.digest.Sum(nil); !stopped && string(sum) != string(j.manifest.GetDigest()) {
		return park("the settled items are not the sealed ones: digest %x, sealed %x", sum, j.manifest.GetDigest())
	}
	if err := j.reporter.flush(ctx); err != nil {
		return err
	}
	if !j.c.config.Report {
		return ended(outcome(j.counts.booked+j.counts.alreadyBooked, j.counts.failed, stopped))
	}
	closing, span := j.c.config.Traces.Start(ctx, tracing.SpanClose, tracing.Text(tracing.AttrJob, j.id.String()))
	err := j.close(closing, stopped)
	var end *endError
	if errors.As(err, &end) {
		span.Set(tracing.Text(tracing.AttrOutcome, jobstate.PhaseName(end.phase)))
		span.End(nil)
	} else {
		span.End(err)
	}
	return err
}

func ended(phase ledgerlinev1.JobPhase) error { return &endError{phase: phase} }

// outcome is the phase that a job's results end it in.
func outcome(successful, failed uint32, stopped bool) ledgerlinev1.JobPhase {
	switch {
	case stopped || (failed > 0 && successful == 0):
		return ledgerlinev1.JobPhase_JOB_PHASE_FAILED
	case failed > 0:
		return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS
	}
	return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
}

// close tells Pleo that the job is done: once, and only after a re-read shows
// every item final.
func (j *job) close(ctx context.Context, stopped bool) error {
	for try := 1; ; try++ {
		calling, cancel := j.untilDeadline(ctx)
		err := j.closeOnce(ctx, calling, stopped)
		cancel()
		if !errors.Is(err, errNotClosed) {
			return err
		}
		if try == maxCloseTries {
			return park("%v in %d tries", err, maxCloseTries)
		}
		j.logger.Warn().Err(err).Msg(logevent.CloseRetried)
		if err := j.wait(ctx, closeRetry); err != nil {
			return err
		}
	}
}

var errNotClosed = errors.New("the job could not be closed")

func (j *job) closeOnce(ctx, calling context.Context, stopped bool) error {
	read, err := j.pleo.Job(calling, j.id.String())
	if pleo.IsPageFault(err) {
		return fmt.Errorf("%w: %w", errNotClosed, err)
	}
	if err != nil {
		return j.upstream(ctx, calling, err)
	}
	j.deadline.learn(read)
	if ended := judge(read); ended != nil {
		return ended
	}
	phase := ledgerlinev1.JobPhase_JOB_PHASE_FAILED
	if !stopped {
		tally, err := j.reread(calling, 0)
		if pleo.IsPageFault(err) {
			return fmt.Errorf("%w: %w", errNotClosed, err)
		}
		if errors.Is(err, history.ErrGone) {
			return j.drainedAgain(err)
		}
		if err != nil {
			return j.upstream(ctx, calling, err)
		}
		if len(tally.unreported) > 0 {
			if err := j.reportAgain(ctx, tally.unreported); err != nil {
				return err
			}
			return fmt.Errorf("%w: %d items whose results were accepted are open again", errNotClosed, len(tally.unreported))
		}
		if tally.added > 0 {
			// Items that no drain has seen: a further run of the same job.
			return &endError{
				phase:  ledgerlinev1.JobPhase_JOB_PHASE_DRAINING,
				reason: fmt.Sprintf("%d open items appeared after the drain", tally.added),
			}
		}
		phase = outcome(tally.successful, tally.failed, false)
	}
	event := closingEvent(phase)
	event.JobID = j.id.String()
	if stopped {
		event.FailureReason = fmt.Sprintf("Stopped at the failed item %d of %d", j.tenure.Position, j.total())
	}
	crashpoint.Before(crashpoint.ConsumerClose)
	err = j.pleo.PostJobEvent(calling, event)
	crashpoint.After(crashpoint.ConsumerClose)
	var api *pleo.APIError
	if errors.As(err, &api) && api.Status == http.StatusUnprocessableEntity {
		// Somebody, or a first try whose reply was lost, has ended it: the next
		// look tells.
		return fmt.Errorf("%w: %w", errNotClosed, err)
	}
	if err != nil {
		return j.upstream(ctx, calling, err)
	}
	return ended(phase)
}

// closingEvent is the event of a job that ends in a phase.
func closingEvent(phase ledgerlinev1.JobPhase) pleo.JobEvent {
	switch phase {
	case ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED:
		return pleo.JobEvent{Event: pleo.EventCompleted}
	case ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS:
		return pleo.JobEvent{Event: pleo.EventCompletedWithErrors}
	case ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED:
		return pleo.JobEvent{Event: pleo.EventFailed, FailureReasonType: pleo.JobCanceledByUser, FailureReason: "Cancelled by an operator"}
	}
	return pleo.JobEvent{Event: pleo.EventFailed, FailureReasonType: pleo.JobValidationFailure, FailureReason: "No item could be booked"}
}

// endedAtPleo is what an ended job at Pleo means here. Where all items are settled
// it may be our own closing event, whose record was lost; in all else it was
// somebody else, or time.
func (j *job) endedAtPleo(ctx context.Context, gone *endedAtPleoError) error {
	if !j.through() {
		if gone.read.FailureReasonType == pleo.JobExpired {
			return park("job_expired: Pleo gave the job up with %d of %d items settled", j.tenure.Position, j.total())
		}
		return park("%v", gone)
	}
	phase := ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	switch {
	case gone.read.Status == pleo.JobFailed && gone.read.FailureReasonType == pleo.JobValidationFailure:
		return ended(ledgerlinev1.JobPhase_JOB_PHASE_FAILED)
	case gone.read.Status == pleo.JobFailed:
		return park("%v", gone)
	case gone.read.Status == pleo.JobCompletedWithErrors:
		phase = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS
	}
	tally, err := j.reread(ctx, lastReport)
	if pleo.IsPageFault(err) {
		tally, err = j.reread(ctx, lastReport)
	}
	var refusal *pleo.APIError
	switch {
	case err != nil && ctx.Err() != nil || errors.Is(err, errNoPage): // Pleo's trouble, which passes
		return fmt.Errorf("%w, read its items: %w", gone, err)
	case errors.As(err, &refusal) || pleo.IsPageFault(err) || errors.Is(err, history.ErrGone):
		return park("%v, and its items cannot be read: %v", gone, err)
	case err != nil:
		return fmt.Errorf("%w, read its items: %w", gone, err)
	}
	if n := len(tally.unreported); n > 0 {
		return park("%v, and %d results were not accepted before", gone, n)
	}
	return ended(phase)
}

// tally is what a re-read of all items shows.
type tally struct {
	successful, failed uint32
	// unreported are open although this run settled them.
	unreported map[uuid.UUID]bool
	// added are open and were not sealed.
	added int
}

func (j *job) reread(ctx context.Context, patience time.Duration) (*tally, error) {
	sealed, err := j.entries(ctx)
	if err != nil {
		return nil, err
	}
	statuses, err := j.statuses(ctx, patience)
	if err != nil {
		return nil, err
	}
	t := &tally{unreported: map[uuid.UUID]bool{}}
	for id, status := range statuses {
		_, ours := sealed[id]
		switch {
		case status == pleo.ItemSuccessful:
			t.successful++
		case !status.Open():
			t.failed++
		case ours:
			t.unreported[id] = true
		default:
			t.added++
		}
	}
	return t, nil
}

// statuses reads every item of the job at Pleo. With a patience it waits that long for
// each page, and ends with errNoPage.
func (j *job) statuses(ctx context.Context, patience time.Duration) (map[uuid.UUID]pleo.ItemStatus, error) {
	statuses := make(map[uuid.UUID]pleo.ItemStatus, j.total())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	moved := func() {}
	if patience > 0 {
		still := time.AfterFunc(patience, func() { cancel(errNoPage) })
		defer still.Stop()
		moved = func() { still.Reset(patience) }
	}
	crashpoint.Before(crashpoint.ConsumerStatuses)
	_, err := j.pleo.EachJobItem(ctx, j.id.String(), func(page []pleo.JobItem) error {
		moved()
		for _, it := range page {
			id, err := uuid.Parse(it.AccountingEntryID)
			if err != nil {
				return fmt.Errorf("%w: accountingEntryId: %w", pleo.ErrPageShape, err)
			}
			statuses[id] = it.Status
		}
		return nil
	})
	crashpoint.After(crashpoint.ConsumerStatuses)
	return statuses, err
}

// reportAgain reports results that were accepted and are open all the same, from
// the ledger.
func (j *job) reportAgain(ctx context.Context, open map[uuid.UUID]bool) error {
	settled, err := j.tenure.Settled(ctx)
	if err != nil {
		return err
	}
	for _, s := range settled {
		if open[uuid.UUID(s.GetEntryId())] {
			if err := j.reporter.add(ctx, s, nil); err != nil {
				return err
			}
		}
	}
	return j.reporter.flush(ctx)
}
