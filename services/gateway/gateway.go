package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

const (
	// maxName bounds the name that stands in the bucket.
	maxName = 128
	// refusalsLogged bounds the log lines a second that strangers can cause.
	refusalsLogged = 5
)

// readier is what a gateway asks of a sink.
type readier interface {
	Ready(ctx context.Context) error
}

// clients give the client for a company's calls, or for uuid.Nil the default one.
type clients interface {
	For(company uuid.UUID) (*pleo.Client, error)
}

// Config is what a gateway needs.
type Config struct {
	Conn *nats.Conn
	// Pleo gives the client for a company; a *pleo.Client is one for all.
	Pleo clients
	// Listed are the companies with a credential of their own, and uuid.Nil where
	// there is a default one: each is polled for itself. None is the default alone.
	Listed []uuid.UUID
	// Sink is asked before a job is started; nil asks nobody.
	Sink   readier
	Logger zerolog.Logger
	// Topology is created where missing.
	Topology topology.Options
	// Name names this process in the jobs bucket; no two gateways share one.
	Name string
	// Company is the only one to look at; uuid.Nil is every one.
	Company uuid.UUID
	// PollInterval is the time between polls of all gateways together; 0 polls at
	// the start only.
	PollInterval time.Duration
	// ReadsPayload is true where a job's payload will be read: that the credential
	// may read it is looked at before the job is started.
	ReadsPayload bool
	// SigningKeys gives the keys that a webhook may be signed with, at each
	// webhook anew; nil or none refuses every webhook.
	SigningKeys func() ([][]byte, error)
	// APITimeout bounds one NATS request; below the lease.
	APITimeout time.Duration
	// Metrics are counted on; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
}

// Gateway is one gateway process. Run may be called once; Handler answers before
// and during it.
type Gateway struct {
	config Config
	js     jetstream.JetStream
	logger zerolog.Logger
	here   *here
	marks  *marks
	// recovery is what is left of the poll at a start.
	recovery recovery
	ready    *readiness
	wakes    *wakes
	hands    *hands
	// refusals logs webhooks that are refused: anybody can send one.
	refusals zerolog.Logger

	// Set by open, before the first detection is taken.
	jobs   *jobstate.Store
	parked *parked.Store
}

// New checks the configuration; nothing is contacted yet.
func New(c Config) (*Gateway, error) {
	var faults []error
	if c.Conn == nil || c.Pleo == nil {
		faults = append(faults, errors.New("a gateway needs NATS and a Pleo client"))
	}
	if c.Name == "" || len(c.Name) > maxName {
		faults = append(faults, fmt.Errorf("the gateway's name has 1 to %d bytes", maxName))
	}
	if c.PollInterval < 0 {
		faults = append(faults, errors.New("the poll interval is below 0"))
	}
	if c.Topology.Lease <= 0 {
		faults = append(faults, errors.New("the lease is not above 0"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	c.Metrics = metrics.OrNew(c.Metrics)
	js, err := jetstream.New(c.Conn, jetstream.WithDefaultTimeout(c.APITimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	g := &Gateway{
		config: c, js: js, logger: c.Logger,
		refusals: c.Logger.Sample(&zerolog.BurstSampler{Burst: refusalsLogged, Period: time.Second}),
		here:     newHere(), marks: newMarks(), wakes: newWakes(), hands: newHands(),
	}
	g.ready = &readiness{check: g.checkReady}
	return g, nil
}

// Ready is nil once NATS is connected and the streams are there.
func (g *Gateway) Ready(ctx context.Context) error { return topology.Check(ctx, g.js) }

// Handler answers POST /webhooks/pleo.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+WebhookPath, g.webhook)
	return mux
}

// Run takes detections until ctx ends; then it brings the starts in hand to their
// end, hands the rest back and returns nil. It returns an error only when it cannot
// work at all, such as one wrapping topology.ErrDiffers. NATS away is waited for.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start the gateway: %w", err)
	}
	event := g.logger.Info().Str("gateway", g.config.Name).Dur("poll_interval", g.config.PollInterval)
	if g.config.Company != uuid.Nil {
		event.Stringer("company_id", g.config.Company)
	}
	event.Msg(logevent.GatewayReady)
	g.warnUnsigned()

	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { g.watch(ctx) })
	running.Go(func() { g.wake(ctx) })
	running.Go(func() { g.listen(ctx) })
	running.Go(func() { g.announceStart(ctx) })
	running.Go(func() { g.keep(ctx) })
	g.take(ctx)
	return nil
}

// open makes the streams and learns which jobs are here: without that a look could
// start a job beside one that is in work.
func (g *Gateway) open(ctx context.Context) error {
	if err := topology.Ensure(ctx, g.js, g.config.Topology, g.logger); err != nil {
		return err
	}
	for {
		err := g.openStores(ctx)
		if err == nil {
			return nil
		}
		// Look-ups are tried again: servers that elect a leader refuse them.
		g.logger.Warn().Err(err).Msg(logevent.StatesUnwatched)
		if !pause(ctx, pullPause) {
			return err
		}
	}
}

func (g *Gateway) openStores(ctx context.Context) error {
	var err error
	if g.jobs, err = jobstate.Open(ctx, g.js); err != nil {
		return err
	}
	if g.parked, err = parked.Open(ctx, g.js); err != nil {
		return err
	}
	if err = g.jobs.List(ctx, g.here.learn); errors.Is(err, jobstate.ErrUnreadable) {
		// Whoever comes to such a job reads it again and leaves it alone.
		g.logger.Warn().Err(err).Msg(logevent.StatesUnwatched)
		return nil
	}
	return err
}

// store puts a detection into the queue and returns once JetStream has it.
func (g *Gateway) store(ctx context.Context, subj string, d detection) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.APITimeout)
	defer cancel()
	crashpoint.Before(crashpoint.GatewayStore)
	_, err = g.js.Publish(ctx, subj, data)
	crashpoint.After(crashpoint.GatewayStore)
	if err != nil {
		return fmt.Errorf("store the detection %s: %w", subj, err)
	}
	return nil
}

// storeCompany asks for a look at a company.
func (g *Gateway) storeCompany(ctx context.Context, company uuid.UUID) error {
	return g.store(ctx, subject.Detected(subject.DetectedCompany, company), detection{})
}

// serves tells whether this gateway looks at the company.
func (g *Gateway) serves(company uuid.UUID) bool {
	return g.config.Company == uuid.Nil || g.config.Company == company
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
