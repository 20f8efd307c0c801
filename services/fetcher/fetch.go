package fetcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// askPatience is how long the first question about a job may take before the
	// event is handed back, so that one company's trouble does not hold the slot
	// of another's drain.
	askPatience = 30 * time.Second
	// askLimit is how long an event is tried while Pleo cannot be asked about its
	// job: the deadline is not known then, so a job's usual lifetime stands in.
	askLimit = pleo.DefaultExpiry
)

// errExpired is the cause of a context that ended at the job's deadline.
var errExpired = errors.New("job_expired: the job's deadline has passed")

// task is one job on its way from event to seal.
type task struct {
	job uuid.UUID
	// company is the job's own once it was read; before, what is known or said.
	company uuid.UUID
	// pleo is the client of the job's company.
	pleo *pleo.Client
	run  uint32
	// attempt names this drain; items of other drains are never mixed in.
	attempt string
	// replaces is the sequence of the manifest of an earlier run, 0 for none.
	replaces uint64
	// known is true when the job was worked on here before.
	known bool
	read  pleo.Job
	// traceparent is the trace context that consumers go on with; empty for none.
	traceparent string
}

// fetch brings a job to its seal; company is the one that the event names, or
// uuid.Nil. It returns nil also where nothing is to do.
func (f *Fetcher) fetch(ctx context.Context, job, company uuid.UUID, msg jetstream.Msg, logger zerolog.Logger) error {
	t, err := f.accept(ctx, job)
	if err != nil {
		return err
	}
	if t == nil {
		logger.Info().Msg(logevent.EventKnown)
		return nil
	}
	if t.company == uuid.Nil {
		t.company = company
	}
	t.traceparent = tracing.Traceparent(ctx)
	return t.during(f.work(ctx, t, msg, logger))
}

// during adds to a reason for a park which run it ended.
func (t *task) during(err error) error {
	var park *parkError
	if errors.As(err, &park) {
		park.run, park.company = t.run, t.company
	}
	return err
}

// work reads the job and all its pages, and seals it.
func (f *Fetcher) work(ctx context.Context, t *task, msg jetstream.Msg, logger zerolog.Logger) error {
	if err := f.ask(ctx, t, msg, logger); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, t.read.Deadline(), errExpired)
	defer cancel()
	f.note(ctx, t, 0, logger)
	draining, span := f.config.Traces.Start(ctx, tracing.SpanDrain)
	entries, err := f.drain(draining, t, logger)
	span.Set(tracing.Number(tracing.AttrItems, len(entries)))
	span.End(err)
	if err == nil {
		err = f.seal(ctx, t, entries, logger)
	}
	if errors.Is(context.Cause(ctx), errExpired) && err != nil {
		err = parkJob("%v (%s): %v", errExpired, t.read.Deadline().UTC().Format(time.RFC3339), err)
	}
	return err
}

// accept tells what an event means here: nil for a job that is held, parked or
// finished.
func (f *Fetcher) accept(ctx context.Context, job uuid.UUID) (*task, error) {
	t := &task{job: job, run: 1, attempt: nuid.Next()}
	state, err := f.state(ctx, job)
	if err != nil {
		return nil, err
	}
	if ledger.Final(state.GetPhase()) {
		// A replica may not know of a retry yet, and the event would be acked for
		// nothing.
		if state, err = f.jobs.Latest(ctx, job); err != nil && !errors.Is(err, jobstate.ErrNotFound) {
			return nil, err
		}
	}
	last, err := f.ledger.LastOfJob(ctx, job)
	if err != nil {
		return nil, err
	}
	// An end stands in the ledger before the bucket tells of it. Where it does not, its
	// record was lost, and the company's next job waits for it: it is written anew.
	// What is parked waits for a person, who retries it.
	endLost := ledger.Final(state.GetPhase()) && state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED && last.RunOrZero() == state.GetRun() && !ledger.Final(last.Record.GetEnd().GetPhase())
	if state != nil && !endLost {
		if state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
			company, err := subject.ParseID(state.GetCompanyId())
			if err != nil {
				company = uuid.Nil // parked before it could be read
			}
			return nil, f.tellParked(ctx, job, company, state.GetReason())
		}
		if ledger.Final(state.GetPhase()) {
			return nil, nil
		}
		t.known, t.run = true, max(t.run, state.GetRun())
		if company, err := subject.ParseID(state.GetCompanyId()); err == nil {
			t.company = company
		}
	}
	if last != nil {
		t.known = true
		asked := state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING && state.GetRun() > last.Record.GetRun()
		if ledger.Final(last.Record.GetEnd().GetPhase()) && !asked {
			return nil, f.tellEnd(ctx, state, last)
		}
	}
	manifest, sequence, err := f.manifest(ctx, job)
	if err != nil {
		return nil, err
	}
	if manifest != nil && manifest.GetRun() >= t.run && (last == nil || last.Record.GetEnd() == nil || manifest.GetRun() > last.Record.GetRun()) {
		return nil, nil
	}
	// A run whose manifest is gone is not gone on with: its positions belong to
	// items that are gone too.
	if last != nil {
		t.run = max(t.run, last.Record.GetRun()+1)
	}
	t.replaces = sequence
	return t, nil
}

