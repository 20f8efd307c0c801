package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// stopTimeout is how long a program may take to stop before it is killed.
	stopTimeout = 20 * time.Second
	// maxComplaint bounds what is kept of a program's log for an error.
	maxComplaint = 4 << 10
)

// programs are the command lines of the processes.
type programs struct {
	fetcher, consumer, simulator, server []string
}

// builtIn are the programs as they were built into a folder.
func builtIn(dir string) *programs {
	return &programs{
		fetcher:   []string{filepath.Join(dir, "fetcher")},
		consumer:  []string{filepath.Join(dir, "consumer")},
		simulator: []string{filepath.Join(dir, "ledgerline"), "simulate"},
		server:    []string{filepath.Join(dir, "nats-server")},
	}
}

// measureMemory takes one large job through a fetcher and a consumer that are
// processes of their own, one after the other, with all that a usual installation
// does: order by date, payloads, reports. Server and simulator are elsewhere.
func (b *bench) measureMemory(ctx context.Context, found *findings) (err error) {
	if b.programs == nil {
		b.say("not measuring the peak memory: --programs is not given")
		return nil
	}
	b.say("measuring the peak memory of fetcher and consumer")
	server, err := embedded.Start(embedded.Options{DataDir: filepath.Join(b.dir, "memory"), Listen: "127.0.0.1:0", Logger: warnings()})
	if err != nil {
		return fmt.Errorf("start the embedded server: %w", err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	conn, err := nats.Connect("", server.InProcess())
	if err != nil {
		return fmt.Errorf("connect to the embedded server: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	if err := topology.Ensure(ctx, js, streams(), warnings()); err != nil {
		return err
	}
	states, err := followStates(ctx, js)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, states.stop()) }()

	upstream, url, err := b.programs.startSimulator(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upstream.stop()) }()
	job, err := addJob(ctx, url, b.sizes.memory)
	if err != nil {
		return err
	}
	if _, err := steer.Publish(ctx, js, job, ""); err != nil {
		return err
	}
	environ := []string{
		"NATS_URL=" + server.Addr(), "LEDGERLINE_PLEO_URL=" + url, "LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken,
		// Nobody limits us here, and the figures are those of the defaults else.
		"LEDGERLINE_PLEO_RATE=0", "LEDGERLINE_LISTEN=127.0.0.1:0", "LEDGERLINE_LOG_LEVEL=warn", "LEDGERLINE_SINK=log:",
		"TMPDIR=" + b.dir,
	}
	for _, step := range []struct {
		name    string
		command []string
		until   ledgerlinev1.JobPhase
	}{
		{"fetcher", b.programs.fetcher, ledgerlinev1.JobPhase_JOB_PHASE_SEALED},
		{"consumer", b.programs.consumer, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED},
	} {
		began := time.Now()
		peak, err := b.programs.peak(ctx, step.command, environ, func() error {
			return states.wait(ctx, []uuid.UUID{job}, step.until)
		})
		if errors.Is(err, errors.ErrUnsupported) {
			b.say("this system does not tell the peak memory of a process")
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		b.say("%s: %d items in %s", step.name, b.sizes.memory, time.Since(began).Round(time.Second))
		found.memory(fmt.Sprintf("peak memory of a %s, one job of %d items of 2 KB", step.name, b.sizes.memory), peak)
	}
	return nil
}

// peak runs a program until its work is done and returns its peak memory in
// bytes.
func (p *programs) peak(ctx context.Context, command, environ []string, done func() error) (bytes int64, err error) {
	process, err := p.start(ctx, command, environ, nil)
	if err != nil {
		return 0, err
	}
	waited := make(chan error, 1)
	go func() { waited <- done() }()
	select {
	case err = <-waited:
	case <-process.ended:
		err = errors.New("it ended by itself")
	}
	if err == nil {
		bytes, err = peakMemory(process.command.Process.Pid)
	}
	return bytes, errors.Join(err, process.stop())
}

// process is a running program.
type process struct {
	command *exec.Cmd
	cancel  context.CancelFunc
	said    *tail
	ended   chan struct{}
	err     error // why it ended; read it after ended
}

// start starts a program. line, if not nil, is called for each line of its log.
func (p *programs) start(ctx context.Context, command, environ []string, line func([]byte)) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &process{cancel: cancel, said: &tail{line: line}, ended: make(chan struct{})}
	r.command = exec.CommandContext(ctx, command[0], command[1:]...)
	r.command.Env = append(foreign(os.Environ()), environ...)
	r.command.Stderr = r.said
	r.command.Cancel = func() error { return r.command.Process.Signal(syscall.SIGTERM) }
	r.command.WaitDelay = stopTimeout
	if err := r.command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go func() {
		r.err = r.command.Wait()
		close(r.ended)
	}()
	return r, nil
}

