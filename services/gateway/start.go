package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

// seenPatience is how long an accepted "started" may take to show.
const seenPatience = 30 * time.Second

// start brings one job from its mark to its event. The order is what a crash must
// not undo: marked here, read at Pleo, "started" posted there and seen to hold,
// event published, handed on. After a crash at any point the detection comes again,
// to this gateway or another one, which finds the mark abandoned and the job's
// status at Pleo, and goes on behind the last step that took effect.
func (g *Gateway) start(ctx context.Context, job candidate, logger zerolog.Logger) (outcome, error) {
	logger = logger.With().Stringer("job_id", job.id).Logger()
	client, err := g.config.Pleo.For(job.company)
	if err != nil {
		return outcome{}, fmt.Errorf("start job %s: %w", job.ID, err)
	}
	// A start in hand is finished when the process ends.
	ctx, cancel := finishing(ctx, settleTimeout)
	defer cancel()
	m, held, err := g.mark(ctx, job, logger)
	switch {
	case errors.Is(err, errUnderWay):
		return outcome{JobID: job.ID, Action: busy, Reason: err.Error()}, nil
	case errors.Is(err, errOver):
		return outcome{}, later(inHandPause, "job %s: %v", job.ID, err)
	case errors.Is(err, errHeld):
		// Its gateway will be through in a moment, or is gone in a lease.
		return outcome{JobID: job.ID, Action: busy, Reason: err.Error()},
			later(g.config.Topology.Lease, "job %s: %v", job.ID, err)
	case err != nil:
		return outcome{}, fmt.Errorf("mark job %s: %w", job.ID, err)
	}
	defer m.stop()
	traced, span := g.config.Traces.Start(tracing.Continue(held, job.id, ""), tracing.SpanStart,
		tracing.Text(tracing.AttrJob, job.ID), tracing.Text(tracing.AttrCompany, job.company.String()))
	posted, err := g.claim(traced, client, job)
	if err != nil {
		span.End(err)
		return g.notStarted(ctx, held, m, job, err, logger)
	}
	err = g.publish(traced, job)
	span.End(err)
	if err != nil {
		return outcome{}, fmt.Errorf("publish the event of job %s: %w", job.ID, err)
	}
	m.handOn(ctx)
	if posted {
		logger.Info().Msg(logevent.JobStarted)
		return outcome{JobID: job.ID, Action: started}, nil
	}
	logger.Info().Msg(logevent.JobResumed)
	return outcome{JobID: job.ID, Action: resumed}, nil
}

// claim makes the job in_progress at Pleo, once. posted tells whether this call
// posted "started".
func (g *Gateway) claim(ctx context.Context, client *pleo.Client, job candidate) (posted bool, err error) {
	// Read right before the post: the listing, and much more a webhook, is a
	// snapshot (trap 9), and a job that was started must not be started again on
	// resume (trap 7).
	now, err := client.Job(ctx, job.ID)
	if err != nil {
		return false, err
	}
	if running, err := isRunning(now); err != nil || running {
		return false, err
	}
	if err := g.mayRead(ctx, client, job); err != nil {
		return false, err
	}
	crashpoint.Before(crashpoint.GatewayStart)
	err = client.PostJobEvent(ctx, pleo.JobEvent{JobID: job.ID, Event: pleo.EventStarted})
	crashpoint.After(crashpoint.GatewayStart)
	var refusal *pleo.APIError
	switch {
	case err == nil:
		posted = true
	case isStatus(err, http.StatusUnprocessableEntity) && ctx.Err() == nil && errors.As(err, &refusal):
		// A first try whose reply was lost, somebody else's start, or an end: what
		// the job is now tells (traps 4 and 6).
		posted = refusal.Attempt > 1
	default:
		return false, fmt.Errorf("start job %s: %w", job.ID, err)
	}
	return posted, seen(ctx, client, job, err)
}

// mayRead sees that the credential has the scope for the job's payload: a job that
// is started without it would be lost to the fetcher's first page. Whatever else
// Pleo answers is the fetcher's to judge, which tells the bookkeeper of it.
func (g *Gateway) mayRead(ctx context.Context, client *pleo.Client, job candidate) error {
	if !g.config.ReadsPayload {
		return nil
	}
	err := client.ReadsExportItems(ctx, job.ID)
	if err == nil || isStatus(err, http.StatusForbidden, http.StatusUnauthorized) {
		return err
	}
	var refusal *pleo.APIError
	if ctx.Err() == nil && errors.As(err, &refusal) {
		return nil
	}
	return err
}

