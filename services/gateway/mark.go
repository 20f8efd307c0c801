package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// maxSighted bounds the marks of other gateways that this one has an eye on.
const maxSighted = 100_000

// marks remembers marks of other gateways, so that one whose gateway is gone is
// found by this process's own clock: the bucket's times are the server's.
type marks struct {
	mu      sync.Mutex
	sighted map[uuid.UUID]sighting
}

type sighting struct {
	revision uint64
	at       time.Time
}

func newMarks() *marks { return &marks{sighted: map[uuid.UUID]sighting{}} }

// stale tells whether the mark has stood unrenewed for as long as patience.
func (m *marks) stale(job uuid.UUID, revision uint64, patience time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, found := m.sighted[job]
	if found && seen.revision == revision {
		return time.Since(seen.at) >= patience
	}
	if len(m.sighted) >= maxSighted {
		clear(m.sighted) // they are seen again
	}
	m.sighted[job] = sighting{revision: revision, at: time.Now()}
	return false
}

func (m *marks) forget(job uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sighted, job)
}

// mark is one job in this gateway's hand: in the bucket, as draining, with this
// gateway as its worker. It is renewed until it is handed on or let go; one that is
// not renewed any more may be taken over after a lease, by this gateway too.
type mark struct {
	g      *Gateway
	job    uuid.UUID
	logger zerolog.Logger
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// mark takes the job in hand by compare-and-set. The context ends with the mark.
// Errors: errHeld,
// errUnderWay, errOver.
func (g *Gateway) mark(ctx context.Context, job candidate, logger zerolog.Logger) (*mark, context.Context, error) {
	state, revision, err := g.jobs.Get(ctx, job.id)
	known := err == nil
	if errors.Is(err, jobstate.ErrNotFound) { // a deleted one has a revision all the same
		state, err = &ledgerlinev1.JobState{Run: 1}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if known {
		switch standing := standingOf(state); {
		case standing == over:
			return nil, nil, errOver
		case standing != starting:
			return nil, nil, errUnderWay
		case state.GetWorker() == g.config.Name:
			// Left from a try of this gateway that did not come to its end.
		case !g.marks.stale(job.id, revision, g.config.Topology.Lease):
			return nil, nil, errHeld
		default:
			logger.Warn().Str("gateway", state.GetWorker()).Msg(logevent.JobTaken)
		}
	}
	state.Phase = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
	state.Worker = g.config.Name
	state.CompanyId = job.company.String()
	if !job.CreatedAt.IsZero() {
		state.CreatedAt = timestamppb.New(job.CreatedAt)
	}
	state.Deadline = timestamppb.New(job.Deadline())
	written := time.Now()
	crashpoint.Before(crashpoint.GatewayMark)
	err = g.jobs.Replace(ctx, job.id, state, revision)
	crashpoint.After(crashpoint.GatewayMark)
	if err != nil {
		if errors.Is(err, jobstate.ErrChanged) {
			return nil, nil, errHeld
		}
		return nil, nil, err
	}
	g.marks.forget(job.id)
	held, cancel := context.WithCancelCause(ctx)
	m := &mark{g: g, job: job.id, logger: logger, cancel: cancel, done: make(chan struct{})}
	go m.renew(held, written)
	return m, held, nil
}

// renew writes the mark again at a quarter of the lease; its context ends before
// another gateway may take it for abandoned.
func (m *mark) renew(ctx context.Context, written time.Time) {
	defer close(m.done)
	lease := m.g.config.Topology.Lease
	ticker := time.NewTicker(lease / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		limited, cancel := context.WithTimeout(ctx, lease/4)
		err := m.update(limited, func(*ledgerlinev1.JobState) {})
		cancel()
		if err == nil {
			written = now
			continue
		}
		if ctx.Err() == nil && (errors.Is(err, errMarkLost) || time.Since(written) > lease*3/4) {
			m.logger.Warn().AnErr("cause", err).Msg(logevent.MarkLost)
			m.cancel(errMarkLost)
			return
		}
	}
}

// update changes the job's state while it is this gateway's, and keeps what an
// operator has asked for meanwhile.
func (m *mark) update(ctx context.Context, change func(*ledgerlinev1.JobState)) error {
	crashpoint.Before(crashpoint.GatewayState)
	_, err := m.g.jobs.Update(ctx, m.job, func(s *ledgerlinev1.JobState) error {
		if !jobstate.Starting(s) || s.GetWorker() != m.g.config.Name {
			return errMarkLost
		}
		change(s)
		return nil
	})
	crashpoint.After(crashpoint.GatewayState)
	return err
}

// stop ends the renewing. The mark stays in the bucket.
func (m *mark) stop() {
	m.cancel(context.Canceled)
	<-m.done
}

// handOn leaves the job to the fetchers: its event is published. A fetcher may have
// it already, or even a consumer.
func (m *mark) handOn(ctx context.Context) {
	m.stop()
	err := m.update(ctx, func(s *ledgerlinev1.JobState) { s.Worker, s.Reason = "", "" })
	if err != nil && !errors.Is(err, errMarkLost) {
		// The detection is acked all the same: the fetcher writes the state anew.
		m.logger.Warn().Err(err).Msg(logevent.StateNotWritten)
	}
}

// end writes how a job that was not started has ended.
func (m *mark) end(ctx context.Context, phase ledgerlinev1.JobPhase, reason string) error {
	m.stop()
	return m.update(ctx, func(s *ledgerlinev1.JobState) {
		s.Phase, s.Reason, s.Worker = phase, reason, ""
		if ledger.Final(phase) {
			s.EndedAt = timestamppb.Now()
		}
	})
}
