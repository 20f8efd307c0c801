package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// pullWait bounds one request for a manifest and with it how long a stop waits
	// for an idle consumer.
	pullWait = time.Second
	// pullPause is the wait after a pull that failed.
	pullPause = 500 * time.Millisecond
	// maxHeld is how many jobs a process keeps in hand that wait for their
	// company's turn; they cost a heartbeat each and no slot. Further ones go back
	// to the server for heldDelay.
	maxHeld   = 1_024
	heldDelay = 5 * time.Second
	// settleTimeout bounds what must still be done for a job whose lease or
	// process is ending.
	settleTimeout = 5 * time.Second
	// maxWorkerName bounds the name that stands in each ledger record.
	maxWorkerName = 128
)

// Payload tells what the sink gets of an item.
type Payload string

// The payloads of the outside contract.
const (
	// PayloadFull gives each item's upstream export item.
	PayloadFull Payload = "full"
	// PayloadNone gives null.
	PayloadNone Payload = "none"
)

// OnFailure tells what a permanently failed item does to its job.
type OnFailure string

// The ways of the outside contract.
const (
	// OnFailureContinue goes on with the next item.
	OnFailureContinue OnFailure = "continue"
	// OnFailureStop ends the job there.
	OnFailureStop OnFailure = "stop"
)

// clients gives the client that may read and update a company's jobs. An error says
// that there is none.
type clients interface {
	For(company uuid.UUID) (*pleo.Client, error)
}

// Config is what a consumer needs.
type Config struct {
	Conn *nats.Conn
	// Pleo gives the client for a company; a *pleo.Client is one for all. nil where
	// Report is false and Payload is none.
	Pleo   clients
	Sink   sink.Sink
	Logger zerolog.Logger
	// Topology is created where missing.
	Topology topology.Options
	// Worker names this process in the ledger.
	Worker string
	// ConcurrentJobs is how many jobs are worked on at a time.
	ConcurrentJobs int
	Payload        Payload
	OnFailure      OnFailure
	// Report tells Pleo each result and the end of the job.
	Report bool
	// APITimeout bounds one NATS request; below the lease.
	APITimeout time.Duration
	// Recorder replaces the ledger's claim; nil for the ledger itself. Tests put
	// a fault in between.
	Recorder func(*ledger.Ledger) Claimer
	// Metrics are counted on, and show the whole installation's lag; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
}

func (c Config) needsPleo() bool { return c.Report || c.Payload == PayloadFull }

// Consumer is one consumer process. Run may be called once.
type Consumer struct {
	config  Config
	js      jetstream.JetStream
	logger  zerolog.Logger
	metrics *metrics.Set
	turns   *turns
	slots   chan struct{}
	held    atomic.Int64

	// Set by open, before the first manifest is taken.
	pipe    jetstream.Stream
	ledger  *ledger.Ledger
	places  places
	claimer Claimer
	jobs    *jobstate.Store
	parked  *parked.Store
}

