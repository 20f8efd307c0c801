// Package simulate is the simulated Pleo API as a command, for anyone who tests
// an integration.
package simulate

import (
	"fmt"
	"net"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Command is `ledgerline simulate`.
type Command struct {
	Address   string  `default:"127.0.0.1:8090" help:"Address to listen on; port 0 picks a free one, the log event \"simulator started\" names it."`
	Jobs      int     `default:"10" help:"Export jobs at the start, all pending."`
	Items     int     `default:"100" help:"Items of each job."`
	Companies int     `default:"5" help:"Companies that own the jobs in turn."`
	Seed      uint64  `default:"1" help:"Decides all data and all faults."`
	Faults    string  `default:"none" help:"none, some, storm, or names such as reset@0.5,foreign-item:once."`
	Token     string  `default:"simulated-token" help:"Bearer token that is accepted."`
	ExpiresIn int     `default:"3600" help:"Seconds until a job without action expires."`
	RateLimit float64 `default:"0" help:"Requests per second before 429; 0 is no limit."`
	MaxPage   int     `default:"1000" help:"What a larger limit is cut to."`
	Control   bool    `default:"true" negatable:"" help:"Serve the control plane under /_simulator/."`
	Webhook   struct {
		URL    string `name:"url" help:"Where created jobs are announced."`
		Secret string `name:"secret" help:"Signing secret, whsec_…"`
	} `embed:"" prefix:"webhook-"`

	Log      config.Log      `embed:""`
	Shutdown config.Shutdown `embed:""`
}

// Run serves the API until a signal comes.
func (c *Command) Run(s *operate.Session) error {
	faults, err := simulator.ParseFaults(c.Faults)
	if err != nil {
		return fmt.Errorf("--faults: %w", err)
	}
	sim, err := simulator.New(simulator.Config{
		Seed: c.Seed, Jobs: c.Jobs, ItemsPerJob: c.Items, Companies: c.Companies, Faults: faults, Token: c.Token,
		ExpiresIn: c.ExpiresIn, RateLimit: c.RateLimit, MaxPageLimit: c.MaxPage, Control: c.Control,
		Webhook: simulator.WebhookConfig{URL: c.Webhook.URL, Secret: c.Webhook.Secret, AtStart: true},
		Logger:  s.Runtime.Log,
	})
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	defer sim.Close()
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.Address, err)
	}
	return sim.Run(s.Context, listener)
}
