package fetcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// parallelDrains is how many jobs one fetcher reads at a time. Pleo's rate
	// limit is shared by all of them, so more would only hold more memory: a
	// drain of a million items takes some tens of megabytes.
	parallelDrains = 8
	// pullWait bounds one request for an event and with it how long a stop waits
	// for an idle fetcher.
	pullWait = time.Second
	// pullPause is the wait after a pull that failed.
	pullPause = 500 * time.Millisecond
	// settleTimeout bounds what must still be done for an event whose lease or
	// process is ending: a park, an ack, a purge.
	settleTimeout = 5 * time.Second
)

// Order is the order of a job's items.
type Order string

// The orders of the outside contract.
const (
	// OrderDate sorts by transaction date, as an instant, then by entry id.
	OrderDate Order = "date"
	// OrderEntry sorts by entry id alone; no payload is read.
	OrderEntry Order = "entry"
)

// clients gives the client that may read and update a company's jobs; for uuid.Nil
// the default one. An error says that there is none.
type clients interface {
	For(company uuid.UUID) (*pleo.Client, error)
}

// Config is what a fetcher needs.
type Config struct {
	Conn *nats.Conn
	// Pleo gives the client for a company; a *pleo.Client is one for all.
	Pleo   clients
	Logger zerolog.Logger
	// Topology is created where missing.
	Topology topology.Options
	Order    Order
	// StartJobs posts "started" for a job that is pending at Pleo.
	StartJobs bool
	// APITimeout bounds one NATS request; below the lease, so that a call that
	// hangs through a fail-over does not outlive it.
	APITimeout time.Duration
	// TendInterval is how often manifests are looked after, about; 0 for the usual.
	TendInterval time.Duration
	// Metrics are counted on; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
}

// Fetcher is one fetcher process. Run may be called once.
type Fetcher struct {
	config  Config
	js      jetstream.JetStream
	logger  zerolog.Logger
	metrics *metrics.Set
	// renewed holds one when a stream was made anew since the janitor looked.
	renewed chan struct{}

	// Set by open, before the first event is taken.
	pipe   jetstream.Stream
	ledger *ledger.Ledger
	jobs   *jobstate.Store
	parked *parked.Store
}

// New checks the configuration; nothing is contacted yet.
func New(c Config) (*Fetcher, error) {
	if c.Order != OrderDate && c.Order != OrderEntry {
		return nil, fmt.Errorf("order %q is unknown: it is %q or %q", c.Order, OrderDate, OrderEntry)
	}
	js, err := jetstream.New(c.Conn, jetstream.WithDefaultTimeout(c.APITimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	if c.TendInterval == 0 {
		c.TendInterval = tendInterval
	}
	return &Fetcher{config: c, js: js, logger: c.Logger, metrics: metrics.OrNew(c.Metrics), renewed: make(chan struct{}, 1)}, nil
}

// Ready is nil once NATS is connected and the streams are there.
func (f *Fetcher) Ready(ctx context.Context) error { return topology.Check(ctx, f.js) }

// Run takes events until ctx ends; then it hands back what it holds and returns
// nil. It returns an error only when it cannot work at all, such as one wrapping
// topology.ErrDiffers. NATS away is waited for.
func (f *Fetcher) Run(ctx context.Context) error {
	if err := f.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start the fetcher: %w", err)
	}
	f.logger.Info().Msg(logevent.FetcherReady)

	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { f.sweep(ctx) })
	running.Go(func() { f.keep(ctx) })
	running.Go(func() { f.tend(ctx) })
	running.Go(func() { f.offer(ctx) })

	slots := make(chan struct{}, parallelDrains)
	for {
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		msg, taken, err := f.next(ctx)
		if msg == nil {
			<-slots
			if err != nil && !pause(ctx, pullPause) {
				return nil
			}
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			f.handle(ctx, msg, taken)
		})
	}
}

