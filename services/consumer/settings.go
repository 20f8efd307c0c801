package consumer

import (
	"context"
	"fmt"
	"net/http"
	"os"

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
	"github.com/ledgerline/ledgerline/pkg/statuspage"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/upstream"
)

// Settings are those of the program `consumer`.
type Settings struct {
	Service    config.Service    `embed:""`
	Pleo       config.Pleo       `embed:""`
	Sink       config.Sink       `embed:""`
	Consumer   config.Consumer   `embed:""`
	Status     config.Status     `embed:""`
	StatusPage config.StatusPage `embed:""`
}

// Validate returns the faults that no group sees alone.
func (s Settings) Validate() config.Faults {
	return append(s.Consumer.RequirePleo(s.Pleo), s.Sink.CheckSpec(sink.Validate)...)
}

// Groups are the groups of settings that a consumer is made from.
type Groups struct {
	Streams  config.Streams
	Pleo     config.Pleo
	Sink     config.Sink
	Consumer config.Consumer
	// Metrics are counted on; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
	// Limits are those of a process that sends more requests than these; nil for limits
	// of its own.
	Limits *governor.Governor
}

// FromSettings is New for groups of settings. The sink and the clients for Pleo are
// opened here; cleanup closes them once Run has returned.
func FromSettings(conn *nats.Conn, g Groups, logger zerolog.Logger) (c *Consumer, cleanup func(), err error) {
	// No clients at all is nil, and not an empty one.
	var asPleo clients
	closeClients := func() {}
	if g.Pleo.HasCredentials() {
		all, err := upstream.New(upstream.Options{
			Settings: g.Pleo, Conn: conn, Replicas: g.Streams.Replicas, UserAgent: "ledgerline-consumer", Logger: logger,
			Observe: metrics.OrNew(g.Metrics).PleoCalled, Limits: g.Limits,
		})
		if err != nil {
			return nil, nil, err
		}
		asPleo, closeClients = all, all.Close
	}
	options := sink.Options{Timeout: g.Sink.Timeout, NATS: conn, Logger: logger, MaxConcurrent: g.Consumer.ConcurrentJobs}
	if g.Sink.Token.IsSet() {
		options.Token = g.Sink.Token.Value
	}
	to, err := sink.Open(g.Sink.Spec, options)
	if err != nil {
		closeClients()
		return nil, nil, fmt.Errorf("open the sink: %w", err)
	}
	cleanup = func() {
		if err := to.Close(); err != nil {
			logger.Warn().Err(err).Msg(logevent.SinkNotClosed)
		}
		closeClients()
	}
	c, err = New(Config{
		Conn: conn, Pleo: asPleo, Sink: to, Logger: logger, Metrics: g.Metrics, Traces: g.Traces,
		Topology:       topology.Options{Replicas: g.Streams.Replicas, Lease: g.Streams.Lease, LedgerMaxAge: g.Streams.LedgerMaxAge},
		Worker:         program.ProcessName("consumer"),
		ConcurrentJobs: g.Consumer.ConcurrentJobs,
		Payload:        Payload(g.Consumer.Payload),
		OnFailure:      OnFailure(g.Consumer.OnFailure),
		Report:         g.Consumer.Report,
		APITimeout:     topology.APITimeout(g.Streams.Lease),
	})
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	return c, cleanup, nil
}

func pageOptions(s *Settings, rt *program.Runtime) statuspage.Options {
	o := statuspage.Options{Program: "ledgerline " + rt.Name, Version: rt.Version, Logger: rt.Log}
	if s.Status.Token.IsSet() {
		o.Token = s.Status.Token.Value
	}
	return o
}

// Serve is the whole program: HTTP, NATS and the consumer, until ctx ends.
func Serve(ctx context.Context, s *Settings, rt *program.Runtime) error {
	shown := metrics.New("consumer", rt.Version)
	traces, err := tracing.New("consumer", rt.Version, os.Getenv, rt.Log)
	if err != nil {
		return err
	}
	defer traces.Close()
	var page *statuspage.Page
	var handler http.Handler // nil, and not an empty page
	if s.StatusPage.Shown {
		page = statuspage.New(pageOptions(s, rt))
		handler = page
	}
	return host.Run(ctx, host.Options{
		HTTP: s.Service.HTTP, Logger: rt.Log, Handler: handler, Metrics: shown,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, s.Service.NATS, natsconn.Options{Name: "ledgerline-consumer", Logger: rt.Log})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			c, cleanup, err := FromSettings(conn, Groups{
				Streams: s.Service.Streams, Pleo: s.Pleo, Sink: s.Sink, Consumer: s.Consumer, Metrics: shown, Traces: traces,
			}, rt.Log)
			if err != nil {
				return nil, nil, err
			}
			workers := []host.Worker{c}
			if page != nil {
				p, err := statuspage.OnNATS(page, conn, topology.APITimeout(s.Service.Streams.Lease))
				if err != nil {
					cleanup()
					return nil, nil, err
				}
				workers = append(workers, p)
			}
			return workers, cleanup, nil
		},
	})
}
