package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Sink books items. All methods may be called by any number of goroutines.
type Sink interface {
	// Deliver makes one transmission of one item and says what the sink
	// answered. It never retries and never returns an error: trouble is an
	// Answer, Retry or Refused, with Detail. It returns within the timeout the
	// sink was opened with, and promptly after ctx is cancelled; the item is
	// then in doubt, since the far side may have it already.
	Deliver(ctx context.Context, d Delivery) Answer
	// Ready asks whether the sink would take an item now, without sending one:
	// nil, or an error that wraps ErrNotReady or ErrClosed. Over HTTP this is a
	// HEAD to the sink's address, which any answer but 401, 403 and 5xx passes.
	Ready(ctx context.Context) error
	// Close gives back what the sink holds. Call it once the last Deliver has
	// returned; a Deliver after it answers Retry.
	Close() error
}

// Delivery is one item of one job on its way to the sink.
type Delivery struct {
	JobID, CompanyID, AccountingEntryID string // UUIDs, lower case

	Position uint32     // place among the job's items, from 1
	Total    uint32     // number of items sealed for the job
	Epoch    uint64     // fencing token: rises at every claim of the job
	Attempt  uint32     // sends of this entry in this job, this one included, from 1
	Date     *time.Time // the item's transaction date; nil where it has none

	// Item is the upstream export item as received; nil for null.
	Item json.RawMessage
	// Traceparent is the W3C trace context; empty for none.
	Traceparent string
}

// IdempotencyKey is <companyId>:<accountingEntryId> in lower case: the same for
// the same entry in any job, at any attempt.
func (d Delivery) IdempotencyKey() string {
	return strings.ToLower(d.CompanyID + ":" + d.AccountingEntryID)
}

// Body is the delivery as one JSON object, with the fields of the contract in
// their order. The item's bytes are copied as they are: encoding/json would
// compact them and escape <, > and & anew. An item that is no JSON is an error,
// since it would make the whole body unreadable.
func (d Delivery) Body() ([]byte, error) {
	item := []byte("null")
	if len(d.Item) > 0 {
		if !json.Valid(d.Item) {
			return nil, fmt.Errorf("write entry %s of job %s as JSON: the item is not JSON", d.AccountingEntryID, d.JobID)
		}
		item = d.Item
	}
	date := []byte("null")
	if d.Date != nil {
		var err error
		if date, err = d.Date.UTC().MarshalJSON(); err != nil { // RFC3339Nano
			return nil, fmt.Errorf("write the date of entry %s of job %s: %w", d.AccountingEntryID, d.JobID, err)
		}
	}
	b := make([]byte, 0, len(item)+bodyFrameBytes)
	b = append(b, `{"jobId":`...)
	b = appendText(b, d.JobID)
	b = append(b, `,"companyId":`...)
	b = appendText(b, d.CompanyID)
	b = append(b, `,"accountingEntryId":`...)
	b = appendText(b, d.AccountingEntryID)
	b = append(b, `,"position":`...)
	b = strconv.AppendUint(b, uint64(d.Position), 10)
	b = append(b, `,"total":`...)
	b = strconv.AppendUint(b, uint64(d.Total), 10)
	b = append(b, `,"epoch":`...)
	b = strconv.AppendUint(b, d.Epoch, 10)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendUint(b, uint64(d.Attempt), 10)
	b = append(b, `,"date":`...)
	b = append(b, date...)
	b = append(b, `,"item":`...)
	b = append(b, item...)
	return append(b, '}'), nil
}

// bodyFrameBytes is about what a body holds besides its item (three UUIDs, four
// numbers, a date and the names), so that most bodies are allocated once.
const bodyFrameBytes = 384

func appendText(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil { // cannot happen: every string has a JSON form
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// oneLine makes a body fit for a stream where one line is one message. JSON
// allows a raw line break between tokens only, so a blank in its place changes
// no value.
func oneLine(body []byte) []byte {
	if !bytes.ContainsAny(body, "\r\n") {
		return body
	}
	line := bytes.Clone(body)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	return line
}

// headers are the request headers of the contract by name, for the carriers
// that have headers.
func (d Delivery) headers() [][2]string {
	h := [][2]string{
		{"Content-Type", "application/json"},
		{"Idempotency-Key", d.IdempotencyKey()},
		{"Ledgerline-Job-Id", d.JobID},
		{"Ledgerline-Company-Id", d.CompanyID},
		{"Ledgerline-Position", strconv.FormatUint(uint64(d.Position), 10)},
		{"Ledgerline-Total", strconv.FormatUint(uint64(d.Total), 10)},
		{"Ledgerline-Epoch", strconv.FormatUint(d.Epoch, 10)},
		{"Ledgerline-Attempt", strconv.FormatUint(uint64(d.Attempt), 10)},
	}
	// A trace context that is no header value would make the whole request
	// impossible to send; a trace is not worth an item.
	if d.Traceparent != "" && isHeaderValue(d.Traceparent) {
		h = append(h, [2]string{"traceparent", d.Traceparent})
	}
	return h
}

func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// carrier is what differs between the kinds of sink.
type carrier interface {
	// carry makes the one transmission. ctx ends at the attempt's time-out, and
	// its cause then is errNoAnswer.
	carry(ctx context.Context, d Delivery, body []byte) Answer
	ready(ctx context.Context) error
	close() error
}

// boundedSink is what every kind shares: the time limit, the body, the closed
// state, the limits of an answer.
type boundedSink struct {
	carrier
	timeout time.Duration
	closed  atomic.Bool
}

func (s *boundedSink) Deliver(ctx context.Context, d Delivery) Answer {
	if s.closed.Load() {
		return Answer{Outcome: Retry, Detail: "not sent: " + ErrClosed.Error()}
	}
	if ctx.Err() != nil {
		return Answer{Outcome: Retry, Detail: clean("not sent: "+context.Cause(ctx).Error(), MaxDetailBytes)}
	}
	body, err := d.Body()
	if err != nil {
		// Not the sink's verdict on the item: nothing may be failed for it, and
		// a person must look.
		return Answer{Outcome: Refused, Detail: clean("not sent: "+err.Error(), MaxDetailBytes)}
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	answer := s.carry(ctx, d, body)
	answer.Detail = clean(answer.Detail, MaxDetailBytes)
	return answer
}

func (s *boundedSink) Ready(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

func (s *boundedSink) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.close()
}

func (s *boundedSink) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("%w within %s", errNoAnswer, s.timeout))
}

// unanswered is the answer where none came: Retry, with the reason the context
// ended, or else what went wrong on the way.
func unanswered(ctx context.Context, err error) Answer {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		if !errors.Is(cause, errNoAnswer) {
			cause = fmt.Errorf("stopped waiting for the sink's answer: %w", cause)
		}
		return Answer{Outcome: Retry, Detail: cause.Error()}
	}
	return Answer{Outcome: Retry, Detail: err.Error()}
}
