package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/services/consumer"
)

const (
	// clusterNodes is how many servers a cluster has, and replicas a stream.
	clusterNodes = 3
	// clusterPace is how many items a second all jobs together are worth, whatever
	// their number: what differs is the number of jobs alone.
	clusterPace = 200
	// ticks is how many a second of processor time is divided into, as the system
	// tells it of a process (Linux, every architecture).
	ticks = 100
)

// runCluster measures how many jobs at once a cluster of three servers bears: each
// claimed job costs the servers a replicated consumer, whether its items move or not.
func (b *bench) runCluster(ctx context.Context) (found *findings, err error) {
	if b.programs == nil {
		return nil, errors.New("--cluster needs --programs, with a nats-server in it")
	}
	b.say("starting a cluster of three servers")
	nodes, urls, err := b.startServers(ctx)
	defer func() {
		for _, node := range nodes {
			err = errors.Join(err, node.stop())
		}
	}()
	if err != nil {
		return nil, err
	}
	bed := &testbed{topology: streams()}
	bed.topology.Replicas = clusterNodes
	bed.dial = func() (*nats.Conn, error) {
		return nats.Connect(urls, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	if err := bed.open(ctx); err != nil {
		return nil, err
	}
	found = &findings{Machine: describeMachine(b.dir, bed.conn), Quick: b.quick}
	p, err := bed.processor(ctx, consumer.PayloadNone, false)
	if err != nil {
		return nil, err
	}
	for _, jobs := range b.sizes.together {
		if err := b.measureTogether(ctx, p, nodes, jobs, found); err != nil {
			return nil, fmt.Errorf("run %d jobs at once: %w", jobs, err)
		}
	}
	found.Machine.LoadAfter = loadAverage()
	return found, p.stop()
}

// measureTogether runs jobs at once that are worth clusterPace items a second
// together.
func (b *bench) measureTogether(ctx context.Context, p *processor, nodes []*process, jobs int, found *findings) error {
	b.say("running %d jobs at once", jobs)
	takes := time.Duration(jobs) * time.Second / clusterPace
	items := max(1, int(b.sizes.paced/takes))
	busy, err := processorTime(nodes)
	if err != nil {
		return err
	}
	whole, _, _, err := p.round(ctx, jobs, items, takes)
	if err != nil {
		return err
	}
	after, err := processorTime(nodes)
	if err != nil {
		return err
	}
	n := jobs * items
	ideal := time.Duration(items) * takes
	var rounds rates
	rounds.add(n, whole)
	line := newFinding(kindCluster, fmt.Sprintf("%d jobs at once, %d items of %s each", jobs, items, takes), rounds)
	line.Share = ideal.Seconds() / whole.Seconds()
	line.ShareLeast, line.ShareMost, line.Of = line.Share, line.Share, "jobs / sink's time"
	line.Besides = fmt.Sprintf("all under way after %s; %s more for each item; %d sent again; servers at %.0f %% of a processor",
		time.Duration(p.handler.lastBegun.Load()-p.began.UnixNano()).Round(10*time.Millisecond),
		((whole - ideal) / time.Duration(items)).Round(100*time.Microsecond),
		p.handler.items.Load()-int64(n), 100*(after-busy).Seconds()/whole.Seconds())
	found.Lines = append(found.Lines, line)
	return nil
}

// startServers starts the servers of a cluster that syncs every write, and returns
// their addresses for a client. Those that run are returned also with an error.
func (b *bench) startServers(ctx context.Context) (nodes []*process, urls string, err error) {
	addresses, err := freeAddresses(ctx, 2*clusterNodes)
	if err != nil {
		return nil, "", err
	}
	clients, routes := addresses[:clusterNodes], addresses[clusterNodes:]
	for n := range clusterNodes {
		name := fmt.Sprintf("nats-%d", n+1)
		text := fmt.Sprintf("server_name: %q\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\n"+
			"cluster { name: bench, listen: %q, routes: [%q, %q, %q] }\n", name, clients[n], filepath.Join(b.dir, name),
			routes[n], "nats-route://"+routes[0], "nats-route://"+routes[1], "nats-route://"+routes[2])
		config := filepath.Join(b.dir, name+".conf")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nodes, "", fmt.Errorf("write the configuration of %s: %w", name, err)
		}
		node, err := b.programs.start(ctx, append(append([]string{}, b.programs.server...), "-c", config), nil, nil)
		if err != nil {
			return nodes, "", err
		}
		nodes = append(nodes, node)
	}
	return nodes, "nats://" + strings.Join(clients, ",nats://"), nil
}

// freeAddresses are addresses of this machine that nobody listens on.
func freeAddresses(ctx context.Context, n int) (addresses []string, err error) {
	for range n {
		listener, listenErr := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if listenErr != nil {
			return nil, errors.Join(err, fmt.Errorf("find a free port: %w", listenErr))
		}
		defer func() { err = errors.Join(err, listener.Close()) }()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

// processorTime is what the processes have used of processors, all together.
func processorTime(processes []*process) (sum time.Duration, err error) {
	for _, p := range processes {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(p.command.Process.Pid) + "/stat")
		if err != nil {
			return 0, fmt.Errorf("read the processor time of %s: %w", p.command.Path, err)
		}
		// After the name, which is in parentheses: the 12th and 13th are user and system.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 {
			return 0, fmt.Errorf("read the processor time of %s: %q", p.command.Path, text)
		}
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the processor time of %s: %w", p.command.Path, err)
			}
			sum += time.Duration(n) * time.Second / ticks
		}
	}
	return sum, nil
}
