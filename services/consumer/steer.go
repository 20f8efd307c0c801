package consumer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// asked is what an operator asks of the job, as an error that ends its lane or
// holds it; nil for nothing.
func (j *job) asked() error {
	if j.cancelling {
		return errCancelled
	}
	switch j.c.turns.request(j.company, j.id) {
	case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL:
		return errCancelled
	case ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE:
		if !j.closing {
			return errPaused
		}
	}
	return nil
}

func (j *job) cancelAsked() bool { return errors.Is(j.asked(), errCancelled) }

// untilResumed holds the job between two items where err says that it is paused,
// and returns every other error as it is. The manifest, the lease and the payload
// stay in hand, the slot does not; what was booked is reported meanwhile.
func (j *job) untilResumed(ctx context.Context, src *source, err error) error {
	if !errors.Is(err, errPaused) {
		return err
	}
	began := time.Now()
	j.notePaused(ctx)
	j.logger.Info().Uint32("position", j.tenure.Position).Msg(logevent.JobPaused)
	j.giveSlot()
	for errors.Is(err, errPaused) {
		// Before the look, so that no change after it is missed.
		changed := j.c.turns.changes(j.company)
		if err = j.mayGoOn(ctx); !errors.Is(err, errPaused) {
			break
		}
		j.keepPaused(ctx)
		// The deadline ends a pause too.
		timer := time.NewTimer(min(max(time.Until(j.deadline.when()), turnRecheck), j.c.config.Topology.Lease))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		case <-j.stop:
		}
		timer.Stop()
	}
	if err != nil {
		return err
	}
	if err := j.takeSlot(ctx); err != nil {
		return err
	}
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Reason = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ""
		if s.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME {
			s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		}
	})
	j.logger.Info().Uint32("position", j.tenure.Position).Dur("paused", time.Since(began)).Msg(logevent.JobContinued)
	j.short(false)
	j.pace = forecast{began: time.Now(), position: j.tenure.Position}
	if time.Since(began) < itemAckWait/2 {
		return nil
	}
	// The server may have taken back the items at hand: ownership first, as at
	// every reset.
	if err := j.record(ctx, &ledgerlinev1.LedgerRecord{}); err != nil {
		return err
	}
	return src.reset(ctx)
}

// notePaused tells people that the job is paused, unless it was resumed since.
func (j *job) notePaused(ctx context.Context) {
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		if s.GetRequest() != ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE {
			return
		}
		s.Phase, s.Reason = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, steer.PausedReason
		if j.tenure != nil {
			s.Position = j.tenure.Position
		}
	})
}

// keepPaused writes the state of a paused job again where the bucket was lost with
// it: nobody could resume the job otherwise.
func (j *job) keepPaused(ctx context.Context) {
	state, err := j.c.state(ctx, j.id)
	if err != nil || state != nil {
		return // looked at again with the next lease
	}
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		if s.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED {
			return // somebody was faster
		}
		s.Phase, s.Reason = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, steer.PausedReason
		s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE
		s.Deadline = timestamppb.New(j.deadlineAt())
		if j.tenure != nil {
			s.Position, s.Epoch, s.Worker = j.tenure.Position, j.tenure.Epoch, j.c.config.Worker
		}
	})
}

// cancel ends a job as an operator wants it: what was booked is reported, also
// what a former worker booked and did not report, and then Pleo is told.
func (j *job) cancel(ctx context.Context) error {
	if err := j.reporter.flush(ctx); err != nil {
		return err
	}
	if !j.c.config.Report {
		return j.cancelled()
	}
	calling, cancel := j.untilDeadline(ctx)
	defer cancel()
	if len(j.past.Settled) > 0 {
		statuses, err := j.statuses(calling, 0)
		if err != nil {
			return j.upstream(ctx, calling, err)
		}
		open := map[uuid.UUID]bool{}
		for id, status := range statuses {
			open[id] = status.Open()
		}
		if err := j.reportAgain(ctx, open); err != nil {
			return err
		}
	}
	event := closingEvent(ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED)
	event.JobID = j.id.String()
	event.FailureReason = fmt.Sprintf("Cancelled by an operator after %d of %d items", j.tenure.Position, j.total())
	crashpoint.Before(crashpoint.ConsumerCancel)
	err := j.pleo.PostJobEvent(calling, event)
	crashpoint.After(crashpoint.ConsumerCancel)
	if err != nil {
		return j.upstream(ctx, calling, err)
	}
	return j.cancelled()
}

