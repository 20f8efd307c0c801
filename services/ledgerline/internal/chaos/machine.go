//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
	// beat is how often the machine's own clock and disk are felt.
	beat = 100 * time.Millisecond
	// probeBytes are what a write of the servers' has, about.
	probeBytes = 4 << 10
)

// machine watches whether the machine itself stands still: a busy host can hold
// every process up for longer than a heartbeat, and the takeovers that follow are
// no fault of the engine's.
type machine struct {
	done chan struct{}

	mu   sync.Mutex
	seen []fault
}

// watchMachine counts as a stall what holds the clock or a synced write up for a
// quarter of the lease: the time between two heartbeats.
func watchMachine(ctx context.Context, dir string, lease time.Duration) *machine {
	m := &machine{done: make(chan struct{})}
	var watching sync.WaitGroup
	watching.Go(func() {
		m.watch(ctx, "clock", lease/4, func() error { return nil })
	})
	watching.Go(func() {
		m.watch(ctx, "disk", lease/4, func() error { return probe(filepath.Join(dir, "probe")) })
	})
	go func() {
		watching.Wait()
		close(m.done)
	}()
	return m
}

func (m *machine) watch(ctx context.Context, what string, most time.Duration, step func() error) {
	for {
		from := time.Now()
		if !lasting(ctx, beat) {
			return
		}
		err := step()
		if late := time.Since(from) - beat; late > most || err != nil {
			f := fault{Kind: stalled, Targets: []string{everybody}, What: fmt.Sprintf("%s held up for %s", what, late.Round(time.Millisecond)), From: from, Until: time.Now()}
			if err != nil {
				f.What = fmt.Sprintf("%s: %v", what, err)
			}
			m.mu.Lock()
			m.seen = append(m.seen, f)
			m.mu.Unlock()
		}
	}
}

// probe writes as the servers do.
func probe(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open the probe: %w", err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Write(make([]byte, probeBytes)); err != nil {
		return fmt.Errorf("write the probe: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync the probe: %w", err)
	}
	return nil
}

func (m *machine) faults() []fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}
