package consumer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// recentSeal is how old a manifest may be for its deadline to count as just read.
const recentSeal = time.Minute

// digest is the hash over the entry ids settled so far, in order: at the end it
// must be the manifest's.
type digest struct{ hash.Hash }

// counts are the settlements of this run by outcome.
type counts struct{ booked, alreadyBooked, failed uint32 }

func (c *counts) add(s *ledgerlinev1.Settlement) {
	switch s.GetOutcome() {
	case ledgerlinev1.Outcome_OUTCOME_BOOKED:
		c.booked++
	case ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED:
		c.alreadyBooked++
	case ledgerlinev1.Outcome_OUTCOME_FAILED:
		c.failed++
	}
}

// work takes a claimed job to its end. nil means that the run has ended and its
// last record stands.
func (j *job) work(ctx context.Context) error {
	if j.tenure.Resumed {
		j.c.metrics.Takeovers.Inc()
	}
	if j.tenure.Epoch > 1 {
		j.logger.Warn().Uint64("epoch", j.tenure.Epoch).Uint32("position", j.tenure.Position).Msg(logevent.JobTakenOver)
	} else {
		j.logger.Info().Uint32("total", j.total()).Msg(logevent.JobClaimed)
	}
	j.note(ctx, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Reason = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ""
		if s.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME {
			s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		}
		s.Worker, s.Epoch, s.Position = j.c.config.Worker, j.tenure.Epoch, j.tenure.Position
	})
	err := j.run(ctx)
	j.short(false)
	j.payload.close()
	var gone *endedAtPleoError
	switch {
	case errors.As(err, &gone) && gone.read.Status == pleo.JobFailed && j.cancelAsked():
		// Our own event, whose record was lost, or somebody was faster. What was
		// completed there came too late to be cancelled.
		err = j.cancelled()
	case errors.As(err, &gone):
		err = j.endedAtPleo(ctx, gone)
	}
	var end *endError
	if errors.As(err, &end) {
		return j.end(ctx, end)
	}
	return err
}

// run prepares the job, works its items and closes it at Pleo. Its error is an
// *endError when the job ends here, nil never.
func (j *job) run(ctx context.Context) error {
	if err := j.remembered(); err != nil {
		return err
	}
	if err := j.recall(ctx); err != nil {
		return err
	}
	if err := j.signIn(); err != nil {
		return err
	}
	if err := j.learnDeadline(ctx); err != nil {
		return err
	}
	// Pleo may be away for as long as the job lives; a shutdown does not wait.
	untilStop, cancelUntilStop := j.untilStop(ctx)
	defer cancelUntilStop()
	if j.c.config.Payload == PayloadFull && !j.through() && !j.cancelAsked() {
		if err := j.loadPayload(untilStop); errors.Is(err, errExpired) {
			return j.expired()
		} else if err != nil {
			return err
		}
	}
	work, cancel := context.WithCancelCause(ctx)
	j.reporter = startReporter(work, j, cancel)
	defer func() {
		cancel(nil)
		<-j.reporter.done
	}()
	var err error
	switch {
	case j.cancelAsked():
		err = errCancelled
	case j.stoppedEarlier():
		err = errFailedItem
	default:
		err = j.lane(work)
	}
	if errors.Is(context.Cause(work), errReported) && !errors.Is(err, ledger.ErrFenced) && !errors.Is(err, errStale) {
		// Whatever the lane met when it was stopped: this is why.
		err = j.reporter.failure()
	}
	return j.finish(ctx, untilStop, err)
}

// untilStop bounds waits for Pleo by the process's shutdown.
func (j *job) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-j.stop:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// signIn takes the client of the job's company, and no other, for all that is read
// and reported of the job.
func (j *job) signIn() (err error) {
	if j.c.config.Pleo == nil {
		return nil
	}
	if j.pleo, err = j.c.config.Pleo.For(j.company); err != nil && j.c.config.needsPleo() {
		return park("%v", err)
	}
	return nil
}

// remembered makes sure that the ledger has not forgotten the job. What was sent from
// the manifest is not known then, so nothing more is sent from it: the job is drained
// again, and what Pleo has accepted is not among its open items any more.
func (j *job) remembered() error {
	if !j.tenure.Forgotten || j.cancelling { // which sends nothing
		return nil
	}
	reason := "the ledger is younger than the sealed job: what was done of it is lost"
	if j.floor > 0 {
		reason = fmt.Sprintf("the ledger has lost what was done in %d tenures of this job", j.floor)
	}
	j.logger.Error().Str("reason", reason).Msg(logevent.LedgerForgot)
	return &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, reason: reason + "; drained again"}
}

// recall reads what was done before this claim.
func (j *job) recall(ctx context.Context) (err error) {
	wanted := map[uuid.UUID]struct{}{}
	if !j.tenure.FirstTurn && !j.cancelling { // a cancelled job sends nothing
		if wanted, err = j.entries(ctx); err != nil {
			return j.drainedAgain(err)
		}
	}
	j.past, err = j.tenure.Past(ctx, func(id uuid.UUID) bool {
		_, ok := wanted[id]
		return ok
	})
	if errors.Is(err, history.ErrDamaged) {
		return park("%v: an entry that was booked before might be sent again", err)
	}
	if err != nil {
		return err
	}
	j.digest = digest{sha256.New()}
	for i, s := range j.past.Settled {
		if s.GetPosition() != uint32(i)+1 {
			return park("the ledger of the job has position %d where %d must stand", s.GetPosition(), i+1)
		}
		j.digest.Write(s.GetEntryId())
		j.counts.add(s)
	}
	if n := uint32(len(j.past.Settled)); n != j.tenure.Position {
		return park("the ledger of the job says position %d and holds %d settlements", j.tenure.Position, n)
	}
	return nil
}

