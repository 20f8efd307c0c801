// Package sinktest is the conformance suite that every kind of sink passes.
//
// It promises that a sink which passes hands over every field, header and item
// byte as the contract has them, tells the five outcomes apart, keeps its time
// limit, survives a far side that goes quiet or away, keeps the answers of
// deliveries that run at once apart, and makes exactly one transmission a
// delivery. It leaves to each kind's own tests what only that kind has: status
// codes, processes, disks.
//
// A target brings the far side: it opens the sink under test and passes what
// arrives to Far.Receive, which says what to answer.
package sinktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

const (
	// quiet is the time limit where a test wants it to pass: long enough for a
	// far side that is a process to start on a busy machine.
	quiet = 3 * time.Second
	// ample is the time limit where no test wants it to pass.
	ample = time.Minute
	// jobs is how many deliveries the concurrency test runs at once, and rounds
	// how many each of them makes one after another.
	jobs, rounds = 8, 15
)

// Target is one kind of sink under test.
type Target struct {
	// Open opens the sink with o and a far side that hands each transmission to
	// far.Receive. What it starts it ends by t.Cleanup.
	Open func(t *testing.T, far *Far, o sink.Options) sink.Sink
	// Headers: the kind carries the contract's request headers.
	Headers bool
	// Lines: one line is one message, so line breaks in an item become blanks.
	Lines bool
	// BookedOnly: the kind has no far side that could answer anything else. Its
	// Open sets far.Kept.
	BookedOnly bool
	// NoBody: what the kind keeps does not hold the item (log:).
	NoBody bool
}

// Received is one transmission as the far side saw it.
type Received struct {
	Header map[string]string // names in lower case; nil for a kind without headers
	Body   []byte
}

// Reply is what the far side does with a transmission. Fields are sent as they
// are; an empty one is left out.
type Reply struct {
	Outcome                                                   sink.Outcome
	ExternalID, ExternalURL, FailureReason, FailureReasonType string
	RetryAfterSeconds                                         int
	// Silent: never answer. Broken: end the connection or the process without an
	// answer; where there is neither, as Silent.
	Silent, Broken bool
}

// JSON is the reply's fields with its outcome, as exec: and nats: answer it.
func (r Reply) JSON() []byte {
	fields := r.fields()
	fields["outcome"] = r.Outcome.String()
	if r.RetryAfterSeconds != 0 {
		fields["retryAfterSeconds"] = r.RetryAfterSeconds
	}
	return encode(fields)
}

// Fields is the reply's fields without outcome and wait, as an HTTP body.
func (r Reply) Fields() []byte { return encode(r.fields()) }

func (r Reply) fields() map[string]any {
	fields := map[string]any{}
	for name, text := range map[string]string{
		"externalId": r.ExternalID, "externalUrl": r.ExternalURL,
		"failureReason": r.FailureReason, "failureReasonType": r.FailureReasonType,
	} {
		if text != "" {
			fields[name] = text
		}
	}
	return fields
}

func encode(fields map[string]any) []byte {
	b, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return b
}

// Far is the far side's script and memory. Receive may be called by any number
// of goroutines.
type Far struct {
	// Kept gives what was received, for a kind that keeps it itself.
	Kept func() []Received

	mu       sync.Mutex
	script   func(Received) Reply
	received []Received
	arrived  chan struct{} // one for each transmission
}

func newFar() *Far {
	return &Far{
		script:  func(Received) Reply { return Reply{Outcome: sink.Booked} },
		arrived: make(chan struct{}, 4096), // more than any test sends
	}
}

// Receive records a transmission and says what to answer.
func (f *Far) Receive(r Received) Reply {
	f.mu.Lock()
	f.received = append(f.received, r)
	script := f.script
	f.mu.Unlock()
	f.arrived <- struct{}{}
	return script(r)
}

func (f *Far) answer(script func(Received) Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = script
}

func (f *Far) all() []Received {
	if f.Kept != nil {
		return f.Kept()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Received(nil), f.received...)
}

// want checks that the far side saw exactly n transmissions, and gives them.
func (f *Far) want(t *testing.T, n int) []Received {
	t.Helper()
	got := f.all()
	if len(got) != n {
		t.Fatalf("the far side saw %d transmissions, want %d: one a delivery, none repeated", len(got), n)
	}
	return got
}