// seen waits until Pleo shows the job in progress. 202 promises no more than that
// it will (trap 5), and the fetcher that gets the event parks a job that it sees
// pending.
func seen(ctx context.Context, client *pleo.Client, job candidate, refusal error) error {
	read, err := client.AwaitJob(ctx, job.ID, seenPatience, func(read pleo.Job) bool { return read.Status != pleo.JobPending })
	if err != nil {
		return err
	}
	running, err := isRunning(read)
	switch {
	case err != nil || running:
		return err
	case refusal != nil:
		return leftAlone(0, "job %s is pending at Pleo after \"started\" was refused: %v", job.ID, refusal)
	}
	return leftAlone(0, "job %s is pending at Pleo %s after \"started\" was accepted", job.ID, seenPatience)
}

// endedError is returned for a job that cannot be started any more.
type endedError struct{ job pleo.Job }

func (e *endedError) Error() string { return endedAtPleo(e.job) }

// isRunning tells whether a job as read is in progress: false is pending.
func isRunning(read pleo.Job) (bool, error) {
	switch {
	case read.Status == pleo.JobPending:
		return false, nil
	case read.Status == pleo.JobInProgress:
		return true, nil
	case read.Status.Final():
		return false, &endedError{job: read}
	}
	return false, leftAlone(0, "job %s has the unknown status %q at Pleo", read.ID, read.Status)
}

// notStarted settles a job that is marked and was not started.
func (g *Gateway) notStarted(ctx, held context.Context, m *mark, job candidate, err error, logger zerolog.Logger) (outcome, error) {
	var over *endedError
	var refusal *pleo.APIError
	switch {
	case errors.As(err, &over):
		logger.Info().Str("status", string(over.job.Status)).Str("reason", over.Error()).Msg(logevent.JobNotStarted)
		if err := m.end(ctx, phaseAtPleo(over.job), over.Error()); err != nil {
			return outcome{}, err
		}
		return outcome{}, errAgain
	case held.Err() != nil || !errors.As(err, &refusal):
		// Whether "started" arrived is not known: the mark stays, and the next look
		// reads the job.
		return outcome{}, err
	case refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden:
		// The credential or a scope of it, not the job: left alone until somebody
		// has mended it.
		logger.Error().Err(err).Msg(logevent.JobLeftAlone)
		reason := "not started: " + err.Error()
		if noteErr := m.update(ctx, func(s *ledgerlinev1.JobState) { s.Reason = reason }); noteErr != nil {
			logger.Warn().Err(noteErr).Msg(logevent.StateNotWritten) // it decides nothing
		}
		return outcome{JobID: job.ID, Action: waiting, Reason: err.Error()}, leftAlone(retryMost, "job %s: %v", job.ID, err)
	}
	reason := "Pleo refuses: " + err.Error()
	crashpoint.Before(crashpoint.GatewayPark)
	err = g.parked.Job(ctx, job.id, job.company, reason)
	crashpoint.After(crashpoint.GatewayPark)
	if err != nil {
		return outcome{}, err
	}
	if err := m.end(ctx, ledgerlinev1.JobPhase_JOB_PHASE_PARKED, reason); err != nil {
		return outcome{}, err
	}
	g.config.Metrics.JobEnded(ledgerlinev1.JobPhase_JOB_PHASE_PARKED)
	logger.Error().Str("reason", reason).Msg(logevent.JobParked)
	return outcome{}, errAgain
}

// phaseAtPleo is how a job that ended there before it was started stands here.
func phaseAtPleo(job pleo.Job) ledgerlinev1.JobPhase {
	switch {
	case job.Status == pleo.JobCompleted:
		return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	case job.Status == pleo.JobCompletedWithErrors:
		return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS
	case job.FailureReasonType == pleo.JobCanceledByUser:
		return ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED
	}
	return ledgerlinev1.JobPhase_JOB_PHASE_FAILED
}

// publish gives the job to the fetchers, and waits until JetStream has its event.
func (g *Gateway) publish(ctx context.Context, job candidate) error {
	event, err := json.Marshal(map[string]uuid.UUID{"jobId": job.id, "companyId": job.company})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.APITimeout)
	defer cancel()
	msg := nats.NewMsg(subject.JobStarted)
	msg.Data = event
	if traceparent := tracing.Traceparent(ctx); traceparent != "" {
		msg.Header.Set(subject.HeaderTraceparent, traceparent)
	}
	crashpoint.Before(crashpoint.GatewayPublish)
	_, err = g.js.PublishMsg(ctx, msg)
	crashpoint.After(crashpoint.GatewayPublish)
	return err
}

// finishing is a context that outlives ctx by grace.
func finishing(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	timers := make(chan *time.Timer, 1)
	unhook := context.AfterFunc(ctx, func() {
		timers <- time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	return long, func() {
		if !unhook() {
			(<-timers).Stop()
		}
		cancel(context.Canceled)
	}
}
