package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// maxDemoJobs and maxDemoItems keep a demonstration one.
	maxDemoJobs  = 1_000
	maxDemoItems = 100_000
	// demoPatience ends a demonstration in which nothing moves any more.
	demoPatience = 2 * time.Minute
	// demoLease is short: a takeover in a demonstration should be seen.
	demoLease = 2 * time.Second
	// stopTimeout bounds the end of what the demonstration started.
	stopTimeout = 10 * time.Second
	// anyPort is a free port of this machine, for nobody else.
	anyPort = "127.0.0.1:0"
	// webhookSecret signs webhooks that do not leave this process.
	webhookSecret = "whsec_bGVkZ2VybGluZS1kZW1vLXNlY3JldC0yNGI=" //nolint:gosec // not a secret
	// pollInterval finds what a webhook did not tell, within a demonstration's
	// patience.
	pollInterval = 5 * time.Second
)

// Command is `ledgerline demo`.
type Command struct {
	Jobs   int    `default:"10" help:"Export jobs."`
	Items  int    `default:"200" help:"Items of each job."`
	Seed   uint64 `default:"42" help:"Decides all data and all faults: the same seed shows the same run."`
	Faults string `default:"none" help:"Trouble at the simulated Pleo: none, some or storm."`
	Keep   string `placeholder:"DIR" help:"Keep the store, the log and the sink's record in this folder."`
}

// Validate returns the faults of the sizes.
func (c Command) Validate() (faults config.Faults) {
	if c.Jobs < 1 || c.Jobs > maxDemoJobs {
		faults.Add("--jobs", fmt.Sprintf("is not between 1 and %d", maxDemoJobs), "give fewer or more")
	}
	if c.Items < 0 || c.Items > maxDemoItems {
		faults.Add("--items", fmt.Sprintf("is not between 0 and %d", maxDemoItems), "give fewer or more")
	}
	if _, err := simulator.ParseFaults(c.Faults); err != nil {
		faults.Add("--faults", err.Error(), "give none, some or storm")
	}
	return faults
}

