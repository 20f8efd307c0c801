package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/httpserve"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
)

// readyTimeout bounds the question whether the streams are there; a probe waits
// for it.
const readyTimeout = 2 * time.Second

// Worker is one service in the process.
type Worker interface {
	// Run works until ctx ends, finishes what is in hand and returns nil.
	Run(ctx context.Context) error
	// Ready is nil once the worker's streams are there.
	Ready(ctx context.Context) error
}

// Options say what the workers run on.
type Options struct {
	HTTP   config.HTTP
	Logger zerolog.Logger
	// Metrics are shown on /metrics.
	Metrics *metrics.Set
	// Connect gives the connection; it may wait for NATS as long as ctx lives.
	Connect func(ctx context.Context) (*nats.Conn, error)
	// Build makes the workers once the connection is there. What it returns with
	// them is called when they have ended.
	Build func(ctx context.Context, conn *nats.Conn) (workers []Worker, cleanup func(), err error)
	// Listening is told the address of the HTTP server; nil for nobody.
	Listening func(addr string)
	// Handler gets the HTTP paths that are not the host's own; nil for none.
	Handler http.Handler
}

// Run returns nil when ctx ended and every worker has finished, or the first
// error.
func Run(ctx context.Context, o Options) error {
	state := &readiness{stop: ctx.Done()}
	server, err := httpserve.New(httpserve.Options{
		Listen: o.HTTP.Listen, Logger: o.Logger, Ready: state.check, Handler: o.Handler, Metrics: metrics.OrNew(o.Metrics).Handler(),
	})
	if err != nil {
		return err
	}
	if o.Listening != nil {
		o.Listening(server.Addr())
	}
	// The HTTP server outlives the workers: a process that finishes its item in
	// hand is healthy, and not ready.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		err := server.Run(serving)
		if err != nil {
			cancel(err)
		}
		served <- err
	}()
	err = work(ctx, o, state)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		var brokenServer error
		stopServing()
		if brokenServer = <-served; brokenServer != nil {
			return brokenServer
		}
		return nil
	}
	stopServing()
	return errors.Join(err, <-served)
}

func work(ctx context.Context, o Options, state *readiness) error {
	conn, err := o.Connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end while it waited
		}
		return err
	}
	defer conn.Close()
	workers, cleanup, err := o.Build(ctx, conn)
	if err != nil {
		return err
	}
	defer cleanup()
	state.set(conn, workers)
	defer state.set(nil, nil)
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		group.Go(func() error { return w.Run(ctx) })
	}
	return group.Wait()
}

// readiness is what /readyz asks.
type readiness struct {
	stop <-chan struct{} // closed when the process is to end

	mu      sync.Mutex
	conn    *nats.Conn
	workers []Worker
}

func (r *readiness) set(conn *nats.Conn, workers []Worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.workers = conn, workers
}

func (r *readiness) check() error {
	r.mu.Lock()
	conn, workers := r.conn, r.workers
	r.mu.Unlock()
	select {
	case <-r.stop: // the item in hand is finished, nothing more is taken
		return errors.New("shutting down")
	default:
	}
	if conn == nil {
		return errors.New("not connected to NATS")
	}
	if err := natsconn.Ready(conn); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for _, w := range workers {
		if err := w.Ready(ctx); err != nil {
			return fmt.Errorf("the streams are not there: %w", err)
		}
	}
	return nil
}
