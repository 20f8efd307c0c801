package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// pollPatience bounds one poll: hundreds of pages, or Pleo's trouble.
	pollPatience = 5 * time.Minute
	// pollJitter keeps installations that started in the same minute from asking
	// Pleo in the same second for ever.
	pollJitter = 0.1
)

// announceStart asks for the poll of a gateway that starts, and sets the clock of
// those that follow.
//
// The queue is the clock: the poll is a message that whoever took it hands back
// with the interval as its delay. So of all gateways one polls, and when it dies
// in the middle another one does after the lease. A gateway that starts puts a new
// message in the place of the old one.
func (g *Gateway) announceStart(ctx context.Context) {
	for _, kind := range []subject.Detection{subject.DetectedStart, subject.DetectedPoll} {
		if kind == subject.DetectedPoll && g.config.PollInterval == 0 {
			return
		}
		for {
			err := g.store(ctx, subject.DetectedIn(kind, g.config.Company), detection{})
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			g.logger.Warn().Err(err).Msg(logevent.PollFailed)
			if !pause(ctx, pullPause) {
				return
			}
		}
	}
}

// carryOutPoll polls, or sets the clock.
func (g *Gateway) carryOutPoll(ctx context.Context, kind subject.Detection, scope string, msg jetstream.Msg, logger zerolog.Logger) error {
	if scope != subject.Scope(g.config.Company) {
		// The clock of a gateway with other settings; it must go on ticking.
		return later(foreignPause, "%v", errForeign)
	}
	if kind == subject.DetectedStart {
		if err := g.poll(ctx, true, logger); err != nil {
			logger.Warn().Err(err).Msg(logevent.PollFailed)
			return later(retryDelay(msg), "%v", err)
		}
		return nil
	}
	switch {
	case g.config.PollInterval == 0:
		return nil // a clock from before the setting was changed
	case deliveries(msg) <= 1:
		return later(g.interval(), "the next poll") // the start has polled
	}
	wait := g.interval()
	if err := g.poll(ctx, false, logger); err != nil {
		logger.Warn().Err(err).Msg(logevent.PollFailed)
		wait = min(wait, retryMost)
	}
	return later(wait, "the next poll")
}

// interval is the time until the next poll.
func (g *Gateway) interval() time.Duration {
	jitter := 1 + pollJitter*(2*rand.Float64()-1)
	return time.Duration(float64(g.config.PollInterval) * jitter)
}

// poll asks Pleo for jobs and stores a detection for each company that has one to
// start. At a gateway's start it also takes up what is in progress there and not
// known here, which nobody announces (trap 9); between, it does not, and a job
// that a gateway left behind comes back with its detection.
func (g *Gateway) poll(ctx context.Context, recovering bool, logger zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	jobs, pages, failed := g.discover(ctx, recovering)
	pending, inProgress := 0, 0
	companies := map[uuid.UUID]struct{}{}
	for _, job := range jobs {
		if job.Status == pleo.JobPending {
			pending++
		} else {
			inProgress++
		}
		switch known := g.here.job(job.id).standing; {
		case known == over || known == underWay:
			continue
		case known == unknown && job.Status == pleo.JobInProgress:
			if err := g.store(ctx, subject.Detected(subject.DetectedResume, job.id), detection{CompanyID: job.CompanyID}); err != nil {
				return err
			}
			continue
		}
		// A company that is busy here is looked at when it no longer is.
		if _, _, found := g.here.busy(job.company); !found {
			companies[job.company] = struct{}{}
		}
	}
	for company := range companies {
		if err := g.storeCompany(ctx, company); err != nil {
			return err
		}
	}
	event := logger.Debug()
	if recovering || len(companies) > 0 {
		event = logger.Info()
	}
	event.Bool("start", recovering).Int("pages", pages).Int("pending", pending).Int("in_progress", inProgress).
		Int("companies", len(companies)).Msg(logevent.JobsPolled)
	return failed
}

// discover lists the jobs with each credential. One that is refused does not keep
// the others from being asked: what they showed is returned with the error.
func (g *Gateway) discover(ctx context.Context, recovering bool) (jobs []candidate, pages int, failed error) {
	query := pleo.JobsQuery{Statuses: []pleo.JobStatus{pleo.JobPending}}
	if recovering {
		query.Statuses = append(query.Statuses, pleo.JobInProgress)
	}
	scopes := g.config.Listed
	if g.config.Company != uuid.Nil {
		scopes = []uuid.UUID{g.config.Company}
	} else if len(scopes) == 0 {
		scopes = []uuid.UUID{uuid.Nil}
	}
	for _, scope := range scopes {
		query.CompanyID = ""
		if scope != uuid.Nil {
			query.CompanyID = scope.String()
		}
		shown, n, err := g.listAll(ctx, scope, query)
		pages += n
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("jobs of %s: %w", subject.Scope(scope), err))
			continue
		}
		for _, job := range shown {
			// The default credential may show a company that has its own: only that
			// one's listing counts.
			if scope != uuid.Nil || !slices.Contains(g.config.Listed, job.company) {
				jobs = append(jobs, job)
			}
		}
	}
	return jobs, pages, failed
}
