package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// lease is the services' own default.
	lease = 10 * time.Second
	// patience ends a wait for something that does not come.
	patience = 5 * time.Minute
	// rawStream is where raw messages go: like the streams beside it in every
	// setting, so that only what is published differs.
	rawStream = "BENCH"
	// tidyInterval is how often it is looked whether ended jobs are purged.
	tidyInterval = 5 * time.Millisecond
)

// testbed is what is measured on: a server, or a cluster, with every write synced, the
// streams, and a simulated upstream.
type testbed struct {
	dial     func() (*nats.Conn, error)
	topology topology.Options
	conn     *nats.Conn
	js       jetstream.JetStream
	pipe     jetstream.Stream
	ledger   jetstream.Stream
	upstream *simulator.Simulator
	url      string
	states   *states
	stops    []func() error
}

// newTestbed is all in this process, as in `ledgerline up`.
func newTestbed(ctx context.Context, store string) (_ *testbed, err error) {
	b := &testbed{topology: streams()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	server, err := embedded.Start(embedded.Options{DataDir: store, Listen: "127.0.0.1:0", Logger: warnings()})
	if err != nil {
		return b, fmt.Errorf("start the embedded server: %w", err)
	}
	b.stops = append(b.stops, server.Close)
	b.dial = func() (*nats.Conn, error) { return nats.Connect("", server.InProcess()) }
	if err = b.open(ctx); err != nil {
		return b, err
	}
	raw := b.pipe.CachedInfo().Config
	raw.Name, raw.Subjects = rawStream, []string{"bench.>"}
	if _, err = b.js.CreateStream(ctx, raw); err != nil {
		return b, fmt.Errorf("create stream %s: %w", rawStream, err)
	}
	return b, nil
}

// open makes the streams on the server and starts the upstream.
func (b *testbed) open(ctx context.Context) (err error) {
	if b.conn, err = b.connect(); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	// A cluster that has just started has no leader yet.
	err = topology.Until(ctx, warnings(), func(ctx context.Context) error {
		return topology.Ensure(ctx, b.js, b.topology, warnings())
	})
	if err != nil {
		return fmt.Errorf("make the streams: %w", err)
	}
	if b.pipe, err = b.js.Stream(ctx, subject.StreamPipe); err != nil {
		return fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if b.ledger, err = b.js.Stream(ctx, subject.StreamLedger); err != nil {
		return fmt.Errorf("open stream %s: %w", subject.StreamLedger, err)
	}
	return b.start(ctx)
}

// start starts the simulated upstream and follows the jobs.
func (b *testbed) start(ctx context.Context) (err error) {
	if b.upstream, err = simulator.New(simulator.Config{}); err != nil {
		return fmt.Errorf("start the simulated Pleo: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on a free port: %w", err)
	}
	b.url = "http://" + listener.Addr().String()
	b.stops = append(b.stops, runs(ctx, func(ctx context.Context) error { return b.upstream.Run(ctx, listener) }))
	b.states, err = followStates(ctx, b.js)
	if err != nil {
		return err
	}
	b.stops = append(b.stops, b.states.stop)
	return nil
}

// close ends everything in the opposite order of its start.
func (b *testbed) close() error {
	var err error
	for i := len(b.stops) - 1; i >= 0; i-- {
		err = errors.Join(err, b.stops[i]())
	}
	b.stops = nil
	return err
}

// connect gives a connection of its own, as each service has one.
func (b *testbed) connect() (*nats.Conn, error) {
	conn, err := b.dial()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	b.stops = append(b.stops, func() error { conn.Close(); return nil })
	return conn, nil
}

func streams() topology.Options { return topology.Options{Replicas: 1, Lease: lease} }

// warnings is where the services log: what goes wrong is seen, and nothing else
// costs time.
func warnings() zerolog.Logger {
	return zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr}).Level(zerolog.WarnLevel)
}

// runs runs work until the returned function is called, which waits for its end.
func runs(ctx context.Context, work func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	return sync.OnceValue(func() error { cancel(); return <-done })
}

