package program_test

import (
	"context"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/httpserve"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/program"
)

// Config is a service's own, from the groups it needs.
type Config struct {
	Service config.Service `embed:""`
	Pleo    config.Pleo    `embed:""`
	Fetcher config.Fetcher `embed:""`
}

// Validate adds what only this service asks for.
func (c Config) Validate() config.Faults {
	return c.Pleo.RequireCredentials("the fetcher reads every page from Pleo")
}

// A service answers /readyz while it still waits for NATS, and ends as one.
func ExampleMain() {
	main := func() {
		p := program.FromOS("fetcher", "Drains and seals Pleo export jobs.")
		os.Exit(program.Main(p, new(Config), run))
	}
	_ = main
}

func run(ctx context.Context, cfg *Config, rt *program.Runtime) error {
	var nc atomic.Pointer[nats.Conn]
	web, err := httpserve.New(httpserve.Options{
		Listen: cfg.Service.HTTP.Listen, Handler: http.NewServeMux(), Logger: rt.Log,
		Ready: func() error { return natsconn.Ready(nc.Load()) },
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return web.Run(ctx) })
	group.Go(func() error {
		conn, err := natsconn.Connect(ctx, cfg.Service.NATS, natsconn.Options{Name: "ledgerline-fetcher", Logger: rt.Log})
		if err != nil {
			return err
		}
		defer conn.Close()
		nc.Store(conn)
		<-ctx.Done() // the service's own work
		return nil
	})
	return group.Wait()
}
