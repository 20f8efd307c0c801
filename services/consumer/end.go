package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// end writes the last record of the run and tells people. The bookings are folded
// before it: it is what lets the company's next job begin.
//
// Nothing but the lease bounds the fold: a job of a million items has as many bookings.
func (j *job) end(ctx context.Context, end *endError) error {
	crashpoint.Before(crashpoint.ConsumerFold)
	err := j.tenure.Fold(ctx)
	crashpoint.After(crashpoint.ConsumerFold)
	if err != nil {
		return err
	}
	recording, cancel := j.recording(ctx)
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerEnd)
	err = j.tenure.Append(recording, &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: end.phase, Reason: end.reason}})
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
