package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
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
	// pagePatience bounds the wait for one page of jobs, and parallelScopes is how many
	// credentials are listed with at a time, so that one that cannot be used does not
	// keep the others from being asked.
	pagePatience   = time.Minute
	parallelScopes = 8
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
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("which poll it is: %w", err)
		}
		failed := g.poll(ctx, g.recovery.left(meta.Sequence.Stream, g.scopes()), true, logger)
		if err := failed.err(); err != nil {
			g.recovery.keep(meta.Sequence.Stream, failed)
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
	if err := g.poll(ctx, g.scopes(), false, logger).err(); err != nil {
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

// failures are the scopes that a poll could not go through, each with its reason.
type failures map[uuid.UUID]error

func (f failures) err() error {
	var all error
	for scope, err := range f {
		all = errors.Join(all, fmt.Errorf("jobs of %s: %w", subject.Scope(scope), err))
	}
	return all
}

// recovery remembers what is left of the poll of a start that is tried again: a
// credential that is refused for hours must not have the others' companies searched
// for jobs in progress all that time, which by then may be another integration's.
type recovery struct {
	mu     sync.Mutex
	start  uint64 // sequence of its message
	scopes []uuid.UUID
}

func (r *recovery) left(start uint64, all []uuid.UUID) []uuid.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start == start {
		return r.scopes
	}
	return all
}

func (r *recovery) keep(start uint64, failed failures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.scopes = start, slices.Collect(maps.Keys(failed))
}

// scopes are the companies whose credentials list jobs, uuid.Nil for the default one.
func (g *Gateway) scopes() []uuid.UUID {
	switch {
	case g.config.Company != uuid.Nil:
		return []uuid.UUID{g.config.Company}
	case len(g.config.Listed) == 0:
		return []uuid.UUID{uuid.Nil}
	}
	return g.config.Listed
}

// poll asks Pleo for jobs, with several credentials at a time, and stores a detection
// for each company that has one to start. At a gateway's start it also takes up what is
// in progress there and not known here, which nobody announces (trap 9); between, it
// does not, and a job that a gateway left behind comes back with its detection.
func (g *Gateway) poll(ctx context.Context, scopes []uuid.UUID, recovering bool, logger zerolog.Logger) failures {
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	var mu sync.Mutex
	var sum polled
	failed := failures{}
	var asking sync.WaitGroup
	places := make(chan struct{}, parallelScopes)
	// By chance, so that a poll whose time does not do for all of them leaves others out
	// each time.
	scopes = slices.Clone(scopes)
	rand.Shuffle(len(scopes), func(i, k int) { scopes[i], scopes[k] = scopes[k], scopes[i] })
	for _, scope := range scopes {
		places <- struct{}{} // each gives its place back: pagePatience ends it
		asking.Go(func() {
			defer func() { <-places }()
			found, err := g.pollScope(ctx, scope, recovering)
			mu.Lock()
			defer mu.Unlock()
			sum.add(found)
			if err != nil {
				failed[scope] = err
			}
		})
	}
	asking.Wait()
	event := logger.Debug()
	if recovering || sum.companies > 0 {
		event = logger.Info()
	}
	event.Bool("start", recovering).Int("pages", sum.pages).Int("pending", sum.pending).Int("in_progress", sum.inProgress).
		Int("companies", sum.companies).Msg(logevent.JobsPolled)
	return failed
}

// polled counts what a poll has found.
type polled struct{ pages, pending, inProgress, companies int }

func (p *polled) add(other polled) {
	p.pages += other.pages
	p.pending += other.pending
	p.inProgress += other.inProgress
	p.companies += other.companies
}

// pollScope polls with one credential.
func (g *Gateway) pollScope(ctx context.Context, scope uuid.UUID, recovering bool) (found polled, err error) {
	query := pleo.JobsQuery{Statuses: []pleo.JobStatus{pleo.JobPending}}
	if recovering {
		query.Statuses = append(query.Statuses, pleo.JobInProgress)
	}
	if scope != uuid.Nil {
		query.CompanyID = scope.String()
	}
	jobs, pages, err := g.listAll(ctx, scope, query)
	found.pages = pages
	if err != nil {
		return found, err
	}
	companies := map[uuid.UUID]struct{}{}
	for _, job := range jobs {
		// The default credential may show a company that has its own: only that one's
		// listing counts.
		if scope == uuid.Nil && slices.Contains(g.config.Listed, job.company) {
			continue
		}
		if job.Status == pleo.JobPending {
			found.pending++
		} else {
			found.inProgress++
		}
		switch known := g.here.job(job.id).standing; {
		case known == over || known == underWay:
			continue
		case known == unknown && job.Status == pleo.JobInProgress:
			if err := g.store(ctx, subject.Detected(subject.DetectedResume, job.id), detection{CompanyID: job.CompanyID}); err != nil {
				return found, err
			}
			continue
		}
		// A company that is busy here is looked at when it no longer is.
		if _, _, busy := g.here.busy(job.company); !busy {
			companies[job.company] = struct{}{}
		}
	}
	found.companies = len(companies)
	for company := range companies {
		if err := g.storeCompany(ctx, company); err != nil {
			return found, err
		}
	}
	return found, nil
}
