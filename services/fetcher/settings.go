package fetcher

import (
	"context"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/governor"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/upstream"
)

// Settings are those of the program `fetcher`.
type Settings struct {
	Service config.Service `embed:""`
	Pleo    config.Pleo    `embed:""`
	Fetcher config.Fetcher `embed:""`
}

// Validate returns the faults that no group sees alone.
func (s Settings) Validate() config.Faults {
	return s.Pleo.RequireCredentials("jobs are read from Pleo")
}

// Groups are the groups of settings that a fetcher is made from.
type Groups struct {
	Streams config.Streams
	Pleo    config.Pleo
	Fetcher config.Fetcher
	// Metrics are counted on; nil for nobody.
	Metrics *metrics.Set
	// Traces gets the spans; nil for nobody.
	Traces *tracing.Tracer
	// Limits are those of a process that sends more requests than these; nil for limits
	// of its own.
	Limits *governor.Governor
}

// FromSettings is New for groups of settings. closeClients is called once Run has
// returned.
func FromSettings(conn *nats.Conn, g Groups, logger zerolog.Logger) (fetcher *Fetcher, closeClients func(), err error) {
	clients, err := upstream.New(upstream.Options{
		Settings: g.Pleo, Conn: conn, Replicas: g.Streams.Replicas, UserAgent: "ledgerline-fetcher", Logger: logger,
		Observe: metrics.OrNew(g.Metrics).PleoCalled, Limits: g.Limits,
	})
	if err != nil {
		return nil, nil, err
	}
	fetcher, err = New(Config{
		Conn: conn, Pleo: clients, Logger: logger, Metrics: g.Metrics, Traces: g.Traces,
		Topology:  topology.Options{Replicas: g.Streams.Replicas, Lease: g.Streams.Lease, LedgerMaxAge: g.Streams.LedgerMaxAge},
		Order:     Order(g.Fetcher.Order),
		StartJobs: g.Fetcher.StartJobs, APITimeout: topology.APITimeout(g.Streams.Lease),
	})
	if err != nil {
		clients.Close()
		return nil, nil, err
	}
	return fetcher, clients.Close, nil
}

// Serve is the whole program: HTTP, NATS and the fetcher, until ctx ends.
func Serve(ctx context.Context, s *Settings, rt *program.Runtime) error {
	shown := metrics.New("fetcher", rt.Version)
	traces, err := tracing.New("fetcher", rt.Version, os.Getenv, rt.Log)
	if err != nil {
		return err
	}
	defer traces.Close()
	return host.Run(ctx, host.Options{
		HTTP: s.Service.HTTP, Logger: rt.Log, Metrics: shown,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, s.Service.NATS, natsconn.Options{Name: "ledgerline-fetcher", Logger: rt.Log})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			f, closeClients, err := FromSettings(conn, Groups{
				Streams: s.Service.Streams, Pleo: s.Pleo, Fetcher: s.Fetcher, Metrics: shown, Traces: traces,
			}, rt.Log)
			return []host.Worker{f}, closeClients, err
		},
	})
}
