package gateway

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/governor"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/upstream"
)

// Settings are those of the program `gateway`.
type Settings struct {
	Service config.Service `embed:""`
	Pleo    config.Pleo    `embed:""`
	Sink    config.Sink    `embed:""`
	Gateway config.Gateway `embed:""`

	PayloadReads config.PayloadReads `embed:""`
}

// Validate returns the faults that no group sees alone.
func (s Settings) Validate() config.Faults {
	return append(s.Pleo.RequireCredentials("jobs are started at Pleo"), s.Sink.CheckSpec(sink.Validate)...)
}

// Groups are the groups of settings that a gateway is made from.
type Groups struct {
	Streams config.Streams
	Pleo    config.Pleo
	Sink    config.Sink
	Gateway config.Gateway
	// PayloadReads are those of the fetchers and consumers.
	PayloadReads config.PayloadReads
	// Metrics are counted on; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
	// Limits are those of a process that sends more requests than these; nil for limits
	// of its own.
	Limits *governor.Governor
}

// FromSettings is New for groups of settings. The sink is opened here, to be asked
// whether it is ready and for nothing else; cleanup closes it, and the clients,
// once Run has returned.
func FromSettings(conn *nats.Conn, g Groups, logger zerolog.Logger) (gateway *Gateway, cleanup func(), err error) {
	company := uuid.Nil
	if g.Gateway.CompanyID != "" {
		if company, err = subject.ParseID(g.Gateway.CompanyID); err != nil {
			return nil, nil, fmt.Errorf("LEDGERLINE_COMPANY_ID: %w", err)
		}
	}
	clients, err := upstream.New(upstream.Options{
		Settings: g.Pleo, Conn: conn, Replicas: g.Streams.Replicas, UserAgent: "ledgerline-gateway", Logger: logger,
		Observe: metrics.OrNew(g.Metrics).PleoCalled, Limits: g.Limits,
		// A look comes again by itself, and holds the looks at other companies up.
		Impatient: true,
	})
	if err != nil {
		return nil, nil, err
	}
	options := sink.Options{Timeout: g.Sink.Timeout, NATS: conn, Logger: logger, MaxConcurrent: 1}
	if g.Sink.Token.IsSet() {
		options.Token = g.Sink.Token.Value
	}
	to, err := sink.Open(g.Sink.Spec, options)
	if err != nil {
		clients.Close()
		return nil, nil, fmt.Errorf("open the sink: %w", err)
	}
	cleanup = func() {
		clients.Close()
		if err := to.Close(); err != nil {
			logger.Warn().Err(err).Msg(logevent.SinkNotClosed)
		}
	}
	gateway, err = New(Config{
		Conn: conn, Pleo: clients, Listed: clients.Listed(), Sink: to, Logger: logger,
		Topology:     topology.Options{Replicas: g.Streams.Replicas, Lease: g.Streams.Lease, LedgerMaxAge: g.Streams.LedgerMaxAge},
		Name:         program.ProcessName("gateway"),
		Company:      company,
		PollInterval: g.Gateway.PollInterval,
		ReadsPayload: g.PayloadReads.Any(),
		SigningKeys:  g.Gateway.SigningKeys,
		APITimeout:   topology.APITimeout(g.Streams.Lease),
		Metrics:      g.Metrics,
		Traces:       g.Traces,
	})
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	return gateway, cleanup, nil
}

// Serve is the whole program: HTTP, NATS and the gateway, until ctx ends.
func Serve(ctx context.Context, s *Settings, rt *program.Runtime) error {
	var late Late
	shown := metrics.New("gateway", rt.Version)
	traces, err := tracing.New("gateway", rt.Version, os.Getenv, rt.Log)
	if err != nil {
		return err
	}
	defer traces.Close()
	return host.Run(ctx, host.Options{
		HTTP: s.Service.HTTP, Logger: rt.Log, Handler: &late, Metrics: shown,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, s.Service.NATS, natsconn.Options{Name: "ledgerline-gateway", Logger: rt.Log})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			g, cleanup, err := FromSettings(conn, Groups{
				Streams: s.Service.Streams, Pleo: s.Pleo, Sink: s.Sink, Gateway: s.Gateway, PayloadReads: s.PayloadReads,
				Metrics: shown, Traces: traces,
			}, rt.Log)
			if err == nil {
				late.Set(g)
			}
			return []host.Worker{g}, cleanup, err
		},
	})
}

// Late is the handler of a gateway that is not made yet, as long as NATS was not
// reached: until Set it answers 503, so that a webhook comes again. The zero Late
// is ready for use.
type Late struct{ handler atomic.Pointer[http.Handler] }

// Set puts the gateway in place.
func (l *Late) Set(g *Gateway) {
	handler := g.Handler()
	l.handler.Store(&handler)
}

// ServeHTTP answers for the gateway.
func (l *Late) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := l.handler.Load(); handler != nil {
		(*handler).ServeHTTP(w, r)
		return
	}
	if r.URL.Path != WebhookPath {
		http.NotFound(w, r)
		return
	}
	notNow(w)
}
