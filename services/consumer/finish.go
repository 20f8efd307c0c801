package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
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
	case ctx.Err() != nil || errors.Is(err, errNoPage): // Pleo's trouble, which passes
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

// end writes the last record of the run and tells people. The bookings are folded
// before it: it is what lets the company's next job begin.
//
// Nothing but the lease bounds it: a job of a million items has as many bookings
// to fold.
func (j *job) end(ctx context.Context, end *endError) error {
	crashpoint.Before(crashpoint.ConsumerFold)
	err := j.tenure.Fold(ctx)
	crashpoint.After(crashpoint.ConsumerFold)
	if err != nil {
		return err
	}
	crashpoint.Before(crashpoint.ConsumerEnd)
	err = j.tenure.Append(ctx, &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: end.phase, Reason: end.reason}})
	crashpoint.After(crashpoint.ConsumerEnd)
	if err != nil {
		return err
	}
	// Removed before anybody is told: a further run makes a consumer of the same
	// name.
	if err := j.remove(ctx, true); err != nil {
		return err
	}
	announceErr := j.announceEnd(ctx)
	j.c.metrics.JobEnded(end.phase)
	event, message := j.logger.Info(), logevent.JobEnded
	if end.phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		event, message = j.logger.Error(), logevent.JobParked
	}
	event.Str("phase", jobstate.PhaseName(end.phase)).Str("reason", end.reason).Uint32("total", j.total()).
		Uint32("booked", j.counts.booked).Uint32("already_booked", j.counts.alreadyBooked).
		Uint32("failed", j.counts.failed).Msg(message)
	return announceErr
}

// announceEnd tells what the ledger's last record says: to people, to the gateways,
// which start the company's next job, and where the job goes on to the fetchers. Doing
// it again after a crash changes nothing; what could not be told is, when the manifest
// comes again.
func (j *job) announceEnd(ctx context.Context) error {
	last, err := j.c.ledger.Last(ctx, j.company, j.id)
	if err != nil {
		return err
	}
	end := last.Record.GetEnd()
	final := ledger.Final(end.GetPhase())
	if end.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		if err := j.showParked(ctx, end.GetReason()); err != nil {
			return err
		}
	}
	err = j.tell(ctx, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Reason, s.Worker, s.Position = end.GetPhase(), end.GetReason(), "", last.Record.GetPosition()
		s.Epoch, s.Deadline = last.Record.GetEpoch(), timestamppb.New(j.deadlineAt())
		if final {
			s.EndedAt = last.Record.GetAt()
			// What was asked of it has been carried out, or came too late.
			s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		} else {
			s.Run = j.manifest.GetRun() + 1
		}
	})
	if err != nil || final {
		return err
	}
	return j.c.publishStarted(ctx, j.id, j.company)
}

// showParked puts the job before a person, once the ledger has its end and unless a further
// run was asked for since: an entry without an end would be for a job that goes on, or
// that another worker completes.
func (j *job) showParked(ctx context.Context, reason string) error {
	state, err := j.c.state(ctx, j.id)
	if err != nil || state.GetRun() > j.manifest.GetRun() {
		return err
	}
	crashpoint.Before(crashpoint.ConsumerPark)
	err = j.c.parked.Job(ctx, j.id, j.company, reason)
	crashpoint.After(crashpoint.ConsumerPark)
	return err
}

// deadlineAt is the deadline, where the job got as far as learning it.
func (j *job) deadlineAt() time.Time {
	if j.deadline == nil {
		return j.manifest.GetDeadline().AsTime()
	}
	return j.deadline.when()
}

// publishStarted has a fetcher publish the event of a further run of a job: a
// consumer's credential may not publish events. Where no fetcher answers, the
// manifest in hand stays and with it the wish.
func (c *Consumer) publishStarted(ctx context.Context, job, company uuid.UUID) error {
	asking, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	again := endpoint.Again{JobID: job.String(), CompanyID: company.String()}
	crashpoint.Before(crashpoint.ConsumerFurther)
	err := endpoint.Ask(asking, c.config.Conn, subject.FetcherAgain, again, nil)
	crashpoint.After(crashpoint.ConsumerFurther)
	if err != nil {
		return fmt.Errorf("ask for a further run of job %s: %w", job, err)
	}
	return nil
}

// remove removes what only this run used; current is false for a run that a later
// one has followed, whose consumer is not its own any more. The ledger's last
// record stands already: what fails here is done again when the manifest comes
// again.
func (j *job) remove(ctx context.Context, current bool) error {
	if current {
		crashpoint.Before(crashpoint.ConsumerDelete)
		err := j.c.pipe.DeleteConsumer(ctx, subject.DurableJob(j.id))
		crashpoint.After(crashpoint.ConsumerDelete)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("remove the consumer of job %s: %w", j.id, err)
		}
	}
	items := j.itemsSubject()
	if j.manifest.GetAttempt() == "" {
		items = subject.ItemsOf(j.id) // ended before it was sealed
	}
	crashpoint.Before(crashpoint.ConsumerPurge)
	err := j.c.pipe.Purge(ctx, jetstream.WithPurgeSubject(items))
	crashpoint.After(crashpoint.ConsumerPurge)
	if err != nil {
		return fmt.Errorf("purge the items of job %s: %w", j.id, err)
	}
	return nil
}

// release acks the manifest of an ended run and then removes it: this message alone.
// An earlier or later run's manifest on the same subject may be in another
// worker's hand, and a manifest that is not acked is never purged (cas.Remove).
func (j *job) release(ctx context.Context) error {
	meta, err := j.msg.Metadata()
	if err != nil {
		return fmt.Errorf("release the manifest of job %s: %w", j.id, err)
	}
	crashpoint.Before(crashpoint.ConsumerRelease)
	err = j.msg.DoubleAck(ctx)
	crashpoint.After(crashpoint.ConsumerRelease)
	if err != nil {
		return fmt.Errorf("ack the manifest of job %s: %w", j.id, err)
	}
	crashpoint.Before(crashpoint.ConsumerManifest)
	err = cas.Remove(ctx, j.c.pipe, meta.Sequence.Stream)
	crashpoint.After(crashpoint.ConsumerManifest)
	if err != nil {
		return fmt.Errorf("remove the manifest of job %s: %w", j.id, err)
	}
	return nil
}
