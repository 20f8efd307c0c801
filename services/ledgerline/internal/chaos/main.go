//go:build unix

// Command chaos runs a whole installation of real processes (two gateways, two
// fetchers, three consumers, one NATS server or three, a simulated Pleo with faults
// and a fencing sink) while it kills, freezes and restarts them and troubles the
// network between every two of them, all as a seed says. Then it lets everything
// heal, waits until every job has ended, and judges.
//
// The judge believes nobody but the two ends: the sink's own record and the
// simulated Pleo's final state. What it looks for stands in judge.go.
//
// scripts/chaos builds and runs it:
//
//	scripts/chaos --seed 7 --kills 300            one NATS server
//	scripts/chaos --seed 7 --kills 100 --cluster  three, whose leader is killed over and over
//	scripts/chaos --short                         what scripts/check does
//
// A failure names the command that repeats it and the folder with every process's
// log, the faults as they were made and the sink's record.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/program"
)

const (
	// shortSeed and shortFaults are the run of scripts/check: three minutes in all
	// on two cores.
	shortSeed   = 20_250_907
	shortFaults = 80 * time.Second
	// singleLease is the shortest that is allowed: the more often it is tried, the
	// more takeovers.
	singleLease = 2 * time.Second
	// clusterLease is longer: three servers that sync every write to one disk need
	// seconds for a new leader, and a lease that runs out meanwhile is a takeover of
	// every job at once.
	clusterLease = 5 * time.Second
	// killLimit is how long a kill may take on average before a run is given up, so
	// that none goes on for ever.
	killLimit = 30 * time.Second
	// limitOver is added to it: builds, starts, the end.
	limitOver = 15 * time.Minute
)

type options struct {
	Run  runOptions  `cmd:"" default:"withargs" help:"Run an installation under faults, and judge it."`
	Sink sinkOptions `cmd:"" hidden:"" help:"The sink process of a run."`
}

type runOptions struct {
	Seed     uint64 `default:"1" help:"Decides every fault and all work."`
	Kills    int    `default:"100" help:"SIGKILLs of gateways, fetchers and consumers until the faults end; the others come in proportion."`
	Cluster  bool   `help:"Three NATS servers, and every few seconds a kill of a leader."`
	Short    bool   `help:"The run of scripts/check: a fixed seed and a little over a minute of faults."`
	Upstream string `default:"some" help:"Faults of the simulated Pleo: none, some, storm."`
	Programs string `required:"" placeholder:"DIR" help:"Folder with the programs."`
	Dir      string `placeholder:"DIR" help:"Where stores and logs are made; TMPDIR when it is not given."`
	Keep     bool   `help:"Keep stores and logs also when all went well."`
	Output   string `default:"text" short:"o" enum:"text,json" help:"text for people, json for programs."`
}

// session is what a command gets.
type session struct {
	context.Context
	*program.Runtime
}

func main() {
	p := program.FromOS("chaos", "Real processes under faults, and a judge that believes only the two ends.")
	os.Exit(program.Main(p, &options{}, func(ctx context.Context, _ *options, rt *program.Runtime) error {
		return rt.Command.Run(&session{Context: ctx, Runtime: rt})
	}))
}

// command repeats the run.
func (o *runOptions) command() string {
	if o.Short {
		return "scripts/chaos --short"
	}
	command := fmt.Sprintf("scripts/chaos --seed %d --kills %d", o.Seed, o.Kills)
	if o.Cluster {
		command += " --cluster"
	}
	if o.Upstream != "some" {
		command += " --upstream " + o.Upstream
	}
	return command
}

func (o *runOptions) lease() time.Duration {
	if o.Cluster {
		return clusterLease
	}
	return singleLease
}

// limit bounds the whole run.
func (o *runOptions) limit() time.Duration {
	if o.Short {
		return limitOver
	}
	return limitOver + time.Duration(o.Kills)*killLimit
}

// Run is one run.
func (o *runOptions) Run(rt *session) error {
	if o.Short {
		o.Seed = shortSeed
	}
	ctx, cancel := context.WithTimeoutCause(rt.Context, o.limit(), fmt.Errorf("the run was not over in %s", o.limit()))
	defer cancel()
	dir, err := os.MkdirTemp(o.Dir, "ledgerline-chaos-*")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	verdict, err := o.run(ctx, dir, func(format string, args ...any) {
		fmt.Fprintf(rt.Stderr, format+"\n", args...)
	})
	if err != nil {
		return fmt.Errorf("%w\nlogs and stores: %s\nrepeat it: %s", err, dir, o.command())
	}
	text, err := json.MarshalIndent(verdict, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the verdict: %w", err)
	}
	if o.Output == "json" {
		fmt.Fprintf(rt.Stdout, "%s\n", text)
	} else {
		verdict.print(rt.Stdout)
	}
	if !verdict.OK() {
		if err := os.WriteFile(filepath.Join(dir, "verdict.json"), text, 0o600); err != nil {
			return fmt.Errorf("keep the verdict: %w", err)
		}
		return fmt.Errorf("a promise was broken\nlogs and records: %s\nrepeat it: %s", dir, o.command())
	}
	if o.Keep {
		fmt.Fprintf(rt.Stderr, "logs and records: %s\n", dir)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the stores: %w", err)
	}
	return nil
}

// run makes the installation, troubles it, lets it heal and judges it.
func (o *runOptions) run(ctx context.Context, dir string, say func(string, ...any)) (_ *verdict, err error) {
	began := time.Now()
	b, err := newBed(o, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(ctx); err != nil {
		return nil, fmt.Errorf("start the installation: %w", err)
	}
	watching, stopWatching := context.WithCancel(ctx)
	stalls := watchMachine(watching, dir, o.lease())
	defer func() { stopWatching(); <-stalls.done }()
	say("running in %s after %s: %s", dir, time.Since(began).Round(time.Second), o.command())

	conn, err := nats.Connect(b.addresses(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	feeding, stopFeeding := context.WithCancel(ctx)
	w := newWork(b, o.Seed, js)
	fed := make(chan error, 1)
	go func() { fed <- w.feed(feeding) }()
	plan := newPlan(o)
	troubled := b.trouble(ctx, plan, say)
	stopFeeding()
	if err := errors.Join(troubled, <-fed); err != nil {
		return nil, err
	}
	say("%s of faults: %s; now everything heals", plan.elapsed().Round(time.Second), plan.counts())
	if err := b.heal(ctx); err != nil {
		return nil, fmt.Errorf("heal: %w", err)
	}
	if err := w.finish(ctx, say); err != nil {
		return nil, err
	}
	snapshot, err := b.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	stopWatching()
	<-stalls.done
	if err := b.stop(); err != nil {
		return nil, err
	}
	deliveries, err := readRecord(b.record)
	if err != nil {
		return nil, err
	}
	faults := append(plan.made(), stalls.faults()...)
	if err := writeJSON(filepath.Join(dir, "faults.json"), faults); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(dir, "pleo.json"), snapshot); err != nil {
		return nil, err
	}
	v := judge(evidence{Deliveries: deliveries, Pleo: snapshot, Faults: faults, Lease: o.lease()})
	v.Command, v.Took = o.command(), time.Since(began)
	for _, exit := range b.exits() {
		v.add(ended, "%s", exit)
	}
	return v, nil
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