// entries are the ids of the job's items.
func (j *job) entries(ctx context.Context) (map[uuid.UUID]struct{}, error) {
	ids := make(map[uuid.UUID]struct{}, j.total())
	if j.total() == 0 {
		return ids, nil
	}
	err := history.Read(ctx, j.c.pipe, []string{j.itemsSubject()}, j.manifest.GetLastSequence(), func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		item := new(ledgerlinev1.Item)
		if err := proto.Unmarshal(msg.Data(), item); err != nil {
			return fmt.Errorf("an item on %s is unreadable: %w", msg.Subject(), err)
		}
		id, err := uuid.FromBytes(item.GetEntryId())
		if err != nil {
			return fmt.Errorf("an item on %s: %w", msg.Subject(), err)
		}
		ids[id] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the items of the job: %w", err)
	}
	return ids, nil
}

// drainedAgain ends the run where err says that items are not in the store any more:
// Pleo has them.
func (j *job) drainedAgain(err error) error {
	if !errors.Is(err, history.ErrGone) {
		return err
	}
	j.logger.Error().AnErr("reason", err).Msg(logevent.ItemsLost)
	return &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, reason: err.Error() + "; drained again"}
}

func (j *job) itemsSubject() string { return subject.Items(j.id, j.manifest.GetAttempt()) }

// learnDeadline takes the manifest's deadline or, when that is old or others
// worked on the job since, reads the job.
func (j *job) learnDeadline(ctx context.Context) error {
	j.deadline = &deadline{
		client: j.pleo, job: j.id, logger: j.logger,
		at:       j.manifest.GetDeadline().AsTime(),
		lifetime: time.Duration(j.manifest.GetExpiresInSeconds()) * time.Second,
		readAt:   j.manifest.GetSealedAt().AsTime(),
		moved: func(at time.Time) {
			j.note(ctx, func(s *ledgerlinev1.JobState) { s.Deadline = timestamppb.New(at) })
		},
	}
	if j.deadline.lifetime <= 0 {
		j.deadline.lifetime = pleo.DefaultExpiry
	}
	if j.pleo == nil || (j.tenure.Epoch == 1 && time.Since(j.deadline.readAt) < recentSeal) {
		return nil
	}
	return j.deadline.refresh(ctx)
}

// stoppedEarlier tells whether a former worker settled a failed item that stops
// the job, and died before it closed the job.
func (j *job) stoppedEarlier() bool {
	n := len(j.past.Settled)
	return j.c.config.OnFailure == OnFailureStop && n > 0 &&
		j.past.Settled[n-1].GetOutcome() == ledgerlinev1.Outcome_OUTCOME_FAILED
}

// through tells whether nothing is left to send.
func (j *job) through() bool { return j.tenure.Position == j.total() || j.stoppedEarlier() }

// untilDeadline bounds calls upstream by the job's deadline.
func (j *job) untilDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, j.deadline.when(), errExpired)
}

// loadPayload reads the payload; a fault of the pages is looked at twice.
func (j *job) loadPayload(ctx context.Context) error {
	calling, cancel := j.untilDeadline(ctx)
	defer cancel()
	var err error
	for range maxPayloadReads {
		if j.payload, err = readPayload(calling, j.pleo, j.id); err == nil {
			return nil
		}
		if !pleo.IsPageFault(err) {
			break
		}
		j.logger.Warn().Err(err).Msg(logevent.PayloadRepeated)
	}
	if pleo.IsPageFault(err) {
		return park("the payload cannot be trusted, also read afresh: %v", err)
	}
	return j.upstream(ctx, calling, err)
}

// maxPayloadReads is how often the payload is read: a fault that a fresh reading
// shows again is the upstream's, not the moment's.
const maxPayloadReads = 2

// upstream turns an answer of Pleo's that is final for a call into what it means
// for the job.
func (j *job) upstream(ctx, calling context.Context, err error) error {
	var api *pleo.APIError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(context.Cause(calling), errExpired):
		return errExpired
	case !errors.As(err, &api):
		return err
	case api.HasType(pleo.TypeMissingContraAccounts):
		crashpoint.Before(crashpoint.ConsumerFail)
		post := j.pleo.PostJobEvent(calling, pleo.JobEvent{
			JobID: j.id.String(), Event: pleo.EventFailed,
			FailureReasonType: pleo.JobMissingConfiguration,
			FailureReason:     "A contra account is not mapped: " + api.Message,
		})
		crashpoint.After(crashpoint.ConsumerFail)
		if post != nil && calling.Err() != nil {
			return j.upstream(ctx, calling, post)
		}
		var refused *pleo.APIError
		if post != nil && !errors.As(post, &refused) {
			return fmt.Errorf("fail the job for its missing contra account: %w", post)
		}
		return park("missing_configuration: %v", api)
	case api.Status == http.StatusUnprocessableEntity:
		read, readErr := j.pleo.AwaitJob(calling, j.id.String(), pleo.ShowPatience, func(read pleo.Job) bool { return read.Status.Final() })
		if readErr != nil {
			return fmt.Errorf("read the job after %w: %w", api, readErr)
		}
		j.deadline.learn(read)
		if ended := judge(read); ended != nil {
			return ended
		}
		return park("Pleo refuses although the job is %s: %v", read.Status, api)
	}
	return park("Pleo refuses: %v", api)
}

// mayGoOn tells, before an item is begun, whether the job may go on.
func (j *job) mayGoOn(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if j.stopping() {
		return errStopping
	}
	if err := j.deadline.check(ctx); err != nil {
		return err
	}
	j.forecast()
	return j.asked()
}
