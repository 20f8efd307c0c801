//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// endLimit is how long a process may take to end on SIGTERM.
const endLimit = 40 * time.Second

// process is one program of the installation, over all its lives.
type process struct {
	name    string
	program string
	args    []string
	environ []string
	logs    string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	meant bool          // its end was ours
	busy  bool          // a fault has it
	bad   []string      // ends that were not ours
}

// start begins a life.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(p.logs, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	cmd := exec.Command(p.program, p.args...) //nolint:noctx // it is ended by signals, as the run says
	cmd.Env, cmd.Stdout, cmd.Stderr = p.environ, log, log
	// A signal from the terminal is for the run, which ends them in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	if closeErr := log.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.meant, p.ended = cmd, false, make(chan struct{})
	go p.wait(cmd, p.ended)
	return nil
}

func (p *process) wait(cmd *exec.Cmd, ended chan<- struct{}) {
	defer close(ended)
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.meant {
		p.bad = append(p.bad, fmt.Sprintf("%s ended by itself at %s: %v", p.name, time.Now().Format(time.RFC3339), err))
	}
}

// take reserves the process for a fault; it may be another's or gone.
func (p *process) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || p.cmd == nil || p.meant {
		return false
	}
	p.busy = true
	return true
}

func (p *process) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
}

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", s, p.name, err)
	}
	return nil
}

// kill ends a life the hard way and waits for its end.
func (p *process) kill() error {
	p.mu.Lock()
	p.meant = true
	ended := p.ended
	p.mu.Unlock()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-ended
	return nil
}

// end ends a life the way an operator does; one that does not obey is killed.
func (p *process) end() error {
	p.mu.Lock()
	if p.cmd == nil {
		p.mu.Unlock()
		return nil
	}
	p.meant = true
	ended := p.ended
	p.mu.Unlock()
	if err := errors.Join(p.signal(syscall.SIGCONT), p.signal(syscall.SIGTERM)); err != nil {
		return err
	}
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-ended:
		return nil
	case <-limit.C:
		return errors.Join(fmt.Errorf("%s did not end in %s", p.name, endLimit), p.kill())
	}
}

// lasting waits for d, or less where ctx ends.
func lasting(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
