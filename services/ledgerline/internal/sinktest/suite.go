package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

const (
	// maxTries is how often an item is sent while the sink asks for another try:
	// enough for a rate limit, and a sink that never decides is told of.
	maxTries = 3
	// retryWait is the contract's first wait, and maxWait the longest that a sink
	// may ask for here: a person is waiting.
	retryWait = 500 * time.Millisecond
	maxWait   = 5 * time.Second
	// restartLimit is how long a restarted sink may take to be ready.
	restartLimit = time.Minute
	// restartPoll is the wait between two questions whether it is.
	restartPoll = 100 * time.Millisecond
)

// Options say what is tested and how.
type Options struct {
	// Name is the sink as the report shows it, without credentials.
	Name string
	// Open opens the sink; the suite closes what it opened.
	Open func() (sink.Sink, error)
	// Raw posts what no worker posts on purpose; nil for a sink without HTTP.
	Raw *RawHTTP
	// Company is whose items are sent.
	Company uuid.UUID
	// Item is the export item to send, a JSON object; nil for a made-up one. Its
	// ids are replaced.
	Item json.RawMessage
	// Timeout is that of one attempt, as the sink was opened with.
	Timeout time.Duration
	// RetryWait replaces the wait before an item is sent again; 0 for the usual one.
	RetryWait time.Duration
	// Count tells how many bookings the user's system holds for an idempotency key;
	// nil where it cannot be asked.
	Count func(ctx context.Context, key string) (int, error)
	// Restart restarts the sink; nil where that cannot be done. Reopen is enough
	// for a sink that is a process of our own.
	Restart func(ctx context.Context) error
	Reopen  bool
	// Told is called with each check as it ends; nil for nobody.
	Told func(Check)
}

// check is one situation: what it is called, what it asks, and what a sink that
// does not stand it costs in production.
type check struct {
	name, asks, cost string
	run              func(*suite, context.Context) finding
}

// checks in the order in which they are made. All but the first two need a sink
// that books.
var checks = []check{
	{"ready", "readiness is confirmed without an item", "while HEAD is answered 401, 403, 5xx or not at all, no job is started", (*suite).ready},
	{"new-item", "a new item is booked", "nothing is booked; a sink that gives no externalId leaves Pleo without a link to the booking", (*suite).newItem},
	{"twice", "the same item again, with a higher attempt, is recognised", "after each crash or lost answer the item in doubt is booked twice, or shown as failed though it is booked", (*suite).twice},
	{"at-once", "the same item again, while the first is still being booked, is recognised", "an item whose first attempt timed out is booked twice when the first one is finished after all", (*suite).atOnce},
	{"late", "a first attempt that arrives after the second was answered is recognised", "an attempt held up in a proxy is booked a second time when it arrives", (*suite).late},
	{"later-job", "the same entry in a later job is recognised", "an entry whose booking could not be recorded before its job ended is booked again by the next export", (*suite).laterJob},
	{"stale-epoch", "a worker of an older epoch is refused with 412", "not fenced: a worker that was frozen and presumed dead can still deliver the one item it had in hand: a double where the key is not recognised, otherwise a booking of what its successor may have reported as failed", (*suite).staleEpoch},
	{"live-epoch", "the fence stops nobody else", "after a takeover the job's new worker, or every other job, is refused until the deadline", (*suite).liveEpoch},
	{"cut-off", "a request that ends in the middle of its body books nothing", "a dropped connection books half an item, and the whole one is never booked", (*suite).cutOff},
	{"dropped", "an item whose connection broke before the answer is booked once", "each broken connection books an item twice, or leaves it unbookable", (*suite).dropped},
	{"jobs-at-once", "items of different jobs at the same time are booked, each as itself", "jobs of different companies mix up their bookings, or wait for one another", (*suite).jobsAtOnce},
	{"unicode", "text in any script is booked", "expenses at merchants with such names cannot be exported", (*suite).unicode},
	{"numbers", "numbers that no float holds do not disturb", "an unusual amount is rounded, or holds up its job until the deadline", (*suite).numbers},
	{"null-item", "an item without a payload is decided on", "an entry whose payload Pleo does not deliver holds up its job; a sink that needs payloads cannot be run with LEDGERLINE_PAYLOAD=none", (*suite).nullItem},
	{"null-date", "an item without a date is decided on", "an entry whose date cannot be read holds up its job, or ends as failed", (*suite).nullDate},
	{"unknown-fields", "fields it does not know are tolerated", "the day Pleo or Ledgerline adds a field, every item fails", (*suite).unknownFields},
	{"nonsense", "an item that cannot be booked is failed, not tried again", "one bad item holds up everything behind it in its job until the deadline", (*suite).nonsense},
	{"failed-again", "an item that failed can be booked once it is corrected", "an expense that failed once can never be exported", (*suite).failedAgain},
	{"in-time", "answers come well within the time limit", "an answer after LEDGERLINE_SINK_TIMEOUT counts as none: the item is sent again, and the job may reach its deadline", (*suite).inTime},
	{"restart", "what was booked, and the epoch, are remembered across a restart", "each deployment of the sink forgets what it booked: the item in doubt is booked twice", (*suite).restart},
}