func (f *Fetcher) open(ctx context.Context) error {
	if err := topology.Ensure(ctx, f.js, f.config.Topology, f.logger); err != nil {
		return err
	}
	return topology.Until(ctx, f.logger, f.openStores)
}

func (f *Fetcher) openStores(ctx context.Context) error {
	var err error
	if f.pipe, err = f.js.Stream(ctx, subject.StreamPipe); err != nil {
		return fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if f.ledger, err = ledger.Open(ctx, f.js); err != nil {
		return err
	}
	if f.jobs, err = jobstate.Open(ctx, f.js); err != nil {
		return err
	}
	f.parked, err = parked.Open(ctx, f.js)
	return err
}

// next is the next event, or nil when none came in pullWait.
func (f *Fetcher) next(ctx context.Context) (msg jetstream.Msg, taken time.Time, err error) {
	msg, taken, err = pull.Next(ctx, f.js, subject.StreamEvents, subject.DurableFetcher, pullWait)
	if err != nil && ctx.Err() == nil {
		f.logger.Warn().Err(err).Msg(logevent.EventsUnreachable)
	}
	return msg, taken, err
}

// handle brings one event to its end: sealed, parked, known, or handed back.
func (f *Fetcher) handle(ctx context.Context, msg jetstream.Msg, taken time.Time) {
	logger := f.logger
	job, company, err := readEvent(contentTypeOf(msg), msg.Data())
	if err == nil {
		logger = logger.With().Stringer("job_id", job).Logger()
		held, leased := lease.Keep(ctx, f.config.Conn, msg.Reply(), taken, f.config.Topology.Lease, logger)
		traced, span := f.config.Traces.Start(
			tracing.Continue(leased, job, msg.Headers().Get(subject.HeaderTraceparent)), tracing.SpanFetch, tracing.Text(tracing.AttrJob, job.String()))
		err = f.fetch(traced, job, company, msg, logger)
		span.End(err)
		held.Stop()
	}

	// What is left to do outlives ctx: an event is never left without a word.
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var park *parkError
	switch {
	case err == nil || errors.Is(err, errTaken):
		crashpoint.Before(crashpoint.FetcherAck)
		err = msg.DoubleAck(settle)
		crashpoint.After(crashpoint.FetcherAck)
	case errors.As(err, &park):
		if err = f.park(settle, msg, job, park, logger); errors.Is(err, errLater) {
			err = handBack(msg, err, logger)
		}
	case ctx.Err() != nil:
		// Stopping: another replica goes on at once.
		crashpoint.Before(crashpoint.FetcherReturn)
		err = msg.Nak()
		crashpoint.After(crashpoint.FetcherReturn)
	case errors.Is(err, lease.ErrLost):
		logger.Warn().Err(err).Msg(logevent.DrainAbandoned)
		return
	default:
		err = handBack(msg, err, logger)
	}
	if err != nil {
		// The lease runs out and the event comes again: nothing is lost.
		logger.Warn().Err(err).Msg(logevent.EventNotSettled)
	}
}

// handBack lets an event come again later.
func handBack(msg jetstream.Msg, why error, logger zerolog.Logger) error {
	delay := handBackDelay(msg, why)
	logger.Warn().Err(why).Dur("retry_in", delay).Msg(logevent.EventHandedBack)
	crashpoint.Before(crashpoint.FetcherDelay)
	err := msg.NakWithDelay(delay)
	crashpoint.After(crashpoint.FetcherDelay)
	return err
}

// handBackDelay grows with the deliveries of an event, from a second to half a
// minute; not where NATS did not answer, which is no fault of the job's and passes.
func handBackDelay(msg jetstream.Msg, reason error) time.Duration {
	const least, most = time.Second, 30 * time.Second
	meta, err := msg.Metadata()
	if err != nil || natsconn.Unanswered(reason) && !errors.Is(reason, errLater) {
		return least
	}
	return min(most, least<<min(meta.NumDelivered-1, 5))
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