func (b *testbed) client() (*pleo.Client, error) {
	return pleo.New(pleo.Config{
		BaseURL: b.url, Auth: pleo.BearerToken(pleo.StaticSecret(simulator.DefaultToken)),
		PageSize: pleo.MaxPageSize, Logger: warnings(),
	})
}

// fetcher starts a fetcher.
func (b *testbed) fetcher(ctx context.Context, order fetcher.Order, logger zerolog.Logger) (stop func() error, err error) {
	conn, err := b.connect()
	if err != nil {
		return nil, err
	}
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	f, err := fetcher.New(fetcher.Config{
		Conn: conn, Pleo: client, Logger: logger, Topology: b.topology, Order: order, APITimeout: topology.APITimeout(lease),
	})
	if err != nil {
		return nil, err
	}
	stop = runs(ctx, f.Run)
	b.stops = append(b.stops, stop)
	return stop, nil
}

// seal adds jobs, each of a company of its own, and waits until the fetcher has
// sealed them.
func (b *testbed) seal(ctx context.Context, jobs, items int) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, jobs)
	for i := range ids {
		var err error
		if ids[i], err = b.upstream.AddJob(simulator.JobSpec{
			CompanyID: uuid.New(), Items: &items, Status: simulator.JobInProgress, Quiet: true,
		}); err != nil {
			return nil, fmt.Errorf("add a job: %w", err)
		}
		if _, err := steer.Publish(ctx, b.js, ids[i], ""); err != nil {
			return nil, err
		}
	}
	return ids, b.states.wait(ctx, ids, ledgerlinev1.JobPhase_JOB_PHASE_SEALED)
}

// tidy waits until ended jobs left nothing in the pipe: what they still do would
// be counted against the next measurement.
func (b *testbed) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("ended jobs were not purged"))
	defer cancel()
	ticker := time.NewTicker(tidyInterval)
	defer ticker.Stop()
	for {
		info, err := b.pipe.Info(ctx)
		if err != nil {
			return fmt.Errorf("look into the pipe: %w", err)
		}
		if info.State.Msgs == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// states knows the phase of each job, as the bucket tells it.
type states struct {
	stop func() error

	mu      sync.Mutex
	phases  map[string]ledgerlinev1.JobPhase
	reasons map[string]string
	changed chan struct{} // closed, and replaced, at each change
}

func followStates(ctx context.Context, js jetstream.JetStream) (*states, error) {
	store, err := jobstate.Open(ctx, js)
	if err != nil {
		return nil, err
	}
	s := &states{
		phases: map[string]ledgerlinev1.JobPhase{}, reasons: map[string]string{}, changed: make(chan struct{}),
	}
	s.stop = runs(ctx, func(ctx context.Context) error {
		err := store.Watch(ctx, func(state *ledgerlinev1.JobState, _ time.Time, _ bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.phases[state.GetJobId()], s.reasons[state.GetJobId()] = state.GetPhase(), state.GetReason()
			close(s.changed)
			s.changed = make(chan struct{})
		})
		if errors.Is(err, context.Canceled) {
			return nil // asked to end before it had begun
		}
		return err
	})
	return s, nil
}

// wait waits until every job is in the phase; one that is parked never will be.
func (s *states) wait(ctx context.Context, jobs []uuid.UUID, wanted ledgerlinev1.JobPhase) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the jobs were not %s in %s", wanted, patience))
	defer cancel()
	left := jobs
	for {
		s.mu.Lock()
		for len(left) > 0 && s.phases[left[0].String()] == wanted {
			left = left[1:]
		}
		changed := s.changed
		var phase ledgerlinev1.JobPhase
		var reason string
		if len(left) > 0 {
			phase, reason = s.phases[left[0].String()], s.reasons[left[0].String()]
		}
		s.mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		if phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
			return fmt.Errorf("job %s is parked: %s", left[0], reason)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