// Delivery is a delivery with every field set; different numbers give different
// entries of one job.
func Delivery(number int) sink.Delivery {
	date := time.Date(2026, 4, 22, 12, 8, 56, 123456789, time.FixedZone("", 2*60*60))
	return sink.Delivery{
		JobID:             "8eb6a0d2-5f4e-4b6e-9d1a-0c1d2e3f4a5b",
		CompanyID:         "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
		AccountingEntryID: fmt.Sprintf("59540000-0000-4000-8000-%012x", number),
		Position:          uint32(number + 1),
		Total:             4_000_000_000,
		Epoch:             18_446_744_073_709_551_615,
		Attempt:           3,
		Date:              &date,
		Item:              json.RawMessage(`{"id":"x","amount":{"value":-12.50,"currency":"EUR"}}`),
		Traceparent:       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
}

type body struct {
	JobID             *string         `json:"jobId"`
	CompanyID         *string         `json:"companyId"`
	AccountingEntryID *string         `json:"accountingEntryId"`
	Position          *uint32         `json:"position"`
	Total             *uint32         `json:"total"`
	Epoch             *uint64         `json:"epoch"`
	Attempt           *uint32         `json:"attempt"`
	Date              json.RawMessage `json:"date"`
	Item              json.RawMessage `json:"item"`
	At                json.RawMessage `json:"at"` // file: only
}

func read(t *testing.T, r Received) body {
	t.Helper()
	var b body
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatalf("the far side cannot read the body %q: %v", r.Body, err)
	}
	return b
}

