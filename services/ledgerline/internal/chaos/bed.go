//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// The size of the installation.
const (
	gateways  = 2
	fetchers  = 2
	consumers = 3
	nodes     = 3 // of a cluster
)

// webhookSecret signs the webhooks of every run.
var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a signing key for a run of chaos"))

const (
	// startLimit bounds the start of each part, on a busy machine.
	startLimit = 2 * time.Minute
	// startRecheck is how often a part that starts is asked whether it is there.
	startRecheck = 100 * time.Millisecond
)

// bed is the installation with everything around it.
type bed struct {
	o       *runOptions
	dir     string
	record  string // of the sink
	network *network

	sink, pleo *process
	servers    []*server
	workers    []*process
	pleoURL    string
	control    *control

	stopOnce sync.Once
	stopErr  error
}

// newBed lays everything out; nothing runs yet but the links.
func newBed(o *runOptions, dir string) (*bed, error) {
	b := &bed{o: o, dir: dir, record: filepath.Join(dir, "sink.jsonl"), network: newNetwork()}
	for _, folder := range []string{b.logs(), b.scratch()} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return nil, fmt.Errorf("make a folder: %w", err)
		}
	}
	if err := b.layOut(); err != nil {
		b.network.close()
		return nil, err
	}
	return b, nil
}

func (b *bed) logs() string    { return filepath.Join(b.dir, "logs") }
func (b *bed) scratch() string { return filepath.Join(b.dir, "scratch") }

func (b *bed) process(name, program string, environ []string, args ...string) *process {
	return &process{
		name: name, program: filepath.Join(b.o.Programs, program), args: args, logs: b.logs(),
		environ: append([]string{"TMPDIR=" + b.scratch()}, environ...),
	}
}

func (b *bed) layOut() error {
	sinkAddress, err := freeAddress()
	if err != nil {
		return err
	}
	pleoAddress, err := freeAddress()
	if err != nil {
		return err
	}
	door, err := freeAddress()
	if err != nil {
		return err
	}
	// Every consumer and gateway runs behind links of its own; Pleo's webhooks find
	// the first gateway, and the polls of both find what it missed.
	webhooks, err := b.network.connect("pleo-gateway-1", []string{"gateway-1"}, door)
	if err != nil {
		return err
	}
	b.sink = b.process("sink", "chaos", nil, "sink", "--listen", sinkAddress, "--record", b.record)
	b.pleo = b.process("pleo", "ledgerline", nil, "simulate", "--address", pleoAddress, "--jobs", "0",
		"--seed", fmt.Sprint(b.o.Seed), "--faults", b.o.Upstream,
		"--webhook-url", "http://"+webhooks[0]+gateway.WebhookPath, "--webhook-secret", webhookSecret)
	b.pleoURL = "http://" + pleoAddress
	b.control = newControl(b.pleoURL)
	if b.servers, err = b.layOutServers(); err != nil {
		return err
	}
	for _, group := range []struct {
		program string
		count   int
	}{{"gateway", gateways}, {"fetcher", fetchers}, {"consumer", consumers}} {
		for n := range group.count {
			listen := "127.0.0.1:0"
			if group.program == "gateway" && n == 0 {
				listen = door
			}
			worker, err := b.layOutWorker(group.program, n+1, listen, pleoAddress, sinkAddress)
			if err != nil {
				return err
			}
			b.workers = append(b.workers, worker)
		}
	}
	return nil
}

func (b *bed) layOutWorker(program string, number int, listen, pleo, sink string) (*process, error) {
	name := fmt.Sprintf("%s-%d", program, number)
	var servers []string
	for _, s := range b.servers {
		servers = append(servers, s.address)
	}
	toNATS, err := b.network.connect(name+"-nats", []string{name}, servers...)
	if err != nil {
		return nil, err
	}
	toPleo, err := b.network.connect(name+"-pleo", []string{name}, pleo)
	if err != nil {
		return nil, err
	}
	environ := []string{
		"NATS_URL=" + urls(toNATS), "LEDGERLINE_PLEO_URL=http://" + toPleo[0],
		"LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken, "LEDGERLINE_PLEO_RATE=0",
		// Requests of the troubled are given up and tried again within the trouble.
		"LEDGERLINE_PLEO_TIMEOUT=" + b.o.lease().String(), "LEDGERLINE_SINK_TIMEOUT=" + (2 * b.o.lease()).String(),
		"LEDGERLINE_LEASE=" + b.o.lease().String(), "LEDGERLINE_REPLICAS=" + fmt.Sprint(len(b.servers)),
		"LEDGERLINE_POLL_INTERVAL=" + (3 * time.Second).String(), "LEDGERLINE_WEBHOOK_SECRET=" + webhookSecret,
		"LEDGERLINE_LISTEN=" + listen, "LEDGERLINE_LOG_LEVEL=info",
	}
	if program != "fetcher" {
		toSink, err := b.network.connect(name+"-sink", []string{name}, sink)
		if err != nil {
			return nil, err
		}
		// The sink's record says through whom an item came.
		environ = append(environ, "LEDGERLINE_SINK=http://"+toSink[0]+"/"+name)
	}
	return b.process(name, program, environ), nil
}

// start runs everything; it returns when the streams are there.
func (b *bed) start(ctx context.Context) error {
	for _, p := range []*process{b.sink, b.pleo} {
		if err := p.start(); err != nil {
			return err
		}
	}
	if err := until(ctx, "the simulated Pleo answers", b.control.ping); err != nil {
		return err
	}
	for _, s := range b.servers {
		if err := s.start(); err != nil {
			return err
		}
	}
	for _, s := range b.servers {
		if err := until(ctx, s.name+" answers", s.ready); err != nil {
			return err
		}
	}
	for _, w := range b.workers {
		if err := w.start(); err != nil {
			return err
		}
	}
	return until(ctx, "the streams are there", b.whole)
}

// heal waits until what every fault has undone is whole again.
func (b *bed) heal(ctx context.Context) error {
	return until(ctx, "the streams are whole", b.whole)
}

// stop ends everything, the workers first: an operator's stop must go well.
func (b *bed) stop() error {
	b.stopOnce.Do(func() {
		var faults []error
		groups := [][]*process{b.workers, {b.pleo, b.sink}}
		for _, s := range b.servers {
			groups = append(groups, []*process{s.process})
		}
		for _, group := range groups {
			errs := make([]error, len(group))
			var ending sync.WaitGroup
			for i, p := range group {
				ending.Go(func() { errs[i] = p.end() })
			}
			ending.Wait()
			faults = append(faults, errs...)
		}
		b.network.close()
		b.stopErr = errors.Join(faults...)
	})
	return b.stopErr
}

// exits are the ends of processes that nobody meant.
func (b *bed) exits() []string {
	all := append([]*process{b.sink, b.pleo}, b.workers...)
	for _, s := range b.servers {
		all = append(all, s.process)
	}
	var exits []string
	for _, p := range all {
		p.mu.Lock()
		exits = append(exits, p.bad...)
		p.mu.Unlock()
	}
	return exits
}

// until asks again and again, for what no event tells.
func until(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if !lasting(ctx, startRecheck) {
			return fmt.Errorf("waited in vain until %s: %w", what, err)
		}
	}
}