// suite is one run.
type suite struct {
	Options
	run  uuid.UUID // entries of two runs differ
	sink sink.Sink

	epoch      uint64  // of new items
	first      booking // what new-item booked
	fenced     bool    // stale-epoch was refused
	fence      sink.Delivery
	failed     *sink.Delivery // what nonsense was answered failed for
	transcript struct {
		sync.Mutex
		took     []time.Duration
		timeouts int
	}
}

// booking is a delivery and the answer to it.
type booking struct {
	sink.Delivery
	answer sink.Answer
}

// Run makes all checks. Its error is one of the run, not of the sink: it could not
// be opened, or ctx ended.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if o.RetryWait == 0 {
		o.RetryWait = retryWait
	}
	s := &suite{Options: o, run: uuid.New(), epoch: 1}
	if s.sink, err = o.Open(); err != nil {
		return nil, fmt.Errorf("open the sink: %w", err)
	}
	defer func() {
		if closeErr := s.sink.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close the sink: %w", closeErr)
		}
	}()
	report := &Report{Sink: o.Name, CompanyID: o.Company.String(), Checks: []Check{}}
	for _, c := range checks {
		f := skipped("not asked: it needs a sink that books a new item")
		if c.name == "ready" || c.name == "new-item" || s.first.answer.Outcome == sink.Booked {
			f = c.run(s, ctx)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("test the sink: %w", context.Cause(ctx))
		}
		report.add(Check{Name: c.name, Asks: c.asks, Result: f.result, Found: f.found, Cost: c.cost})
		if o.Told != nil {
			o.Told(report.Checks[len(report.Checks)-1])
		}
	}
	return report, nil
}

// send makes one transmission.
func (s *suite) send(ctx context.Context, d sink.Delivery) sink.Answer {
	began := time.Now()
	a := s.sink.Deliver(ctx, d)
	took := time.Since(began)
	s.transcript.Lock()
	defer s.transcript.Unlock()
	switch {
	case ctx.Err() != nil: // given up by us
	case a.Outcome == sink.Retry && took >= s.Timeout:
		s.transcript.timeouts++
	default:
		s.transcript.took = append(s.transcript.took, took)
	}
	return a
}

// settle sends until the sink has decided, as a worker does: the same item, a
// higher attempt. Here it gives up after maxTries.
func (s *suite) settle(ctx context.Context, d *sink.Delivery) sink.Answer {
	for try := 1; ; try++ {
		a := s.send(ctx, *d)
		d.Attempt++
		if a.Outcome != sink.Retry || try == maxTries || ctx.Err() != nil {
			return a
		}
		wait := s.RetryWait
		if a.RetryAfter > 0 {
			wait = min(a.RetryAfter, maxWait)
		}
		if !pause(ctx, wait) {
			return a
		}
	}
}

// book settles a new item and keeps the delivery with its answer.
func (s *suite) book(ctx context.Context, d sink.Delivery) booking {
	a := s.settle(ctx, &d)
	return booking{d, a}
}

// median is the usual time of an answer so far.
func (s *suite) median() time.Duration {
	s.transcript.Lock()
	defer s.transcript.Unlock()
	if len(s.transcript.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.transcript.took))
	return sorted[len(sorted)/2]
}

// inBooks compares what the user's system holds for d with what it must. known is
// false where it cannot be asked.
func (s *suite) inBooks(ctx context.Context, d sink.Delivery, want int) (problem string, known bool) {
	if s.Count == nil {
		return "", false
	}
	got, err := s.Count(ctx, d.IdempotencyKey())
	switch {
	case err != nil:
		return fmt.Sprintf("the books could not be asked: %v", err), true
	case got != want:
		return fmt.Sprintf("the books hold %d bookings of it, %d expected", got, want), true
	}
	return "", true
}

// ready is the first check.
func (s *suite) ready(ctx context.Context) finding {
	if err := s.sink.Ready(ctx); err != nil {
		return failed("%v", err)
	}
	return passed("it says that it takes items")
}

// inTime judges every answer of the run.
func (s *suite) inTime(context.Context) finding {
	median := s.median()
	s.transcript.Lock()
	defer s.transcript.Unlock()
	if s.transcript.timeouts > 0 {
		return failed("%d of %d answers did not come within %s", s.transcript.timeouts, s.transcript.timeouts+len(s.transcript.took), s.Timeout)
	}
	slowest := slices.Max(s.transcript.took)
	found := fmt.Sprintf("%d answers, half of them within %s, the slowest %s of %s allowed",
		len(s.transcript.took), round(median), round(slowest), s.Timeout)
	if slowest > s.Timeout/2 {
		return warned("%s", found)
	}
	return passed("%s", found)
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

// errGivenUp is the cause of a delivery whose answer is not waited for.
var errGivenUp = errors.New("the connection is dropped on purpose")

// pause waits and tells whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