// Run shows the demonstration; its exit code is 0 when everything was booked
// once and in order, and 1 otherwise.
func (c *Command) Run(s *operate.Session) (err error) {
	dir, cleanup, err := c.folder()
	if err != nil {
		return err
	}
	defer func() {
		if cleanErr := cleanup(err == nil); cleanErr != nil && err == nil {
			err = cleanErr
		}
	}()
	logFile, err := os.OpenFile(filepath.Join(dir, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create the log file: %w", err)
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	logger := zerolog.New(logFile).With().Timestamp().Logger()

	stage, err := c.open(s.Context, dir, logger)
	if err != nil {
		return err
	}
	shown := s.Runtime.Stdout
	if s.Output == operate.OutputJSON {
		shown = s.Runtime.Stderr // what goes to stdout is the report alone
	}
	runErr := stage.run(s.Context, newProgress(shown, c))
	closeErr := stage.close()
	if runErr != nil && !errors.Is(runErr, errUnfinished) {
		return errors.Join(runErr, closeErr)
	}
	if closeErr != nil {
		return closeErr
	}
	report := stage.judge()
	if err := report.print(s, c, dir); err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return program.Exit(1)
	}
	return nil
}

// folder is where the store, the log and the record go, and what removes it.
func (c *Command) folder() (dir string, cleanup func(good bool) error, err error) {
	if c.Keep != "" {
		if err := os.MkdirAll(c.Keep, 0o700); err != nil {
			return "", nil, fmt.Errorf("create the folder of --keep: %w", err)
		}
		return c.Keep, func(bool) error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("", "ledgerline-demo-*"); err != nil {
		return "", nil, fmt.Errorf("create a folder for the demonstration: %w", err)
	}
	return dir, func(good bool) error {
		if !good {
			return nil // what went wrong stays to be looked at
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the folder of the demonstration: %w", err)
		}
		return nil
	}, nil
}

// stage is everything that a demonstration runs: both ends and the installation
// between them.
type stage struct {
	command  *Command
	pleo     net.Listener
	upstream *simulator.Simulator
	books    *books
	settings installation.Settings
	logger   zerolog.Logger
	stops    []func() error
	// took is from the first event to the end of the last job.
	took time.Duration
}

func (c *Command) open(ctx context.Context, dir string, logger zerolog.Logger) (*stage, error) {
	st := &stage{command: c, logger: logger}
	var err error
	// The simulated Pleo must be told where to send its webhooks, and the
	// installation where Pleo is: Pleo's address comes first, its answers when the
	// other address is known.
	if st.pleo, err = net.Listen("tcp", anyPort); err != nil {
		return nil, fmt.Errorf("listen on a free port: %w", err)
	}
	if st.books, err = openBooks(filepath.Join(dir, "booked.jsonl")); err != nil {
		return nil, errors.Join(err, st.pleo.Close())
	}
	sinkURL, stopSink, err := serve(ctx, st.books.run)
	if err != nil {
		return nil, errors.Join(err, st.pleo.Close(), st.books.close())
	}
	st.stops = append(st.stops, stopSink, st.books.close)
	st.settings = installation.Settings{
		Name: "ledgerline demo", Version: program.Version(),
		Embedded: config.Embedded{DataDir: filepath.Join(dir, "store")},
		Streams:  config.Streams{Replicas: 1, Lease: demoLease},
		HTTP:     config.HTTP{Listen: anyPort},
		Pleo: config.Pleo{
			URL: "http://" + st.pleo.Addr().String(), Token: config.NewSecret(simulator.DefaultToken),
			Timeout: 5 * time.Second, PageSize: config.MaxPageSize / 10,
		},
		Fetcher:  config.Fetcher{Order: config.OrderDate},
		Sink:     config.Sink{Spec: sinkURL, Timeout: 5 * time.Second},
		Consumer: config.Consumer{Payload: config.PayloadFull, OnFailure: config.OnFailureContinue, Report: true, ConcurrentJobs: 64},
		Gateway:  config.Gateway{WebhookSecret: config.NewSecret(webhookSecret), PollInterval: pollInterval},
	}
	return st, nil
}

// openPleo starts the simulated Pleo: its jobs exist from here on, each announced
// by a signed webhook.
func (st *stage) openPleo(ctx context.Context, webhookAddr string) error {
	c := st.command
	faults, err := simulator.ParseFaults(c.Faults)
	if err != nil {
		return fmt.Errorf("--faults: %w", err)
	}
	st.upstream, err = simulator.New(simulator.Config{
		Seed: c.Seed, Jobs: c.Jobs, ItemsPerJob: c.Items, Companies: max(1, c.Jobs/2), Faults: faults,
		Webhook: simulator.WebhookConfig{URL: "http://" + webhookAddr + gateway.WebhookPath, Secret: webhookSecret, AtStart: true},
		Logger:  st.logger.With().Str("service", "simulator").Logger(),
	})
	if err != nil {
		return fmt.Errorf("start the simulated Pleo: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- st.upstream.Run(ctx, st.pleo) }()
	st.stops = append(st.stops, func() error {
		cancel()
		err := <-done
		st.upstream.Close()
		return err
	})
	return nil
}

// serve runs a server on a free port of this machine.
func serve(ctx context.Context, run func(context.Context, net.Listener) error) (url string, stop func() error, err error) {
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		return "", nil, fmt.Errorf("listen on a free port: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- run(ctx, listener) }()
	return "http://" + listener.Addr().String(), func() error { cancel(); return <-done }, nil
}

func (st *stage) close() error {
	var err error
	for _, stop := range st.stops {
		err = errors.Join(err, stop())
	}
	if st.upstream == nil {
		err = errors.Join(err, st.pleo.Close())
	}
	return err
}

// errUnfinished is returned when the jobs did not all end.
var errUnfinished = errors.New("not all jobs ended")

// run starts the installation and then Pleo, whose webhooks set everything going,
// shows the progress until every job has ended at Pleo, and stops the
// installation.
func (st *stage) run(ctx context.Context, p *progress) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listening := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- installation.Run(ctx, st.settings, st.logger, installation.Started{HTTP: func(addr string) { listening <- addr }})
	}()
	select {
	case err := <-ended:
		return errors.Join(errors.New("the installation did not start"), err)
	case addr := <-listening:
		p.begin(addr)
		if err := st.openPleo(ctx, addr); err != nil {
			return err
		}
	}
	err := st.follow(ctx, p, ended)
	cancel()
	p.stop()
	select {
	case endErr := <-ended:
		return errors.Join(err, endErr)
	case <-time.After(stopTimeout):
		return errors.Join(err, fmt.Errorf("the installation did not stop in %s", stopTimeout))
	}
}

func (st *stage) follow(ctx context.Context, p *progress, ended <-chan error) error {
	began := time.Now()
	defer func() { st.took = time.Since(began) }()
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	moved, last := time.Now(), tick{}
	for {
		now := st.tick()
		p.show(now)
		if now.ended == st.command.Jobs {
			return nil
		}
		if now != last {
			moved, last = time.Now(), now
		}
		if time.Since(moved) > demoPatience {
			return fmt.Errorf("%w: nothing moved for %s", errUnfinished, demoPatience)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return errors.Join(errors.New("the installation ended by itself"), err)
		}
	}
}