// stop stops the program and waits. Its error has the end of its log.
func (r *process) stop() error {
	r.cancel()
	<-r.ended
	// It ends with code 0 when it was asked to end.
	if r.err != nil && !errors.Is(r.err, context.Canceled) {
		return fmt.Errorf("%s ended: %w: %s", filepath.Base(r.command.Path), r.err, r.said)
	}
	return nil
}

// foreign is an environment without our settings: a bench must not depend on
// those of whoever starts it.
func foreign(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		if !strings.HasPrefix(entry, "LEDGERLINE_") && !strings.HasPrefix(entry, "NATS_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// tail keeps the end of what a program writes and hands on its lines.
type tail struct {
	line func([]byte)
	rest []byte // a line that is not whole yet
	kept []byte
}

func (t *tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text...)
	t.kept = t.kept[max(0, len(t.kept)-maxComplaint):]
	if t.line == nil {
		return len(text), nil
	}
	t.rest = append(t.rest, text...)
	for {
		line, rest, whole := bytes.Cut(t.rest, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		t.line(line)
		t.rest = rest
	}
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.kept)) }

// startSimulator starts the simulated Pleo on a free port, which its log names.
func (p *programs) startSimulator(ctx context.Context) (*process, string, error) {
	address := make(chan string, 1)
	command := append(append([]string{}, p.simulator...), "--address", "127.0.0.1:0", "--jobs", "0", "--log-format", "json")
	running, err := p.start(ctx, command, nil, func(line []byte) {
		var event struct {
			Message string `json:"message"`
			Addr    string `json:"addr"`
		}
		if json.Unmarshal(line, &event) == nil && event.Message == "simulator started" {
			address <- event.Addr
		}
	})
	if err != nil {
		return nil, "", err
	}
	select {
	case a := <-address:
		return running, "http://" + a, nil
	case <-running.ended:
	case <-time.After(stopTimeout):
	}
	return nil, "", errors.Join(errors.New("the simulator did not tell its address"), running.stop())
}

// addJob adds a job at the simulator's control plane.
func addJob(ctx context.Context, url string, items int) (uuid.UUID, error) {
	body, err := json.Marshal(map[string]any{"items": items, "status": simulator.JobInProgress})
	if err != nil {
		return uuid.Nil, fmt.Errorf("encode the job: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/_simulator/jobs", bytes.NewReader(body))
	if err != nil {
		return uuid.Nil, fmt.Errorf("add a job: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return uuid.Nil, fmt.Errorf("add a job: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxComplaint))
	if err != nil {
		return uuid.Nil, fmt.Errorf("add a job: %w", err)
	}
	var added struct {
		ID uuid.UUID `json:"id"`
	}
	if err := json.Unmarshal(answer, &added); err != nil || added.ID == uuid.Nil {
		return uuid.Nil, fmt.Errorf("add a job: %s: %s", response.Status, answer)
	}
	return added.ID, nil
}

// peakMemory is the most memory that a process that still runs has had resident,
// in bytes. Not what the system tells of a process that has ended: that counts
// the memory of whoever started it, too. Errors: errors.ErrUnsupported.
func peakMemory(pid int) (int64, error) {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("read the peak memory: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return 0, fmt.Errorf("read the peak memory: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var kilobytes int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("read the peak memory: %w", errors.ErrUnsupported)
}
