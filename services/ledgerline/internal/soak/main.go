// Command soak runs continuous export jobs through the real programs, each a
// process of its own on a NATS server of its own, and samples what each process
// and the store hold. It fails when something grows that must not. scripts/soak
// builds and runs it.
//
// The rule: the first tenth is warm-up; the rest is cut into thirds, and the median
// of the last third is compared with that of the first. What may grow, and by how
// much, stands in growth.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ledgerline/ledgerline/pkg/program"
)

type options struct {
	Minutes  float64 `default:"60" help:"How long jobs keep coming."`
	Rate     float64 `default:"1" help:"Jobs a second."`
	Items    int     `default:"10" help:"Items of each job."`
	Seed     uint64  `default:"1" help:"Decides the data and the faults."`
	Faults   string  `default:"some" help:"Faults at Pleo, as in ledgerline demo."`
	Programs string  `required:"" placeholder:"DIR" help:"Folder with the programs gateway, fetcher, consumer and nats-server."`
	Dir      string  `placeholder:"DIR" help:"Where the store is made; TMPDIR, or the current folder, when it is not given."`
	Samples  string  `placeholder:"FILE" help:"Write every sample there, as CSV."`
}

// Bounds of what may be asked for: below them a third holds no sample, above them
// the simulator's bounds are met.
const (
	leastMinutes, mostMinutes = 0.1, 24 * 60
	mostRate                  = 50
	mostItems                 = 10_000
)

func (o *options) validate() error {
	var faults []error
	if o.Minutes < leastMinutes || o.Minutes > mostMinutes {
		faults = append(faults, fmt.Errorf("--minutes is %g, want %g to %d", o.Minutes, leastMinutes, mostMinutes))
	}
	if o.Rate <= 0 || o.Rate > mostRate {
		faults = append(faults, fmt.Errorf("--rate is %g, want above 0, at most %d", o.Rate, mostRate))
	}
	if o.Items < 1 || o.Items > mostItems {
		faults = append(faults, fmt.Errorf("--items is %d, want 1 to %d", o.Items, mostItems))
	}
	return errors.Join(faults...)
}

func (o *options) duration() time.Duration {
	return time.Duration(o.Minutes * float64(time.Minute))
}

func main() {
	p := program.FromOS("soak", "Runs continuous jobs through the real programs and fails on growth.")
	os.Exit(program.Main(p, &options{}, func(ctx context.Context, o *options, rt *program.Runtime) (err error) {
		if err := o.validate(); err != nil {
			return err
		}
		dir, err := folder(o.Dir)
		if err != nil {
			return err
		}
		defer func() {
			if removeErr := os.RemoveAll(dir); removeErr != nil {
				err = errors.Join(err, fmt.Errorf("remove the store: %w", removeErr))
			}
		}()
		found, err := soak(ctx, o, dir, func(format string, args ...any) {
			fmt.Fprintf(rt.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
		})
		if err != nil {
			return err
		}
		if o.Samples != "" {
			if err := found.samples.write(o.Samples); err != nil {
				return err
			}
		}
		if err := found.print(rt.Stdout); err != nil {
			return err
		}
		return found.verdict()
	}))
}

// folder makes an empty folder for the store. Not the system's usual place for
// temporary files, which is often in memory: nothing is synced there.
func folder(parent string) (string, error) {
	if parent == "" {
		parent = os.Getenv("TMPDIR")
	}
	if parent == "" {
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "ledgerline-soak-*")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", fmt.Errorf("make a folder for the store: %w", err)
	}
	return dir, nil
}