// Run runs the suite against one kind.
func Run(t *testing.T, target Target) {
	open := func(t *testing.T, timeout time.Duration) (sink.Sink, *Far) {
		t.Helper()
		t.Parallel()
		far := newFar()
		s := target.Open(t, far, sink.Options{Timeout: timeout, MaxConcurrent: jobs})
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close the sink: %v", err)
			}
		})
		return s, far
	}

	t.Run("life", func(t *testing.T) {
		s, far := open(t, ample)
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v, want nil", err)
		}
		far.want(t, 0) // readiness is asked without an item
		booked(t, s, Delivery(1))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if a := s.Deliver(ended, Delivery(2)); a.Outcome != sink.Retry || a.Detail == "" {
			t.Errorf("with a context that has ended: %+v, want Retry with Detail", a)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close = %v, want nil", err)
			}
		}
		if a := s.Deliver(t.Context(), Delivery(3)); a.Outcome != sink.Retry || a.Detail == "" {
			t.Errorf("after Close: %+v, want Retry with Detail", a)
		}
		if err := s.Ready(t.Context()); err == nil {
			t.Errorf("Ready after Close = nil, want an error")
		}
		far.want(t, 1)
	})

	if !target.NoBody {
		t.Run("fields", func(t *testing.T) {
			s, far := open(t, ample)
			d := Delivery(1)
			booked(t, s, d)
			bare := Delivery(2)
			bare.Traceparent, bare.Date, bare.Item = "", nil, nil
			booked(t, s, bare)
			got := far.want(t, 2)
			checkFields(t, target, got[0], d, `"2026-04-22T10:08:56.123456789Z"`, string(d.Item))
			checkFields(t, target, got[1], bare, `null`, `null`)
			if prefix := `{"jobId":"` + d.JobID + `","companyId":"` + d.CompanyID + `","accountingEntryId":"` + d.AccountingEntryID + `","position":2,"total":`; !bytes.HasPrefix(got[0].Body, []byte(prefix)) {
				t.Errorf("body = %s, want it to begin with %s", got[0].Body, prefix)
			}
		})
		t.Run("item bytes", func(t *testing.T) {
			s, far := open(t, ample)
			for i, item := range items {
				d := Delivery(i)
				d.Item = json.RawMessage(item)
				booked(t, s, d)
			}
			for i, r := range far.want(t, len(items)) {
				want := items[i]
				if target.Lines {
					want = strings.NewReplacer("\n", " ", "\r", " ").Replace(want)
				}
				if got := string(read(t, r).Item); got != want {
					t.Errorf("item %d arrived as %.200q, want %.200q", i, got, want)
				}
			}
		})
	}
	t.Run("item that is no JSON", func(t *testing.T) {
		s, far := open(t, ample)
		d := Delivery(1)
		d.Item = json.RawMessage(`{"secret":`)
		a := s.Deliver(t.Context(), d)
		if a.Outcome != sink.Refused || a.Detail == "" || strings.Contains(a.Detail, "secret") {
			t.Errorf("answer = %+v, want Refused with a Detail without the payload", a)
		}
		far.want(t, 0)
	})
	t.Run("concurrency", func(t *testing.T) {
		s, far := open(t, ample)
		far.answer(func(r Received) Reply {
			var b body
			if err := json.Unmarshal(r.Body, &b); err != nil || b.AccountingEntryID == nil {
				return Reply{Outcome: sink.Refused, FailureReason: "unreadable"}
			}
			return Reply{Outcome: sink.Booked, ExternalID: "of " + *b.AccountingEntryID}
		})
		var running sync.WaitGroup
		for job := range jobs {
			running.Go(func() {
				for round := range rounds {
					d := Delivery(job*rounds + round)
					a := s.Deliver(t.Context(), d)
					if a.Outcome != sink.Booked || (!target.BookedOnly && a.ExternalID != "of "+d.AccountingEntryID) {
						t.Errorf("job %d, item %d: %+v, want its own booking", job, round, a)
					}
				}
			})
		}
		running.Wait()
		got := far.want(t, jobs*rounds)
		if target.NoBody {
			return
		}
		seen := map[string]bool{}
		last := map[uint32]uint32{}
		for _, r := range got {
			b := read(t, r)
			if seen[*b.AccountingEntryID] {
				t.Errorf("entry %s arrived twice", *b.AccountingEntryID)
			}
			seen[*b.AccountingEntryID] = true
			job := (*b.Position - 1) / rounds
			if *b.Position <= last[job] {
				t.Errorf("job %d: position %d arrived after %d", job, *b.Position, last[job])
			}
			last[job] = *b.Position
		}
	})
	if target.BookedOnly {
		return
	}

	t.Run("outcomes", func(t *testing.T) {
		s, far := open(t, ample)
		reply := Reply{ExternalID: "JE-1", ExternalURL: "https://erp.example/je/1", FailureReason: "Période close", FailureReasonType: "validation_failure"}
		for i, want := range []sink.Answer{
			{Outcome: sink.Booked, ExternalID: reply.ExternalID, ExternalURL: reply.ExternalURL},
			{Outcome: sink.Failed, FailureReason: reply.FailureReason, FailureReasonType: reply.FailureReasonType},
			{Outcome: sink.Stale},
			{Outcome: sink.Retry},
			{Outcome: sink.Refused},
		} {
			reply.Outcome = want.Outcome
			far.answer(func(Received) Reply { return reply })
			got := s.Deliver(t.Context(), Delivery(i))
			if want.Outcome == sink.Booked || want.Outcome == sink.Failed {
				if got != want {
					t.Errorf("answer = %+v, want %+v", got, want)
				}
				continue
			}
			if !strings.Contains(got.Detail, reply.FailureReason) {
				t.Errorf("Detail = %q, want the sink's reason in it", got.Detail)
			}
			if got.Detail = ""; got != want {
				t.Errorf("answer = %+v, want %+v", got, want)
			}
		}
		far.want(t, 5)
	})
	t.Run("wait", func(t *testing.T) {
		s, far := open(t, ample)
		for i, c := range []struct {
			outcome sink.Outcome
			seconds int
			want    time.Duration
		}{
			{sink.Retry, 7, 7 * time.Second},
			{sink.Refused, 7, 7 * time.Second},
			{sink.Retry, 0, 0},
			{sink.Retry, -5, 0},
			{sink.Retry, 2_000_000_000, sink.MaxRetryAfter},
			{sink.Booked, 7, 0},
		} {
			far.answer(func(Received) Reply { return Reply{Outcome: c.outcome, RetryAfterSeconds: c.seconds} })
			if a := s.Deliver(t.Context(), Delivery(i)); a.Outcome != c.outcome || a.RetryAfter != c.want {
				t.Errorf("%s with %d s: %+v, want a wait of %s", c.outcome, c.seconds, a, c.want)
			}
		}
	})
	t.Run("failure types", func(t *testing.T) {
		s, far := open(t, ample)
		const other = "accounting_system_validation_failure"
		type failure struct{ reason, kind, wantReason, wantKind string }
		cases := []failure{
			{"Vendor blocked", "vendor_locked", "Vendor blocked (vendor_locked)", other},
			{"Vendor blocked", "", "Vendor blocked", other},
			{"Vendor blocked", "Vendor_Unknown", "Vendor blocked (Vendor_Unknown)", other},
		}
		for _, kind := range failureTypes {
			cases = append(cases, failure{"No", kind, "No", kind})
		}
		for i, c := range cases {
			far.answer(func(Received) Reply {
				return Reply{Outcome: sink.Failed, FailureReason: c.reason, FailureReasonType: c.kind}
			})
			want := sink.Answer{Outcome: sink.Failed, FailureReason: c.wantReason, FailureReasonType: c.wantKind}
			if a := s.Deliver(t.Context(), Delivery(i)); a != want {
				t.Errorf("failed with %q, %q: %+v, want %+v", c.reason, c.kind, a, want)
			}
		}
		far.answer(func(Received) Reply { return Reply{Outcome: sink.Failed} })
		if a := s.Deliver(t.Context(), Delivery(99)); a.Outcome != sink.Failed || a.FailureReason == "" || a.FailureReasonType != other {
			t.Errorf("failed without a reason: %+v, want a default text and %s", a, other)
		}
	})
	t.Run("limits", func(t *testing.T) {
		s, far := open(t, ample)
		long := strings.Repeat("ä€", 2000)
		far.answer(func(Received) Reply {
			return Reply{Outcome: sink.Booked, ExternalID: long, ExternalURL: "https://erp.example/" + long}
		})
		a := s.Deliver(t.Context(), Delivery(1))
		checkCut(t, "externalId", a.ExternalID, long, sink.MaxExternalIDBytes)
		checkCut(t, "externalUrl", a.ExternalURL, "https://erp.example/"+long, sink.MaxExternalURLBytes)
		if a.Outcome != sink.Booked || !strings.Contains(a.Detail, "externalId") || !strings.Contains(a.Detail, "externalUrl") {
			t.Errorf("outcome %s, Detail %q; want booked, and what was cut", a.Outcome, a.Detail)
		}
		far.answer(func(Received) Reply {
			return Reply{Outcome: sink.Failed, FailureReason: long, FailureReasonType: "vendor_locked"}
		})
		a = s.Deliver(t.Context(), Delivery(2))
		reason, kept := strings.CutSuffix(a.FailureReason, " (vendor_locked)")
		if !kept || len(a.FailureReason) > sink.MaxFailureReasonBytes || !strings.HasPrefix(long, reason) {
			t.Errorf("failureReason = %q, want it cut with the type kept", a.FailureReason)
		}
		far.answer(func(Received) Reply { return Reply{Outcome: sink.Retry, FailureReason: long} })
		if a = s.Deliver(t.Context(), Delivery(3)); len(a.Detail) > sink.MaxDetailBytes {
			t.Errorf("Detail has %d bytes, want at most %d", len(a.Detail), sink.MaxDetailBytes)
		}
	})
	t.Run("time-out", func(t *testing.T) {
		s, far := open(t, quiet)
		booked(t, s, Delivery(1))
		far.answer(func(Received) Reply { return Reply{Silent: true} })
		if a := s.Deliver(t.Context(), Delivery(2)); a.Outcome != sink.Retry || !strings.Contains(a.Detail, quiet.String()) {
			t.Errorf("no answer: %+v, want Retry that names the %s", a, quiet)
		}
		far.answer(func(Received) Reply { return Reply{Outcome: sink.Booked} })
		booked(t, s, Delivery(3))
		far.want(t, 3)
	})
	t.Run("broken off", func(t *testing.T) {
		s, far := open(t, quiet)
		booked(t, s, Delivery(1)) // so that a connection or a process is reused
		far.answer(func(Received) Reply { return Reply{Broken: true} })
		if a := s.Deliver(t.Context(), Delivery(2)); a.Outcome != sink.Retry || a.Detail == "" {
			t.Errorf("broken off: %+v, want Retry with Detail", a)
		}
		far.answer(func(Received) Reply { return Reply{Outcome: sink.Booked} })
		booked(t, s, Delivery(3))
		far.want(t, 3)
	})
	t.Run("cancelled", func(t *testing.T) {
		s, far := open(t, ample)
		far.answer(func(Received) Reply { return Reply{Silent: true} })
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-far.arrived
			cancel()
		}()
		begun := time.Now()
		a := s.Deliver(ctx, Delivery(1))
		if a.Outcome != sink.Retry || a.Detail == "" {
			t.Errorf("cancelled: %+v, want Retry with Detail", a)
		}
		if took := time.Since(begun); took > ample/2 {
			t.Errorf("Deliver returned %s after it began, want it to return when it is cancelled", took)
		}
		far.answer(func(Received) Reply { return Reply{Outcome: sink.Booked} })
		booked(t, s, Delivery(2))
		far.want(t, 2)
	})
}

