package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ledgerline/ledgerline/pkg/topology"
)

// readyFor is how long an answer holds: many companies' jobs start at the same
// time, and the sink need not be asked for each.
const readyFor = time.Second

// readiness asks whether a job that is started now would get on.
type readiness struct {
	check func(ctx context.Context) error

	mu  sync.Mutex
	at  time.Time
	err error
}

// ask is nil when the sink and the streams were ready within readyFor. Callers that
// come together wait for one question.
func (r *readiness) ask(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readyFor {
		return r.err
	}
	err := r.check(ctx)
	if ctx.Err() != nil {
		return err // says something about the asker
	}
	r.at, r.err = time.Now(), err
	return err
}

// checkReady asks the sink and looks for the streams. Whether the credential works,
// with the scope to read jobs, shows when the job is read, before anything is
// posted.
func (g *Gateway) checkReady(ctx context.Context) error {
	streams, cancel := context.WithTimeout(ctx, g.config.APITimeout)
	defer cancel()
	if err := topology.Check(streams, g.js); err != nil {
		return err
	}
	if g.config.Sink == nil {
		return nil
	}
	if err := g.config.Sink.Ready(ctx); err != nil {
		return fmt.Errorf("the sink: %w", err)
	}
	return nil
}
