package consumer

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/upstream"
)

// Settings are those of the program `consumer`.
type Settings struct {
	Service  config.Service  `embed:""`
	Pleo     config.Pleo     `embed:""`
	Sink     config.Sink     `embed:""`
	Consumer config.Consumer `embed:""`
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
		Conn: conn, Pleo: asPleo, Sink: to, Logger: logger,
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

// Serve is the whole program: HTTP, NATS and the consumer, until ctx ends.
func Serve(ctx context.Context, s *Settings, rt *program.Runtime) error {
	return host.Run(ctx, host.Options{
		HTTP: s.Service.HTTP, Logger: rt.Log,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, s.Service.NATS, natsconn.Options{Name: "ledgerline-consumer", Logger: rt.Log})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			c, cleanup, err := FromSettings(conn, Groups{
				Streams: s.Service.Streams, Pleo: s.Pleo, Sink: s.Sink, Consumer: s.Consumer,
			}, rt.Log)
			return []host.Worker{c}, cleanup, err
		},
	})
}
