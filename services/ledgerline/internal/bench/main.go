// Command bench measures what this machine's disk and NATS can do at all, and
// beside it what Ledgerline makes of that: staging, ordered processing, memory.
// scripts/bench builds and runs it.
//
// Absolute figures are the machine's; what is asked for are shares. Both halves
// of a share are measured in turns, round by round, and the median of the rounds'
// shares is told, so that a machine that is busy with other things too does not
// decide. It judges, and does not fail: the exit code is 0 unless something could
// not be measured.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ledgerline/ledgerline/pkg/program"
)

type options struct {
	Output   string `default:"text" short:"o" enum:"text,json" help:"text for people, json for programs."`
	Cluster  bool   `help:"Measure how many jobs at once three servers with three replicas bear, and nothing else."`
	Quick    bool   `help:"Small sizes, to see that everything runs; the figures are no measurement."`
	Dir      string `placeholder:"DIR" help:"Where the store is made; TMPDIR, or the current folder, when it is not given."`
	Programs string `placeholder:"DIR" help:"Folder with the programs fetcher, consumer and ledgerline, for the peak memory of each, and nats-server, for --cluster."`
	Profile  string `placeholder:"FILE" help:"Write a CPU profile of staging and of one job's processing there."`
}

func main() {
	p := program.FromOS("bench", "Measures the raw limits of disk and NATS, and Ledgerline beside them.")
	os.Exit(program.Main(p, &options{}, func(ctx context.Context, o *options, rt *program.Runtime) (err error) {
		dir, err := folder(o.Dir)
		if err != nil {
			return err
		}
		defer func() {
			if removeErr := os.RemoveAll(dir); removeErr != nil {
				err = errors.Join(err, fmt.Errorf("remove the store: %w", removeErr))
			}
		}()
		b := &bench{dir: dir, sizes: full, profile: o.Profile, say: sayer(rt.Stderr)}
		if o.Quick {
			b.sizes, b.quick = quick, true
		}
		if o.Programs != "" {
			b.programs = builtIn(o.Programs)
		}
		run := b.run
		if o.Cluster {
			run = b.runCluster
		}
		found, err := run(ctx)
		if err != nil {
			return err
		}
		if o.Output == "json" {
			return found.writeJSON(rt.Stdout)
		}
		return found.writeText(rt.Stdout)
	}))
}

// folder makes an empty folder for the store. Not the system's usual place for
// temporary files, which is often in memory: a sync there costs nothing.
func folder(parent string) (string, error) {
	if parent == "" {
		parent = os.Getenv("TMPDIR")
	}
	if parent == "" {
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "ledgerline-bench-*")
	if err == nil {
		dir, err = filepath.Abs(dir) // the folder that is told must be found from anywhere
	}
	if err != nil {
		return "", fmt.Errorf("make a folder for the store: %w", err)
	}
	return dir, nil
}
