package installation

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/gateway"
)

// Settings are the groups of settings of an installation.
type Settings struct {
	Embedded config.Embedded
	Streams  config.Streams
	HTTP     config.HTTP
	Pleo     config.Pleo
	Fetcher  config.Fetcher
	Sink     config.Sink
	Consumer config.Consumer
	Gateway  config.Gateway
}

// Started is told what came up; each may be nil for nobody.
type Started struct {
	// Server takes connections.
	Server func(*embedded.Server)
	// HTTP listens on addr, for webhooks too.
	HTTP func(addr string)
}

// Run starts the server and the services and returns when ctx ended and all of
// them have finished, the server last.
func Run(ctx context.Context, s Settings, logger zerolog.Logger, started Started) (err error) {
	options, err := serverOptions(s.Embedded, logger)
	if err != nil {
		return err
	}
	server, err := embedded.Start(options)
	if err != nil {
		return fmt.Errorf("start the embedded NATS server: %w", err)
	}
	defer func() {
		if closeErr := server.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("stop the embedded NATS server: %w", closeErr)
		}
	}()
	if started.Server != nil {
		started.Server(server)
	}
	var webhooks gateway.Late
	return host.Run(ctx, host.Options{
		HTTP: s.HTTP, Logger: logger, Listening: started.HTTP, Handler: &webhooks,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, config.NATS{}, natsconn.Options{
				Name: "ledgerline-up", Logger: logger, InProcess: server.InProcess(),
			})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			return build(conn, s, &webhooks, logger)
		},
	})
}

func serverOptions(e config.Embedded, logger zerolog.Logger) (embedded.Options, error) {
	options := embedded.Options{DataDir: e.DataDir, Listen: e.Listen, Monitor: e.Monitor, Logger: logger}
	if e.Listen == "" {
		return options, nil
	}
	var err error
	if e.User.IsSet() {
		if options.User, err = e.User.Value(); err != nil {
			return options, err
		}
	}
	if e.Password.IsSet() {
		options.Password, err = e.Password.Value()
	}
	return options, err
}

func build(conn *nats.Conn, s Settings, webhooks *gateway.Late, logger zerolog.Logger) ([]host.Worker, func(), error) {
	f, closeFetcher, err := fetcher.FromSettings(conn, s.Streams, s.Pleo, s.Fetcher, logger.With().Str("service", "fetcher").Logger())
	if err != nil {
		return nil, nil, err
	}
	c, closeConsumer, err := consumer.FromSettings(conn, consumer.Groups{
		Streams: s.Streams, Pleo: s.Pleo, Sink: s.Sink, Consumer: s.Consumer,
	}, logger.With().Str("service", "consumer").Logger())
	if err != nil {
		closeFetcher()
		return nil, nil, err
	}
	g, closeGateway, err := gateway.FromSettings(conn, gateway.Groups{
		Streams: s.Streams, Pleo: s.Pleo, Sink: s.Sink, Gateway: s.Gateway,
	}, logger.With().Str("service", "gateway").Logger())
	if err != nil {
		closeFetcher()
		closeConsumer()
		return nil, nil, err
	}
	webhooks.Set(g)
	return []host.Worker{f, c, g}, func() { closeFetcher(); closeConsumer(); closeGateway() }, nil
}
