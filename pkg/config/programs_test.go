package config_test

import (
	"errors"
	"strings"

	"github.com/ledgerline/ledgerline/pkg/config"
)

// The programs of these tests have the groups of the real ones.

type fetcherConfig struct {
	Service config.Service `embed:""`
	Pleo    config.Pleo    `embed:""`
	Fetcher config.Fetcher `embed:""`
}

func (c fetcherConfig) Validate() config.Faults {
	return c.Pleo.RequireCredentials("every page is read from Pleo")
}

type consumerConfig struct {
	Service    config.Service    `embed:""`
	Pleo       config.Pleo       `embed:""`
	Sink       config.Sink       `embed:""`
	Consumer   config.Consumer   `embed:""`
	Status     config.Status     `embed:""`
	StatusPage config.StatusPage `embed:""`
}

func (c consumerConfig) Validate() config.Faults {
	return append(c.Consumer.RequirePleo(c.Pleo), c.Sink.CheckSpec(checkSpec)...)
}

func checkSpec(spec string) error {
	if strings.HasPrefix(spec, "gopher:") {
		return errors.New("no sink is called gopher")
	}
	return nil
}

type gatewayConfig struct {
	Service config.Service `embed:""`
	Pleo    config.Pleo    `embed:""`
	Gateway config.Gateway `embed:""`
}

func (c gatewayConfig) Validate() config.Faults {
	return c.Pleo.RequireCredentials("jobs are started at Pleo")
}

// operator has commands, and a flag that may stand before or after them.
type operator struct {
	Output string `enum:"text,json" default:"text" help:"text or json."`

	Up   upCommand   `cmd:"" help:"Everything in one process."`
	Demo demoCommand `cmd:"" help:"Show it."`
	Job  jobCommand  `cmd:"" help:"Show one job."`
}

type upCommand struct {
	Embedded config.Embedded `embed:""`
	HTTP     config.HTTP     `embed:""`
	Log      config.Log      `embed:""`
	Shutdown config.Shutdown `embed:""`
}

type demoCommand struct {
	Jobs int    `default:"3" help:"How many jobs."`
	Seed uint64 `default:"1" help:"What is made up."`
}

type jobCommand struct {
	NATS config.NATS `embed:""`
	Job  string      `arg:"" help:"Job id."`
}

// programs makes a fresh struct for each load.
var programs = map[string]func() any{
	"fetcher":    func() any { return new(fetcherConfig) },
	"consumer":   func() any { return new(consumerConfig) },
	"gateway":    func() any { return new(gatewayConfig) },
	"ledgerline": func() any { return new(operator) },
}
