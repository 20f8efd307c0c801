package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// gated holds the requests that fit until the gate opens.
func gated(g *gate, fits func(*http.Request) bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if fits(r) {
			g.pass(r.Context())
		}
		next.ServeHTTP(w, r)
	}
}

// body reads a request's body and leaves it readable.
func body(t *testing.T, r *http.Request) []byte {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return data
}

// Results go out in batches of at most 100, and each within about a second of its
// booking, in order of position, once. Trap 39.
func TestResultsAreReportedInBatches(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 90})
	in.fetcher(orderEntry)
	var mu sync.Mutex
	var batches []int
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if reportsItems(r) {
			var updates []json.RawMessage
			if err := json.Unmarshal(body(t, r), &updates); err != nil {
				t.Errorf("the body of an update is no bare array: %v", err)
			}
			mu.Lock()
			batches = append(batches, len(updates))
			mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
	job := in.add(simulator.JobSpec{Entries: entries(250)})
	here := in.gate()
	var booked time.Time
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		switch d.Position {
		case 4:
			booked = time.Now()
		case 5: // the first four wait for no fifth
			here.pass(ctx)
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	in.publish(job)
	in.wait(here, "item 5")
	ctx := in.bounded("the first results were not reported")
	for in.reported(job) < 4 {
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
	}
	if late := time.Since(booked); late > slowness*2*time.Second {
		t.Errorf("the first results were reported after %s", late)
	}
	here.open()
	in.completes(job)
	mu.Lock()
	defer mu.Unlock()
	for _, n := range batches {
		if n > 100 {
			t.Errorf("a batch of %d", n)
		}
	}
	updates, err := in.upstream.Updates(job)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, u := range updates {
		order = append(order, u.AccountingEntryID.String())
	}
	if !slices.Equal(order, to.ids(job)) {
		t.Errorf("%d results were reported in another order, or not once, than %d items were sent", len(order), len(to.ids(job)))
	}
}

// errors[] in a 200: those items again; after five tries the job is parked, and
// no closing event is posted. Trap 22.
func TestRefusedResultsParkJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 91, Faults: simulator.FaultPlan{{Fault: simulator.FaultPartialErrors, Mode: simulator.FaultAlways}}})
	in.fetcher()
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.parks(job, "5 tries", "EXPORT_ENTRY_STATUS_UPDATE_FAILED")
	to.once(in, job, 3)
	if got := eventsOf(in.job(job)); len(got) != 0 {
		t.Errorf("events at Pleo: %v", got)
	}
	if n := in.upstream.Counters().Requests[simulator.OpUpdateItems][200]; n != 5 {
		t.Errorf("%d updates, want 5", n)
	}
	// A later job of the company knows the bookings.
	if err := in.upstream.SetFaults(nil); err != nil {
		t.Fatal(err)
	}
	var specs []simulator.EntrySpec
	for _, id := range to.ids(job) {
		specs = append(specs, simulator.EntrySpec{ID: uuid.MustParse(id)})
	}
	later := in.add(simulator.JobSpec{Entries: specs})
	in.publish(later)
	in.completes(later)
	if got := to.ids(later); len(got) != 0 {
		t.Errorf("booked entries were sent again: %v", got)
	}
}

// One result that Pleo never takes parks the job; every other one that is booked by
// then is at Pleo all the same, and does not wait for a person while the job's time
// runs out.
func TestOneRefusedResultDoesNotHoldTheOthersBack(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 93})
	in.fetcher(orderEntry)
	stubborn := entryID(3).String()
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !reportsItems(r) {
			next.ServeHTTP(w, r)
			return
		}
		var updates []map[string]any
		if err := json.Unmarshal(body(t, r), &updates); err != nil {
			t.Error(err)
		}
		taken := slices.DeleteFunc(slices.Clone(updates), func(u map[string]any) bool { return u["accountingEntryId"] == stubborn })
		answer := map[string]any{"data": []any{}}
		if len(taken) > 0 {
			data, err := json.Marshal(taken)
			if err != nil {
				t.Error(err)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
			if err := json.Unmarshal(recorded(next, r).Body.Bytes(), &answer); err != nil {
				t.Error(err)
			}
		}
		answer["errors"] = []any{}
		if len(taken) < len(updates) {
			answer["errors"] = []any{map[string]string{
				"accountingEntryId": stubborn, "type": "EXPORT_ENTRY_STATUS_UPDATE_FAILED", "message": "never",
			}}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	})
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(700)})
	in.publish(job)
	in.parks(job, "5 tries", stubborn)
	booked := to.ids(job)
	statuses := map[string]string{}
	for _, it := range in.job(job).Items {
		statuses[it.AccountingEntryID.String()] = it.Status
	}
	for i, id := range booked {
		if want := id != stubborn; want != (statuses[id] == simulator.ItemSuccessful) {
			t.Errorf("position %d of %d booked is %s at Pleo", i+1, len(booked), statuses[id])
		}
	}
	if got := eventsOf(in.job(job)); len(got) != 0 {
		t.Errorf("events at Pleo: %v", got)
	}
}

