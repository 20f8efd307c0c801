// Command composetest starts the installation of docker-compose.yml under a name of
// its own, on free ports, and drives it as an operator and a bad day would: jobs
// complete, a killed consumer's jobs move, a stop in the middle loses nothing, six
// consumers take the place of three, Prometheus and Grafana see all of it. With
// -cluster there are three NATS servers, with signed users and TLS, to take away, and
// -operations upgrades, changes passwords, backs up and restores. It judges by what the
// simulated Pleo and the sample sink recorded, and takes everything down again however
// it ends. scripts/compose-test builds the images and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// limit is when it gives up. On two idle cores it takes two minutes, and
	// four with -cluster or -operations.
	limit = 10 * time.Minute
	// teardownLimit bounds taking down what was started; it happens also after a
	// failure or a signal.
	teardownLimit = 2 * time.Minute
)

type options struct {
	ledgerline string
	cluster    bool
	operations bool
	nats       string
	from       string
}

func main() {
	var o options
	flag.StringVar(&o.ledgerline, "ledgerline", "", "`file` of the program ledgerline, as an operator outside has it")
	flag.BoolVar(&o.cluster, "cluster", false, "three NATS servers and three replicas: a node killed, a node cut off, nodes and workers restarted one by one")
	flag.BoolVar(&o.operations, "operations", false, "what an operator does: an upgrade, new passwords, a backup, and a restore after the store was lost")
	flag.StringVar(&o.nats, "nats", "", "`file` of NATS's own command line, for -operations")
	flag.StringVar(&o.from, "from", "", "`tag` of the images that -operations begins with; empty for those that it ends with")
	flag.Parse()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "compose-test:", err)
		os.Exit(1)
	}
}

func run(o *options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	s := newStack(ctx, o, os.Stdout)
	defer func() {
		if err != nil {
			s.tellLogs()
		}
		// Also when ctx has ended: nothing may be left running.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownLimit)
		defer cancel()
		err = errors.Join(err, s.down(cleanup))
	}()
	if s.work, err = os.MkdirTemp("", "compose-test-"); err != nil {
		return fmt.Errorf("make a folder for what is backed up: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.work)) }()
	switch {
	case o.cluster:
		return s.clusterDay(ctx)
	case o.operations:
		return s.operationsDay(ctx)
	}
	return s.singleDay(ctx)
}
