// Command ledgerline is the one program to install: a complete installation in
// one process, a demonstration of it, a simulated upstream, and the operator's
// commands.
package main

import (
	"context"
	"os"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/simulate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/sinktest"
)

type commands struct {
	Output operate.Output `name:"output" short:"o" default:"text" enum:"text,json" help:"text for people, json for programs."`

	InProcess inProcess `embed:""`

	Simulate simulate.Command `cmd:"" group:"Run" help:"Run the simulated Pleo API alone."`
	SinkTest sinktest.Command `cmd:"" group:"Run" help:"Test your own sink: deliver twice, late, cut off, from a stale epoch."`

	Start      operate.Start      `cmd:"" group:"Operate" help:"Publish the job-started event of a job."`
	Jobs       operate.Jobs       `cmd:"" group:"Operate" help:"List the jobs."`
	Job        operate.Job        `cmd:"" group:"Operate" help:"Show one job."`
	Watch      operate.Watch      `cmd:"" group:"Operate" help:"Watch the open jobs."`
	Lag        operate.Lag        `cmd:"" group:"Operate" help:"Show what waits."`
	Parked     operate.Parked     `cmd:"" group:"Operate" help:"List what a person must look at."`
	Pause      operate.Pause      `cmd:"" group:"Operate" help:"Hold a job between two items."`
	Resume     operate.Resume     `cmd:"" group:"Operate" help:"Let a paused job go on."`
	Cancel     operate.Cancel     `cmd:"" group:"Operate" help:"End a job: report what was booked, post failed to Pleo."`
	Retry      operate.Retry      `cmd:"" group:"Operate" help:"Drain a parked job again and work what is open."`
	Ledger     operate.Ledger     `cmd:"" group:"Operate" help:"Print the settled items."`
	Verify     operate.Verify     `cmd:"" group:"Operate" help:"Prove from the ledger: complete, no double, in order."`
	Reconcile  operate.Reconcile  `cmd:"" group:"Operate" help:"Compare a job at Pleo, in the stream and in the ledger; --fix mends it."`
	Doctor     operate.Doctor     `cmd:"" group:"Operate" help:"Look at all that the promises rest on, and say what a power cut would lose."`
	Health     operate.Health     `cmd:"" group:"Operate" help:"Ask the installation that runs beside it whether it is ready."`
	Completion operate.Completion `cmd:"" group:"Operate" help:"Print what makes the shell complete commands and flags."`
	Version    operate.Version    `cmd:"" group:"Operate" help:"Show the version."`
}

func main() {
	p := program.FromOS("ledgerline", "Processes Pleo export jobs in order, completely, and never twice.")
	p.Parser = operate.Complete
	os.Exit(program.Main(p, &commands{}, func(ctx context.Context, cli *commands, rt *program.Runtime) error {
		return rt.Command.Run(&operate.Session{Context: ctx, Runtime: rt, Output: cli.Output})
	}))
}
