package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ledgerline/ledgerline/pkg/topology"
)

// awayFor is how long a refusal holds: thousands of companies may wait for a sink
// that is away, and it need not be asked for each.
const awayFor = time.Second

// readiness asks whether a job that is started now would get on.
type readiness struct {
	check func(ctx context.Context) error

	mu    sync.Mutex
	began time.Time // when the last question was asked
	at    time.Time // when it was answered
	err   error
}

// ask is nil when the sink and the streams were ready after it was called: a job is
// not started on an older word. Callers that come together share a question: those
// that come during one wait for the next.
func (r *readiness) ask(ctx context.Context) error {
	came := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.After(came) || r.err != nil && time.Since(r.at) < awayFor {
		return r.err
	}
	began := time.Now()
	err := r.check(ctx)
	if ctx.Err() != nil {
		return err // says something about the asker
	}
	r.began, r.at, r.err = began, time.Now(), err
	return err
}

// checkReady asks the sink and looks for the streams. Whether the credential works,
// with the scopes that the job will need, shows when the job and its payload are
// asked for, before anything is posted.
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
