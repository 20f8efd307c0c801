//go:build unix

package sink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

// The engine's credentials are in its environment; a child is somebody else's
// program. Not parallel: it sets the environment.
func TestExecChildInheritsNoSecret(t *testing.T) {
	t.Setenv("LEDGERLINE_PLEO_TOKEN", "secret")
	t.Setenv("LEDGERLINE_", "secret")
	t.Setenv("NATS_PASSWORD", "secret")
	t.Setenv("NATS_URL", "secret")
	t.Setenv("ERP_REGION", "visible")
	t.Setenv("MY_NATS_NAME", "visible")
	s := open(t, "exec:"+childCommand("env"), sink.Options{})
	a := s.Deliver(t.Context(), sinktest.Delivery(1))
	names := strings.Fields(a.FailureReason)
	if a.Outcome != sink.Failed || len(names) != 2 || !strings.Contains(a.FailureReason, "ERP_REGION") || !strings.Contains(a.FailureReason, "MY_NATS_NAME") {
		t.Errorf("the child sees %q (%+v), want ERP_REGION and MY_NATS_NAME alone", names, a)
	}
}

// A command that answers with its own process id shows which child answered.
const answersWithPID = `exec:while read -r line; do echo '{"outcome":"booked","externalId":'$$'}'; done`

func TestExecChildIsKeptAndReused(t *testing.T) {
	t.Parallel()
	log, logger := recordLog()
	s := open(t, answersWithPID, sink.Options{Logger: logger, MaxConcurrent: 4})
	if lines := log.lines(); len(lines) != 0 {
		t.Errorf("opening logged %q, want no child before it is needed", lines)
	}
	first := s.Deliver(t.Context(), sinktest.Delivery(0))
	for i := range 20 {
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a != first || a.Outcome != sink.Booked {
			t.Errorf("answer = %+v, want that of the first child, %+v", a, first)
		}
	}
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for i := range 10 {
				if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a.Outcome != sink.Booked {
					t.Errorf("answer = %+v", a)
				}
			}
		})
	}
	running.Wait()
	started := 0
	for _, line := range log.lines() {
		if strings.Contains(line, logevent.SinkChildStarted) {
			started++
		}
	}
	if started > 4 {
		t.Errorf("%d children were started for 16 callers, want at most 4", started)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	pid, err := strconv.Atoi(first.ExternalID)
	if err != nil {
		t.Fatalf("externalId %q is no process id", first.ExternalID)
	}
	if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Close the child's group is still there: %v", err)
	}
}

func TestExecWaitsForAFreeChild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started, release := filepath.Join(dir, "started"), filepath.Join(dir, "release")
	for _, path := range []string{started, release} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Opening a fifo waits for the other end: no clock is needed.
	s := open(t, fmt.Sprintf(`exec:read -r line; : >'%s'; : <'%s'; echo '{"outcome":"booked"}'`, started, release), sink.Options{MaxConcurrent: 1, Timeout: time.Minute})
	var first sink.Answer
	done := make(chan struct{})
	go func() {
		defer close(done)
		first = s.Deliver(t.Context(), sinktest.Delivery(1))
	}()
	if _, err := os.ReadFile(started); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("Ready while all children work = %v, want nil", err)
	}
	ctx, cancel := contextWithin(t, 50*time.Millisecond)
	defer cancel()
	if a := s.Deliver(ctx, sinktest.Delivery(2)); a.Outcome != sink.Retry || !strings.Contains(a.Detail, "not sent: all 1 children are at work") {
		t.Errorf("with no child free: %+v, want Retry, not sent", a)
	}
	if err := os.WriteFile(release, nil, 0); err != nil {
		t.Fatal(err)
	}
	<-done
	if first.Outcome != sink.Booked {
		t.Errorf("the first delivery: %+v, want booked", first)
	}
}

func TestExecAnswersOutOfTheTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, command string
		want          sink.Outcome
		detail        string
	}{
		{"no JSON", `read -r l; echo booked; cat`, sink.Refused, "no JSON object"},
		{"empty line", `read -r l; echo; cat`, sink.Refused, "no JSON object"},
		{"an array", `read -r l; echo '[]'; cat`, sink.Refused, "no JSON object"},
		{"no outcome", `read -r l; echo '{"level":"info"}'; cat`, sink.Refused, "no outcome"},
		{"unknown outcome", `read -r l; echo '{"outcome":"Booked"}'; cat`, sink.Refused, "no outcome"},
		{"outcome of another kind", `read -r l; echo '{"outcome":1}'; cat`, sink.Refused, "no outcome"},
		{"two objects", `read -r l; echo '{"outcome":"booked"}{"outcome":"failed"}'; cat`, sink.Refused, "no JSON object"},
		{"a banner before the answer", `echo '{"level":"info"}'; read -r l; echo '{"outcome":"booked"}'; cat`, sink.Refused, "no outcome"},
		{"over the bound", `read -r l; head -c 100000 /dev/zero; cat`, sink.Retry, "more than 65536 bytes"},
		{"ends with a code", `read -r l; exit 7`, sink.Retry, "exit status 7"},
		{"ends in its answer", `read -r l; printf '{"outcome":"boo'`, sink.Retry, "exit code 0"},
		{"does not exist", `/nonexistent/book`, sink.Retry, "exit status 127"},
		{"closes its output", `exec >&-; cat >/dev/null`, sink.Retry, "closed its input or output"},
		{"ends after its answer, without a line break", `read -r l; printf '{"outcome":"booked"}'`, sink.Booked, ""},
		{"Windows line end", `while read -r l; do printf '{"outcome":"booked"}\r\n'; done`, sink.Booked, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log, logger := recordLog()
			s := open(t, "exec:"+c.command, sink.Options{Timeout: time.Minute, Logger: logger})
			for range 2 { // whatever happened, the next delivery finds a new child
				if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != c.want || !strings.Contains(a.Detail, c.detail) || (a.Detail == "") != (c.detail == "") {
					t.Errorf("answer = %+v, want %s with %q", a, c.want, c.detail)
				}
			}
			if c.want == sink.Refused { // its next line might be the answer to this item
				reason := "no answer"
				if strings.HasPrefix(c.command, "echo") {
					reason = "it wrote a line" // which of the two is seen first is the kernel's choice
				}
				log.wait(t, logevent.SinkChildKilled, reason)
			}
		})
	}
}

// An answer carries no key. A child that wrote a line too many would have its
// answers taken for those of the items after: one item's booking recorded for
// another.
func TestExecLineTooManyIsNeverAnAnswer(t *testing.T) {
	t.Parallel()
	log, logger := recordLog()
	s := open(t, `exec:while read -r l; do printf '{"outcome":"booked"}\n{"outcome":"failed"}\n'; done`, sink.Options{Logger: logger})
	for i := range 10 {
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a.Outcome != sink.Booked {
			t.Errorf("item %d: %+v, want its own answer", i, a)
		}
	}
	log.wait(t, logevent.SinkChildKilled, "nobody had asked for")
}

// The command is a shell's: what the shell started holds the pipes, and would
// go on booking.
func TestExecTimeOutKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	s := open(t, fmt.Sprintf(`exec:sleep 1000 & echo $! >'%s'; wait`, path), sink.Options{Timeout: time.Second})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Retry {
		t.Errorf("answer = %+v, want Retry", a)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	waitForEnd(t, pid)
}

// A pipe holds less than an item may have: a child that does not read must not
// hold the job for ever.
func TestExecChildThatDoesNotRead(t *testing.T) {
	t.Parallel()
	s := open(t, `exec:exec sleep 1000`, sink.Options{Timeout: time.Second})
	d := sinktest.Delivery(1)
	d.Item = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	if a := s.Deliver(t.Context(), d); a.Outcome != sink.Retry || !strings.Contains(a.Detail, "no answer within 1s") {
		t.Errorf("answer = %+v, want Retry after a second", a)
	}
}

func TestExecCloseKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	log, logger := recordLog()
	s := open(t, `exec:trap '' HUP INT TERM; read -r l; echo '{"outcome":"booked","externalId":'$$'}'; exec sleep 1000`, sink.Options{Logger: logger})
	a := s.Deliver(t.Context(), sinktest.Delivery(1))
	if a.Outcome != sink.Booked {
		t.Fatalf("answer = %+v, want booked", a)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	log.wait(t, logevent.SinkChildKilled, "did not end", `"pid":`+a.ExternalID)
}

func TestExecStderrGoesToTheLogWithinBounds(t *testing.T) {
	t.Parallel()
	log, logger := recordLog()
	s := open(t, `exec:read -r l; head -c 5000 /dev/zero | tr '\0' x >&2; printf '\n\033[31mred\033[0m\n' >&2; i=0; while [ $i -lt 500 ]; do echo "line $i" >&2; i=$((i+1)); done; echo '{"outcome":"booked"}'`, sink.Options{Logger: logger})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Booked {
		t.Fatalf("answer = %+v, want booked", a)
	}
	log.wait(t, logevent.SinkStderrRead, `"line":"line 0"`)
	log.wait(t, logevent.SinkChildStopped, `"exit_code":0`)
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	read := 0
	for _, line := range log.lines() {
		var event struct{ Message, Line string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if event.Message != logevent.SinkStderrRead {
			continue
		}
		read++
		if len(event.Line) > 1024 || strings.ContainsRune(event.Line, '\x1b') {
			t.Errorf("logged %q, want at most 1024 bytes without control characters", event.Line)
		}
	}
	if read < 100 || read > 300 {
		t.Errorf("%d of 502 lines were logged, want about the burst of 100", read)
	}
}

func TestExecReady(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, command, wrong string }{
		{"waits for an item", `exec cat`, ""},
		{"does not exist", `/nonexistent/book`, "exit status 127"},
		{"lacks a setting", `exit 2`, "exit status 2"},
		{"talks before it is asked", `echo hello; cat`, "nobody had asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "exec:"+c.command, sink.Options{})
			for range 2 {
				err := s.Ready(t.Context())
				if c.wrong == "" && err != nil || c.wrong != "" && (!errors.Is(err, sink.ErrNotReady) || !strings.Contains(err.Error(), c.wrong)) {
					t.Errorf("Ready = %v, want %q", err, c.wrong)
				}
			}
		})
	}
}

// A command that handles one line and ends is slow but right: the next delivery
// goes to a new process, and none is sent twice.
func TestExecOneShotCommand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seen")
	log, logger := recordLog()
	s := open(t, fmt.Sprintf(`exec:read -r l; echo "$l" >>'%s'; echo '{"outcome":"booked"}'`, path), sink.Options{Logger: logger})
	for i := range 5 {
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a.Outcome != sink.Booked {
			// Between its answer and its end a child looks fit; what was
			// written to it then is in doubt, and that is what Retry says.
			if a.Outcome != sink.Retry {
				t.Errorf("item %d: %+v, want booked, or Retry", i, a)
			}
		}
		log.wait(t, logevent.SinkChildStopped)
	}
	seen := map[string]bool{}
	for _, line := range fileLines(t, path) {
		if seen[string(line.Body)] {
			t.Errorf("%s was sent twice", line.Body)
		}
		seen[string(line.Body)] = true
	}
}

// waitForEnd waits until a process has ended; one that waits to be collected by
// its parent has.
func waitForEnd(t *testing.T, pid int) {
	t.Helper()
	limit := time.After(logWait)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for syscall.Kill(pid, 0) == nil {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err == nil && strings.HasPrefix(state, "Z") {
			return
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("process %d, started by the command, still runs", pid)
		}
	}
}