// ask reads the job and, where it may, starts it.
func (f *Fetcher) ask(ctx context.Context, t *task, msg jetstream.Msg, logger zerolog.Logger) error {
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	err := f.find(asking, t)
	if err == nil && t.read.Status == pleo.JobPending && f.config.StartJobs {
		err = f.start(asking, t, logger)
	}
	if err == nil {
		return f.judge(t)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("ask Pleo about the job: %w", context.Cause(ctx))
	}
	if asking.Err() != nil {
		if meta, metaErr := msg.Metadata(); metaErr == nil && time.Since(meta.Timestamp) > askLimit {
			return t.park("Pleo could not be asked about the job for %s: %v", askLimit, err)
		}
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return f.refused(t, err)
}

// refused is what an answer means that is final for the call.
func (f *Fetcher) refused(t *task, err error) error {
	var api *pleo.APIError
	if errors.As(err, &api) && api.Status == http.StatusNotFound {
		return t.park("Pleo does not know the job: %v", api)
	}
	var park *parkError
	if errors.As(err, &park) {
		return err
	}
	if errors.As(err, &api) || pleo.IsPageFault(err) {
		return parkJob("Pleo refuses: %v", err)
	}
	return err
}

// park ends the event: as a job where the job was worked on here before.
func (t *task) park(format string, args ...any) error {
	if t.known {
		return parkJob(format, args...)
	}
	return parkEvent(format, args...)
}

func (f *Fetcher) readJob(ctx context.Context, t *task) error {
	return f.awaitJob(ctx, t, func(pleo.Job) bool { return true })
}

// awaitJob reads the job until it shows what is known of it from elsewhere.
func (f *Fetcher) awaitJob(ctx context.Context, t *task, shows func(pleo.Job) bool) error {
	read, err := t.pleo.AwaitJob(ctx, t.job.String(), pleo.ShowPatience, shows)
	if err != nil {
		return err
	}
	company, err := subject.ParseID(read.CompanyID)
	if err != nil {
		return fmt.Errorf("read job %s: company: %w", t.job, err)
	}
	t.read, t.company = read, company
	return nil
}

// start posts "started". A reply that was lost is resolved by reading the job.
func (f *Fetcher) start(ctx context.Context, t *task, logger zerolog.Logger) error {
	crashpoint.Before(crashpoint.FetcherStart)
	err := t.pleo.PostJobEvent(ctx, pleo.JobEvent{JobID: t.job.String(), Event: pleo.EventStarted})
	crashpoint.After(crashpoint.FetcherStart)
	var api *pleo.APIError
	if err != nil && (!errors.As(err, &api) || api.Status != http.StatusUnprocessableEntity) {
		return fmt.Errorf("start job %s: %w", t.job, err)
	}
	if err == nil {
		logger.Info().Msg(logevent.JobStarted)
	}
	if err != nil {
		// A first try whose reply was lost has started it, and that need not show at
		// once.
		return f.awaitJob(ctx, t, func(read pleo.Job) bool { return read.Status != pleo.JobPending })
	}
	if err := f.readJob(ctx, t); err != nil {
		return err
	}
	if t.read.Status == pleo.JobPending {
		// 202: accepted, not yet to be seen.
		t.read.Status = pleo.JobInProgress
	}
	return nil
}

// judge tells whether the job as read may be drained.
func (f *Fetcher) judge(t *task) error {
	switch {
	case t.read.Status == pleo.JobInProgress:
		if time.Now().After(t.read.Deadline()) {
			return parkJob("%v (%s)", errExpired, t.read.Deadline().UTC().Format(time.RFC3339))
		}
		return nil
	case t.read.Status == pleo.JobPending && f.config.StartJobs:
		return t.park("the job is still pending at Pleo after \"started\" was refused")
	case t.read.Status == pleo.JobPending:
		return t.park("the job is pending at Pleo: let the gateway start it, or set LEDGERLINE_START_JOBS=true, then `ledgerline retry %s`", t.job)
	case t.read.Status.Final() && t.known:
		return t.park("the job is %s at Pleo%s and its end is not recorded here", t.read.Status, reasonOf(t.read))
	case t.read.Status.Final():
		return t.park("the job is %s at Pleo%s and nothing of it is known here", t.read.Status, reasonOf(t.read))
	}
	return t.park("the job has the unknown status %q at Pleo", t.read.Status)
}

func reasonOf(job pleo.Job) string {
	switch {
	case job.FailureReasonType != "" && job.FailureReason != "":
		return fmt.Sprintf(" (%s: %s)", job.FailureReasonType, job.FailureReason)
	case job.FailureReasonType != "" || job.FailureReason != "":
		return fmt.Sprintf(" (%s%s)", job.FailureReasonType, job.FailureReason)
	}
	return ""
}

// note tells people, and consumers that look for a company's oldest job, that the
// job is being drained. It decides nothing, so trouble is only logged.
//
// A fetcher that was overtaken, by a consumer or by a later run, says nothing.
func (f *Fetcher) note(ctx context.Context, t *task, pages int, logger zerolog.Logger) {
	crashpoint.Before(crashpoint.FetcherNote)
	_, err := f.jobs.Update(ctx, t.job, func(s *ledgerlinev1.JobState) error {
		if s.GetRun() > t.run || s.GetRun() == t.run && s.GetPhase() > ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
			return errTaken
		}
		if s.GetRun() < t.run {
			// The name of the run's before: nobody is at this one but its fetcher.
			s.Worker = ""
		}
		s.CompanyId = t.company.String()
		s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
		s.Run = t.run
		s.Reason = ""
		s.Pages = uint32(pages)
		s.Total, s.Position = 0, 0
		s.EndedAt = nil
		if !t.read.CreatedAt.IsZero() {
			s.CreatedAt = timestamppb.New(t.read.CreatedAt)
		}
		s.Deadline = timestamppb.New(t.read.Deadline())
		return nil
	})
	crashpoint.After(crashpoint.FetcherNote)
	if err != nil && !errors.Is(err, errTaken) && !errors.Is(context.Cause(ctx), lease.ErrLost) {
		logger.Warn().Err(err).Msg(logevent.StateNotWritten)
	}
}