// cancelled is the end of a job that an operator cancelled.
func (j *job) cancelled() error {
	return &endError{
		phase: ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED,
		reason: fmt.Sprintf("cancelled by an operator after %d of %d items: %d booked, %d failed",
			j.tenure.Position, j.total(), j.counts.booked+j.counts.alreadyBooked, j.counts.failed),
	}
}

// steerLimit bounds the cancelling of a job that nobody holds: Pleo is told of it.
const steerLimit = 30 * time.Second

// steered tells what was done about an operator's wish.
type steered struct {
	// Done is true where the wish was carried out here; else whoever holds the job
	// does it.
	Done bool `json:"done"`
}

// steer carries out what was asked of a job that nobody has claimed. A pause needs
// nothing more than to be known; only a cancel is something to do.
func (c *Consumer) steer(ctx context.Context, request steer.Request) (steered, error) {
	id, err := subject.ParseID(request.JobID)
	if err != nil {
		return steered{}, endpoint.Refuse("400", err.Error())
	}
	state, err := c.state(ctx, id)
	if err != nil || state.GetRequest() != ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL || ledger.Final(state.GetPhase()) {
		return steered{}, err
	}
	if state.GetCompanyId() == "" {
		return steered{}, nil // not read at Pleo yet: cancelled once it is sealed
	}
	company, err := subject.ParseID(state.GetCompanyId())
	if err != nil {
		return steered{}, fmt.Errorf("the state of job %s: company: %w", id, err)
	}
	last, err := c.ledger.Last(ctx, company, id)
	if err != nil {
		return steered{}, err
	}
	manifest, err := c.manifest(ctx, id)
	if err != nil {
		return steered{}, err
	}
	sealed := manifest != nil && manifest.GetRun() >= state.GetRun()
	if !sealed {
		// It is still being drained: a manifest of nothing ends it, and the one that
		// the fetcher may seal comes too late. An old deadline is read again at Pleo.
		manifest = &ledgerlinev1.Manifest{
			JobId: id.String(), CompanyId: company.String(), Run: max(state.GetRun(), 1), Digest: digestOfNothing(),
			CreatedAt: state.GetCreatedAt(), Deadline: timestamppb.New(time.Now().Add(pleo.DefaultExpiry)),
		}
	}
	if run := last.RunOrZero(); run > manifest.GetRun() || run == manifest.GetRun() && (sealed || last.Record.GetEnd() != nil) {
		return steered{}, nil // claimed: its worker, or the one after it, carries it out
	}
	j := &job{
		c: c, id: id, company: company, manifest: manifest, stop: ctx.Done(), cancelling: true, last: last,
		logger: c.logger.With().Stringer("job_id", id).Stringer("company_id", company).Logger(),
	}
	crashpoint.Before(crashpoint.ConsumerCancelClaim)
	j.tenure, err = c.claimer.Claim(ctx, j.claimRequest(state.GetEpoch()))
	crashpoint.After(crashpoint.ConsumerCancelClaim)
	if errors.Is(err, ledger.ErrFenced) {
		return steered{}, nil // claimed meanwhile
	}
	if err != nil {
		return steered{}, err
	}
	if err := j.work(ctx); err != nil {
		return steered{}, err
	}
	// Its manifest, if it has one, goes when a worker gets it: purged before it was
	// handed out it would take others with it.
	return steered{Done: true}, nil
}

// digestOfNothing is that of a run without items.
func digestOfNothing() []byte {
	none := sha256.Sum256(nil)
	return none[:]
}