// New checks the configuration; nothing is contacted yet.
func New(c Config) (*Consumer, error) {
	var faults []error
	if c.Payload != PayloadFull && c.Payload != PayloadNone {
		faults = append(faults, fmt.Errorf("payload %q is unknown: it is %q or %q", c.Payload, PayloadFull, PayloadNone))
	}
	if c.OnFailure != OnFailureContinue && c.OnFailure != OnFailureStop {
		faults = append(faults, fmt.Errorf("on failure %q is unknown: it is %q or %q", c.OnFailure, OnFailureContinue, OnFailureStop))
	}
	if c.Pleo == nil && c.needsPleo() {
		faults = append(faults, errors.New("reporting and full payloads need a Pleo client"))
	}
	if c.ConcurrentJobs < 1 {
		faults = append(faults, errors.New("at least one job at a time"))
	}
	if c.Worker == "" || len(c.Worker) > maxWorkerName {
		faults = append(faults, fmt.Errorf("the worker's name has 1 to %d bytes", maxWorkerName))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	js, err := jetstream.New(c.Conn, jetstream.WithDefaultTimeout(c.APITimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Consumer{
		config: c, js: js, logger: c.Logger, metrics: metrics.OrNew(c.Metrics),
		turns: newTurns(c.Topology.Lease),
		slots: make(chan struct{}, c.ConcurrentJobs),
	}, nil
}

// Ready is nil once NATS is connected and the streams are there.
func (c *Consumer) Ready(ctx context.Context) error { return topology.Check(ctx, c.js) }

// Run works jobs until ctx ends; then it finishes the items in hand, reports what
// was booked, hands the jobs back and returns nil. It returns an error only when
// it cannot work at all, such as one wrapping topology.ErrDiffers. NATS away is
// waited for.
func (c *Consumer) Run(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start the consumer: %w", err)
	}
	c.logger.Info().Str("worker", c.config.Worker).Msg(logevent.ConsumerReady)

	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.watch(ctx) })
	running.Go(func() { c.offer(ctx) })
	running.Go(func() {
		// What is renewed shows by itself: the watch begins anew, and a claim sees
		// whether its ledger is older than its manifest.
		topology.Keep(ctx, c.js, c.config.Topology, c.logger, func([]string) {})
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case c.slots <- struct{}{}:
		}
		msg, taken, err := c.next(ctx)
		if msg == nil {
			<-c.slots
			if err != nil && !pause(ctx, pullPause) {
				return nil
			}
			continue
		}
		running.Go(func() { c.handle(ctx, msg, taken) })
	}
}

func (c *Consumer) open(ctx context.Context) error {
	if err := topology.Ensure(ctx, c.js, c.config.Topology, c.logger); err != nil {
		return err
	}
	return topology.Until(ctx, c.logger, c.openStores)
}

func (c *Consumer) openStores(ctx context.Context) error {
	var err error
	if c.pipe, err = c.js.Stream(ctx, subject.StreamPipe); err != nil {
		return fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if c.ledger, err = ledger.Open(ctx, c.js); err != nil {
		return err
	}
	c.claimer = c.ledger
	if c.config.Recorder != nil {
		c.claimer = c.config.Recorder(c.ledger)
	}
	if c.jobs, err = jobstate.Open(ctx, c.js); err != nil {
		return err
	}
	if c.parked, err = parked.Open(ctx, c.js); err != nil {
		return err
	}
	waiting, err := lag.Open(ctx, c.js)
	if err != nil {
		return err
	}
	c.metrics.Follow(waiting)
	// Before the first manifest: a worker that knows no other jobs would begin a
	// younger one before an older or a paused one of its company. What cannot be
	// read hides nothing else; the ledger keeps two from running at once.
	err = c.jobs.List(ctx, func(s *ledgerlinev1.JobState, at time.Time) { c.visit(s, at, false) })
	if err != nil {
		c.logger.Warn().Err(err).Msg(logevent.JobsUnwatched)
	}
	return nil
}

// next is the next manifest, or nil when none came in pullWait. One is asked for
// at a time: the server serves waiting processes in turn, so the load spreads.
func (c *Consumer) next(ctx context.Context) (msg jetstream.Msg, taken time.Time, err error) {
	msg, taken, err = pull.Next(ctx, c.js, subject.StreamPipe, subject.DurableConsumer, pullWait)
	if err != nil && ctx.Err() == nil {
		c.logger.Warn().Err(err).Msg(logevent.ManifestsUnreachable)
	}
	return msg, taken, err
}

// watch follows the jobs bucket, so that a job learns when its company's turn
// comes.
func (c *Consumer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.jobs.Watch(ctx, c.visit); err != nil && ctx.Err() == nil {
			c.logger.Warn().Err(err).Msg(logevent.JobsUnwatched)
			pause(ctx, pullPause)
		}
	}
}

func (c *Consumer) visit(s *ledgerlinev1.JobState, at time.Time, removed bool) {
	if c.turns.visit(s, at, removed) {
		c.logger.Info().Str("job_id", s.GetJobId()).Str("request", s.GetRequest().String()).Msg(logevent.WishSeen)
	}
}

// pause waits and tells whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
