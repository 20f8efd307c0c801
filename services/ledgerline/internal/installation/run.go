package installation

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/statuspage"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/upstream"
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
	Status   config.Status
	// Name is what the status page calls the installation.
	Name, Version string
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
	traces, err := tracing.New("up", program.Version(), os.Getenv, logger)
	if err != nil {
		return err
	}
	defer traces.Close()
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
	shown := metrics.New("ledgerline", program.Version())
	page := statuspage.New(pageOptions(s, logger))
	routes := http.NewServeMux()
	routes.Handle("/", page)
	routes.Handle(gateway.WebhookPath, &webhooks)
	return host.Run(ctx, host.Options{
		HTTP: s.HTTP, Logger: logger, Listening: started.HTTP, Handler: routes, Metrics: shown,
		Connect: func(ctx context.Context) (*nats.Conn, error) {
			return natsconn.Connect(ctx, config.NATS{}, natsconn.Options{
				Name: "ledgerline-up", Logger: logger, InProcess: server.InProcess(),
			})
		},
		Build: func(_ context.Context, conn *nats.Conn) ([]host.Worker, func(), error) {
			workers, cleanup, err := build(conn, s, &webhooks, page, shown, traces, logger)
			return append(workers, store{server}), cleanup, err
		},
	})
}

func pageOptions(s Settings, logger zerolog.Logger) statuspage.Options {
	o := statuspage.Options{Program: s.Name, Version: s.Version, Logger: logger.With().Str("service", "status page").Logger()}
	if s.Status.Token.IsSet() {
		o.Token = s.Status.Token.Value
	}
	return o
}

// store lets /readyz tell that the store cannot be written, as on a full disk.
type store struct{ server *embedded.Server }

func (s store) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s store) Ready(context.Context) error { return s.server.Ready() }

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

func build(conn *nats.Conn, s Settings, webhooks *gateway.Late, page *statuspage.Page, shown *metrics.Set, traces *tracing.Tracer, logger zerolog.Logger) ([]host.Worker, func(), error) {
	// The rate is the process's, over all three.
	limits, err := upstream.NewLimits(conn, s.Pleo, s.Streams.Replicas, logger)
	if err != nil {
		return nil, nil, err
	}
	f, closeFetcher, err := fetcher.FromSettings(conn, fetcher.Groups{
		Streams: s.Streams, Pleo: s.Pleo, Fetcher: s.Fetcher, Metrics: shown, Traces: traces, Limits: limits,
	}, logger.With().Str("service", "fetcher").Logger())
	if err != nil {
		return nil, nil, err
	}
	c, closeConsumer, err := consumer.FromSettings(conn, consumer.Groups{
		Streams: s.Streams, Pleo: s.Pleo, Sink: s.Sink, Consumer: s.Consumer, Metrics: shown, Traces: traces, Limits: limits,
	}, logger.With().Str("service", "consumer").Logger())
	if err != nil {
		closeFetcher()
		return nil, nil, err
	}
	g, closeGateway, err := gateway.FromSettings(conn, gateway.Groups{
		Streams: s.Streams, Pleo: s.Pleo, Sink: s.Sink, Gateway: s.Gateway, Metrics: shown, Traces: traces, Limits: limits,
		PayloadReads: config.PayloadReads{Order: s.Fetcher.Order, Payload: s.Consumer.Payload},
	}, logger.With().Str("service", "gateway").Logger())
	if err != nil {
		closeFetcher()
		closeConsumer()
		return nil, nil, err
	}
	webhooks.Set(g)
	p, err := statuspage.OnNATS(page, conn, topology.APITimeout(s.Streams.Lease))
	if err != nil {
		closeFetcher()
		closeConsumer()
		closeGateway()
		return nil, nil, err
	}
	return []host.Worker{f, c, g, p}, func() { closeFetcher(); closeConsumer(); closeGateway() }, nil
}
