package logtest

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// waitLimit ends a test whose event never comes. It is far above what any event
// takes on a busy machine, and no test passes by waiting it out.
const waitLimit = 30 * time.Second

// Recorder keeps every log line of one logger. Its methods may be called from
// several goroutines.
type Recorder struct {
	t testing.TB

	mu    sync.Mutex
	text  bytes.Buffer
	lines []map[string]any
	grown chan struct{} // closed and replaced when a line is added
}

// New is an empty recorder for t.
func New(t testing.TB) *Recorder {
	return &Recorder{t: t, grown: make(chan struct{})}
}

// Logger writes to the recorder, every level of it.
func (r *Recorder) Logger() zerolog.Logger {
	return zerolog.New(r).Level(zerolog.TraceLevel)
}

// Write takes one JSON line of a logger. Other text is kept for Text only.
func (r *Recorder) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.Write(line)
	var fields map[string]any
	if json.Unmarshal(line, &fields) == nil {
		r.lines = append(r.lines, fields)
	}
	close(r.grown)
	r.grown = make(chan struct{})
	return len(line), nil
}

// Text is everything that was logged so far.
func (r *Recorder) Text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// Lines are the fields of each line so far whose message is event.
func (r *Recorder) Lines(event string) []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.matching(event)
}

func (r *Recorder) matching(event string) []map[string]any {
	var found []map[string]any
	for _, fields := range r.lines {
		if fields[zerolog.MessageFieldName] == event {
			found = append(found, fields)
		}
	}
	return found
}

// Wait returns the fields of the first line whose message is event, as soon as
// it was logged. It fails the test where that never happens.
func (r *Recorder) Wait(event string) map[string]any {
	r.t.Helper()
	return r.WaitCount(event, 1)
}

// WaitCount returns the fields of the count-th line whose message is event.
func (r *Recorder) WaitCount(event string, count int) map[string]any {
	r.t.Helper()
	limit := time.NewTimer(waitLimit)
	defer limit.Stop()
	for {
		r.mu.Lock()
		found, grown := r.matching(event), r.grown
		r.mu.Unlock()
		if len(found) >= count {
			return found[count-1]
		}
		select {
		case <-grown:
		case <-limit.C:
			r.t.Fatalf("%d of %d %q were logged; the log:\n%s", len(found), count, event, strings.TrimSpace(r.Text()))
		}
	}
}