// 413: the batch is halved until it fits. Trap 39.
func TestTooLargeReportIsHalved(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 92})
	in.fetcher()
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if reportsItems(r) {
			var updates []json.RawMessage
			if err := json.Unmarshal(body(t, r), &updates); err != nil || len(updates) > 10 {
				http.Error(w, `{"type":"EXPORT_JOB_ITEMS_UPDATE_LIMIT","message":"at most 10"}`, http.StatusRequestEntityTooLarge)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(45)})
	in.publish(job)
	in.completes(job)
	to.once(in, job, 45)
}

// 422 in the middle of a job: expired, cancelled, or completed by a second
// integration. Nothing more is sent, the job is parked with that reason, and what
// was booked stays remembered. Trap 4.
func TestJobEndedAtPleoInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(in *installation, job uuid.UUID) error
		says string
	}{
		"cancelled": {func(in *installation, job uuid.UUID) error { return in.upstream.Cancel(job) }, "canceled_by_user"},
		"expired":   {func(in *installation, job uuid.UUID) error { return in.upstream.Expire(job) }, "job_expired"},
		"second integration": {func(in *installation, job uuid.UUID) error {
			return in.upstream.Touch(job, simulator.Touch{Event: simulator.EventCompleted})
		}, "completed at Pleo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 93})
			in.fetcher(orderEntry)
			job := in.add(simulator.JobSpec{Entries: entries(500)})
			var ended atomic.Int32
			to := &book{}
			ctx := in.bounded("the lane was not stopped")
			to.answer = func(_ context.Context, d sink.Delivery) sink.Answer {
				if d.JobID == job.String() && d.Position == 10 {
					if err := c.end(in, job); err != nil {
						t.Error(err)
					}
				}
				// A slow sink: the report of the first items learns of it soon.
				if d.JobID == job.String() && d.Position > 10 && ended.Add(1) < 40 {
					select {
					case <-time.After(50 * time.Millisecond):
					case <-ctx.Done():
					}
				}
				return bookedAs(d)
			}
			in.consumer(to)
			in.publish(job)
			state := in.parks(job, c.says)
			if strings.Contains(state.GetReason(), "()") {
				t.Errorf("the reason has an empty part: %s", state.GetReason())
			}
			sent := len(to.ids(job))
			if sent >= 50 {
				t.Errorf("%d items were sent", sent)
			}
			// Cancelled for good, and exported again with a few new entries: what was
			// booked is not sent again.
			later := in.add(simulator.JobSpec{Entries: entries(60)})
			in.publish(later)
			in.completes(later)
			if got := len(to.ids(later)); got != 60-sent {
				t.Errorf("%d items were sent again or not at all: %d, then %d of 60", sent+got-60, sent, got)
			}
		})
	}
}

// A second integration reports some items itself: ours are accepted or shown with
// the same result, and the job ends.
func TestSecondIntegrationReportsItems(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 94})
	in.fetcher(orderEntry)
	job := in.add(simulator.JobSpec{Entries: entries(4)})
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 2 {
			touch := simulator.Touch{Items: json.RawMessage(`[{"accountingEntryId":"` + entryID(3).String() + `","status":"successful"}]`)}
			if err := in.upstream.Touch(job, touch); err != nil {
				t.Error(err)
			}
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	in.publish(job)
	in.completes(job)
	to.once(in, job, 4)
}

// While Pleo takes no results the job is held, in order and within bounds, and
// goes on when it does.
func TestReportingTroubleHoldsJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 95})
	in.fetcher()
	report := in.gate()
	in.intercept(gated(report, reportsItems))
	to := &book{}
	in.consumer(to, func(c *consumer.Config) {
		c.Pleo = in.client(func(p *pleo.Config) { p.Timeout = patience })
	})
	job := in.add(simulator.JobSpec{Items: items(600)})
	in.publish(job)
	in.wait(report, "a report")
	to.wait(in, 193)
	report.open()
	in.completes(job)
	to.once(in, job, 600)
}

// A worker that is stopped while Pleo takes no results does not wait for Pleo.
func TestStopWhilePleoIsAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		items, sent int
		blocks      func(*http.Request) bool
	}{
		// As many as may wait for Pleo, in whole batches.
		"lane held back": {600, 256, reportsItems},
		"closing":        {3, 3, postsEvent},
		"payload":        {3, 0, readsPayload},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 96})
			in.fetcher(orderEntry)
			job := in.add(simulator.JobSpec{Items: items(c.items)})
			in.publish(job)
			in.log.Wait("job sealed")
			away := in.gate()
			in.intercept(gated(away, c.blocks))
			to := &book{}
			w := in.consumer(to, func(c *consumer.Config) {
				c.Pleo = in.client(func(p *pleo.Config) { p.Timeout = patience })
			})
			in.wait(away, "what Pleo holds back")
			to.wait(in, c.sent)
			stopped := make(chan struct{})
			go func() { w.stop(); close(stopped) }()
			select {
			case <-stopped:
			case <-time.After(patience / 2):
				t.Error("the worker waits for Pleo")
				away.open()
				<-stopped
			}
			in.intercept(nil)
			in.consumer(to)
			in.completes(job)
			to.once(in, job, c.items)
		})
	}
}
