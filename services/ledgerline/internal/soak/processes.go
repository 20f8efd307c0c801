package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopTimeout is how long a program may take to stop before it is killed; above
	// the programs' own shutdown timeout.
	stopTimeout = 30 * time.Second
	// maxComplaint bounds what is kept of a program's log for an error.
	maxComplaint = 8 << 10
)

// process is a running program.
type process struct {
	name    string
	command *exec.Cmd
	cancel  context.CancelFunc
	said    *tail
	ended   chan struct{}
	err     error // why it ended; read it after ended
	// addr answers HTTP: /metrics of a service, /debug/pprof of the NATS server.
	addr string
}

func start(ctx context.Context, name, addr string, environ []string, program string, args ...string) (*process, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &process{name: name, addr: addr, cancel: cancel, said: &tail{}, ended: make(chan struct{})}
	p.command = exec.CommandContext(ctx, program, args...)
	p.command.Env = append(foreign(os.Environ()), environ...)
	p.command.Stdout, p.command.Stderr = p.said, p.said
	p.command.Cancel = func() error { return p.command.Process.Signal(syscall.SIGTERM) }
	p.command.WaitDelay = stopTimeout
	if err := p.command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop stops the program and waits. Its error has the end of its log.
func (p *process) stop() error {
	p.cancel()
	<-p.ended
	if p.err != nil && !errors.Is(p.err, context.Canceled) && !p.byOurSignal() {
		return fmt.Errorf("%s ended: %w: %s", p.name, p.err, p.said)
	}
	return nil
}

// byOurSignal: nats-server ends with a code above 0 when it is asked to end.
func (p *process) byOurSignal() bool { return filepath.Base(p.command.Path) == "nats-server" }

// foreign is an environment without our settings: a run must not depend on those
// of whoever starts it.
func foreign(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		if !strings.HasPrefix(entry, "LEDGERLINE_") && !strings.HasPrefix(entry, "NATS_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// tail keeps the end of what a program writes.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, text...)
	t.kept = append([]byte(nil), t.kept[max(0, len(t.kept)-maxComplaint):]...)
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}

// freeAddress picks an address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("pick a free port: %w", err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("pick a free port: %w", err)
	}
	return addr, nil
}