func booked(t *testing.T, s sink.Sink, d sink.Delivery) {
	t.Helper()
	if a := s.Deliver(t.Context(), d); a.Outcome != sink.Booked {
		t.Fatalf("position %d: %+v, want booked", d.Position, a)
	}
}

func checkCut(t *testing.T, name, got, whole string, limit int) {
	t.Helper()
	if len(got) > limit || len(got) < limit-3 || !strings.HasPrefix(whole, got) {
		t.Errorf("%s has %d bytes (%q…), want it cut between characters at %d", name, len(got), got[:min(len(got), 20)], limit)
	}
}

func checkFields(t *testing.T, target Target, r Received, d sink.Delivery, date, item string) {
	t.Helper()
	b := read(t, r)
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for name, pair := range map[string][2]any{
		"jobId":             {b.JobID, d.JobID},
		"companyId":         {b.CompanyID, d.CompanyID},
		"accountingEntryId": {b.AccountingEntryID, d.AccountingEntryID},
	} {
		if got := pair[0].(*string); got == nil || *got != pair[1] {
			t.Errorf("%s did not arrive as %v: %s", name, pair[1], r.Body)
		}
	}
	if b.Position == nil || b.Total == nil || b.Epoch == nil || b.Attempt == nil {
		t.Fatalf("position, total, epoch or attempt is missing: %s", r.Body)
	}
	if *b.Position != d.Position || *b.Total != d.Total || *b.Epoch != d.Epoch || *b.Attempt != d.Attempt {
		t.Errorf("position, total, epoch, attempt = %d, %d, %d, %d, want %d, %d, %d, %d", *b.Position, *b.Total, *b.Epoch, *b.Attempt, d.Position, d.Total, d.Epoch, d.Attempt)
	}
	if string(b.Date) != date || string(b.Item) != item {
		t.Errorf("date, item = %s, %s, want %s, %s", b.Date, b.Item, date, item)
	}
	if !target.Headers {
		return
	}
	want := map[string]string{
		"content-type":          "application/json",
		"idempotency-key":       d.CompanyID + ":" + d.AccountingEntryID,
		"ledgerline-job-id":     d.JobID,
		"ledgerline-company-id": d.CompanyID,
		"ledgerline-position":   number(uint64(d.Position)),
		"ledgerline-total":      number(uint64(d.Total)),
		"ledgerline-epoch":      number(d.Epoch),
		"ledgerline-attempt":    number(uint64(d.Attempt)),
	}
	for name, value := range want {
		if got, ok := r.Header[name]; !ok || got != value {
			t.Errorf("header %s = %q, want %q", name, got, value)
		}
	}
	if got, ok := r.Header["traceparent"]; got != d.Traceparent || ok != (d.Traceparent != "") {
		t.Errorf("header traceparent = %q (there: %t), want %q", got, ok, d.Traceparent)
	}
}

