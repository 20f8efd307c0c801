// Command ledgerline is the one program to install: a complete installation in
// one process, a demonstration of it, a simulated upstream, and the operator's
// commands.
package main

import (
	"context"
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/demo"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/simulate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/sinktest"
)

type commands struct {
	Output operate.Output `name:"output" short:"o" default:"text" enum:"text,json" help:"text for people, json for programs."`

	Demo     demo.Command         `cmd:"" group:"Run" help:"Show everything at work, on a simulated Pleo and a local sink."`
	Up       installation.Command `cmd:"" group:"Run" help:"Run a complete installation in one process."`
	Simulate simulate.Command     `cmd:"" group:"Run" help:"Run the simulated Pleo API alone."`
	SinkTest sinktest.Command     `cmd:"" group:"Run" help:"Test your own sink: deliver twice, late, cut off, from a stale epoch."`

	Start   operate.Start   `cmd:"" group:"Operate" help:"Publish the job-started event of a job."`
	Jobs    operate.Jobs    `cmd:"" group:"Operate" help:"List the jobs."`
	Job     operate.Job     `cmd:"" group:"Operate" help:"Show one job."`
	Lag     operate.Lag     `cmd:"" group:"Operate" help:"Show what waits."`
	Parked  operate.Parked  `cmd:"" group:"Operate" help:"List what a person must look at."`
	Retry   operate.Retry   `cmd:"" group:"Operate" help:"Drain a parked job again and work what is open."`
	Ledger  operate.Ledger  `cmd:"" group:"Operate" help:"Print the settled items."`
	Verify  operate.Verify  `cmd:"" group:"Operate" help:"Prove from the ledger: complete, no double, in order."`
	Version operate.Version `cmd:"" group:"Operate" help:"Show the version."`
}

func main() {
	p := program.FromOS("ledgerline", "Processes Pleo export jobs in order, completely, and never twice.")
	os.Exit(program.Main(p, &commands{}, func(ctx context.Context, cli *commands, rt *program.Runtime) error {
		return rt.Command.Run(&operate.Session{Context: ctx, Runtime: rt, Output: cli.Output})
	}))
}
