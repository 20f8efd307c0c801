package sink_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

// logRecord keeps log lines and tells that one came.
type logRecord struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	arrived chan struct{}
}

func recordLog() (*logRecord, zerolog.Logger) {
	r := &logRecord{arrived: make(chan struct{}, 1)}
	return r, zerolog.New(r)
}

func (r *logRecord) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
	return r.buf.Write(p)
}

func (r *logRecord) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.FieldsFunc(r.buf.String(), func(c rune) bool { return c == '\n' })
}

// logWait bounds the wait for a log line, on a busy machine too.
const logWait = 30 * time.Second

// wait waits for a line that holds all texts.
func (r *logRecord) wait(t *testing.T, texts ...string) string {
	t.Helper()
	limit := time.After(logWait)
	for {
	lines:
		for _, line := range r.lines() {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			return line
		}
		select {
		case <-r.arrived:
		case <-limit:
			t.Fatalf("no log line holds %q: %q", texts, r.lines())
		}
	}
}

func TestLogNamesTheItemAndNotItsPayload(t *testing.T) {
	t.Parallel()
	log, logger := recordLog()
	s := open(t, "log:", sink.Options{Logger: logger})
	d := sinktest.Delivery(4)
	d.Item = json.RawMessage(`{"iban":"DE02120300000000202051"}`)
	if a := s.Deliver(t.Context(), d); a != (sink.Answer{Outcome: sink.Booked}) {
		t.Errorf("answer = %+v, want booked", a)
	}
	lines := log.lines()
	want := `{"level":"info","job_id":"` + d.JobID + `","company_id":"` + d.CompanyID + `","accounting_entry_id":"` + d.AccountingEntryID +
		`","position":5,"total":4000000000,"epoch":18446744073709551615,"attempt":3,"message":"` + logevent.ItemDelivered + `"}`
	if len(lines) != 1 || lines[0] != want {
		t.Errorf("log = %q, want %s", lines, want)
	}
}