// failureTypes are the item failure types of the upstream API's reference,
// written down a second time on purpose.
var failureTypes = []string{
	"receipt_upload_failure", "receipt_download_failure", "receipt_file_size_limit_exceeded", "receipt_conversion_failure",
	"unexpected_failure", "invalid_configuration", "missing_configuration",
	"accounting_system_authentication_failure", "accounting_system_rate_limit", "accounting_system_unreachable", "accounting_system_timeout",
	"validation_failure", "accounting_system_validation_failure", "authorization_failure",
	"vendor_unknown", "account_unknown", "tax_code_unknown", "tag_unknown",
}

// items are what a careless encoder changes.
var items = []string{
	`{"note":"Grüße, 東京 🧾 \u00e9\ud83e\uddfe \/ \" \\ \n \u2028 <b>&amp;</b>"}`,
	`{"a":12345678901234567890.123456789012345678901234567890,"b":1e400,"c":-0.0,"d":1.50,"e":9007199254740993}`,
	`{ "z" : 1 ,` + "\t" + `"a" : [ ] , "z" : 2 }`,
	"{\r\n  \"lines\": [\n    1,\n    2\n  ]\n}",
	`{}`, `[]`, `"text"`, `0`, `true`, `null`,
	`{"big":"` + strings.Repeat("0123456789abcdef", 16<<10) + `"}`, // 256 KiB: over a pipe's and a socket's buffer
}
