package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// webhookSecret signs the simulator's webhooks.
	webhookSecret = "whsec_YSBzaWduaW5nIGtleSBvZiB0aGUgc29hayBydW4=" //nolint:gosec // of the simulator alone
	// readyTimeout is how long the programs may take to become ready, on a machine
	// that is busy with other things too.
	readyTimeout = 2 * time.Minute
	readyPause   = 200 * time.Millisecond
)

// services are the processes besides the NATS server.
var services = []string{"gateway", "fetcher", "consumer-1", "consumer-2"}

// fleet is the installation under test: processes, and the two ends that this
// program plays itself.
type fleet struct {
	processes []*process
	upstream  *simulator.Simulator
	books     *books
	conn      *nats.Conn
	js        jetstream.JetStream
	close     []func() error
}

// launch starts everything and waits until it is ready. What was started is
// stopped by stop, also after an error.
func (f *fleet) launch(ctx context.Context, o *options, dir string) error {
	addrs := map[string]string{}
	for _, name := range append([]string{"nats", "profile"}, services...) {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		addrs[name] = addr
	}
	faults, err := simulator.ParseFaults(o.Faults)
	if err != nil {
		return err
	}
	f.upstream, err = simulator.New(simulator.Config{
		Seed: o.Seed, Companies: companies, Faults: faults,
		Webhook: simulator.WebhookConfig{URL: "http://" + addrs["gateway"] + gateway.WebhookPath, Secret: webhookSecret},
	})
	if err != nil {
		return fmt.Errorf("make the simulated Pleo: %w", err)
	}
	f.close = append(f.close, func() error { f.upstream.Close(); return nil })
	f.books = newBooks()
	pleoURL, err := f.serve(f.upstream.Handler())
	if err != nil {
		return err
	}
	sinkURL, err := f.serve(f.books)
	if err != nil {
		return err
	}
	if err := f.startNATS(ctx, o, dir, addrs["nats"], addrs["profile"]); err != nil {
		return err
	}
	for _, name := range services {
		program := name
		if len(name) > len("consumer") && name[:len("consumer")] == "consumer" {
			program = "consumer"
		}
		p, err := start(ctx, name, addrs[name], []string{
			"NATS_URL=nats://" + addrs["nats"], "LEDGERLINE_PLEO_URL=" + pleoURL, "LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken,
			"LEDGERLINE_PLEO_RATE=0", "LEDGERLINE_SINK=" + sinkURL, "LEDGERLINE_LISTEN=" + addrs[name],
			"LEDGERLINE_WEBHOOK_SECRET=" + webhookSecret, "LEDGERLINE_LOG_LEVEL=warn", "TMPDIR=" + dir,
		}, filepath.Join(o.Programs, program))
		if err != nil {
			return err
		}
		f.processes = append(f.processes, p)
	}
	return f.waitReady(ctx)
}

func (f *fleet) startNATS(ctx context.Context, o *options, dir, addr, profile string) error {
	_, port, err := net.SplitHostPort(profile)
	if err != nil {
		return fmt.Errorf("the profile's address: %w", err)
	}
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\nprof_port: %s\njetstream { store_dir: %q, sync_interval: always }\n", addr, port, filepath.Join(dir, "store"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the NATS server's configuration: %w", err)
	}
	p, err := start(ctx, "nats-server", profile, nil, filepath.Join(o.Programs, "nats-server"), "-c", config)
	if err != nil {
		return err
	}
	f.processes = append(f.processes, p)
	f.conn, err = nats.Connect("nats://"+addr, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to the NATS server: %w", err)
	}
	f.close = append(f.close, func() error { f.conn.Close(); return nil })
	if f.js, err = jetstream.New(f.conn); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return nil
}

// serve answers HTTP in this process, on a free port.
func (f *fleet) serve(handler http.Handler) (url string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: stopTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	f.close = append(f.close, func() error {
		err := server.Close()
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	})
	return "http://" + listener.Addr().String(), nil
}

// waitReady asks each service's /readyz until it is.
func (f *fleet) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, p := range f.processes[1:] {
		for {
			_, err := get(ctx, "http://"+p.addr+"/readyz")
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %w: %s", p.name, err, p.said)
			case <-p.ended:
				return fmt.Errorf("%s ended before it was ready: %w: %s", p.name, p.err, p.said)
			case <-time.After(readyPause):
			}
		}
	}
	return nil
}

// alive tells whether every process still runs.
func (f *fleet) alive() error {
	for _, p := range f.processes {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended by itself: %w: %s", p.name, p.err, p.said)
		default:
		}
	}
	return nil
}

// stop ends the services, then NATS, then our own ends; each must end well.
func (f *fleet) stop() error {
	var errs []error
	for _, p := range slices.Backward(f.processes) {
		errs = append(errs, p.stop())
	}
	for _, c := range slices.Backward(f.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
