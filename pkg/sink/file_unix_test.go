//go:build unix

package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

func TestFileLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	s := open(t, "file:"+path, sink.Options{})
	before := time.Now()
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a != (sink.Answer{Outcome: sink.Booked}) {
		t.Errorf("answer = %+v, want booked", a)
	}
	body, err := sinktest.Delivery(1).Body()
	if err != nil {
		t.Fatal(err)
	}
	line := string(fileLines(t, path)[0].Body)
	at, ok := strings.CutPrefix(line, strings.TrimSuffix(string(body), "}")+`,"at":"`)
	written, err := time.Parse(time.RFC3339Nano, strings.TrimSuffix(at, "\"}\n"))
	if !ok || err != nil || written.Before(before.Add(-time.Second)) || written.After(time.Now()) || written.Location() != time.UTC {
		t.Errorf("line = %s, want the body and the time in UTC (%v)", line, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

// A crash can leave half a line. Without a line break before it, the next
// booking would be the end of that half, and unreadable with it.
func TestFileTornLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	if err := os.WriteFile(path, []byte("{\"whole\":1}\n{\"torn\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		s := open(t, "file:"+path, sink.Options{})
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a.Outcome != sink.Booked {
			t.Errorf("answer = %+v, want booked", a)
		}
	}
	lines := fileLines(t, path)
	if len(lines) != 4 || string(lines[1].Body) != "{\"torn\":\n" || !bytes.HasPrefix(lines[2].Body, []byte(`{"jobId"`)) || !bytes.HasPrefix(lines[3].Body, []byte(`{"jobId"`)) {
		t.Errorf("lines = %q, want the torn one ended and two bookings after it", lines)
	}
}

// Lines synced into a file that was moved away or removed would be lost to
// whoever reads the path.
func TestFileFollowsItsPath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	s := open(t, "file:"+path, sink.Options{})
	for i, change := range []func() error{
		func() error { return nil },
		func() error { return os.Rename(path, path+".1") },
		func() error { return os.Remove(path) },
		func() error { return errors.Join(os.Rename(path, path+".2"), os.WriteFile(path, nil, 0o600)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a.Outcome != sink.Booked {
			t.Errorf("answer = %+v, want booked", a)
		}
		if lines := fileLines(t, path); len(lines) != 1 {
			t.Errorf("after change %d the path has %d lines, want 1", i, len(lines))
		}
	}
	dir := filepath.Dir(path)
	if err := errors.Join(os.Remove(path), os.Remove(path+".1"), os.Remove(path+".2"), os.Remove(dir)); err != nil {
		t.Fatal(err)
	}
	if a := s.Deliver(t.Context(), sinktest.Delivery(9)); a.Outcome != sink.Retry || !strings.Contains(a.Detail, "open the sink's file") {
		t.Errorf("without the directory: %+v, want Retry that says so", a)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, sink.ErrNotReady) {
		t.Errorf("Ready without the directory = %v, want ErrNotReady", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if a := s.Deliver(t.Context(), sinktest.Delivery(9)); a.Outcome != sink.Booked {
		t.Errorf("with the directory back: %+v, want booked", a)
	}
}

// Two sinks on one path stand for two processes: the lock is the open file's.
func TestFileIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	sinks := []sink.Sink{open(t, "file:"+path, sink.Options{}), open(t, "file:"+path, sink.Options{})}
	const each = 50
	var running sync.WaitGroup
	for n, s := range sinks {
		running.Go(func() {
			for i := range each {
				if a := s.Deliver(t.Context(), sinktest.Delivery(n*each+i)); a.Outcome != sink.Booked {
					t.Errorf("answer = %+v, want booked", a)
				}
			}
		})
	}
	running.Wait()
	seen := map[string]bool{}
	for _, line := range fileLines(t, path) {
		seen[entry(t, line.Body)] = true
	}
	if len(seen) != 2*each {
		t.Errorf("%d entries in the file, want %d", len(seen), 2*each)
	}
}

// A disk that is full in the middle of a line: a process of its own, since the
// limit on file sizes that stands for it is a process's.
func TestFileFullDiskLeavesNoHalfLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=fullDisk", "SINK_TEST_PATH="+filepath.Join(dir, "bookings.jsonl"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func init() { children["fullDisk"] = fullDiskChild }

func fullDiskChild() error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := limit
	const size = 2000 // some lines and a half
	full.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	path := os.Getenv("SINK_TEST_PATH")
	s, err := sink.Open("file:"+path, sink.Options{})
	if err != nil {
		return err
	}
	booked := 0
	for ; booked < 100; booked++ {
		if a := s.Deliver(context.Background(), sinktest.Delivery(booked)); a.Outcome != sink.Booked {
			if a.Outcome != sink.Retry || !strings.Contains(a.Detail, "file too large") {
				return fmt.Errorf("on the full disk: %+v, want Retry that says so", a)
			}
			break
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if booked == 0 || bytes.Count(text, []byte("\n")) != booked || !bytes.HasSuffix(text, []byte("}\n")) {
		return fmt.Errorf("after %d bookings and one that did not fit the file has %d bytes and ends in %q", booked, len(text), text[max(0, len(text)-20):])
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if a := s.Deliver(context.Background(), sinktest.Delivery(booked)); a.Outcome != sink.Booked {
		return fmt.Errorf("with room again: %+v, want booked", a)
	}
	if text, err = os.ReadFile(path); err != nil {
		return err
	}
	if n := bytes.Count(text, []byte("\n")); n != booked+1 {
		return fmt.Errorf("with room again the file has %d lines, want %d", n, booked+1)
	}
	return s.Close()
}
