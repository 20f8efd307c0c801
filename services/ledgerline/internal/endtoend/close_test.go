package endtoend

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Guards section 7: one closing event by the results of all items, only when every
// item is final. Trap 3.
func TestClosingEventByResults(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 100})
	in.fetcher()
	failing := map[uuid.UUID]int{}
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if int(d.Position) <= failing[uuid.MustParse(d.JobID)] {
			return sink.Answer{Outcome: sink.Failed, FailureReason: "no", FailureReasonType: "tag_unknown"}
		}
		return bookedAs(d)
	}}
	want := map[uuid.UUID]string{}
	for n, c := range []struct {
		items, failing int
		event          string
	}{{3, 0, "completed"}, {3, 1, "completed_with_errors"}, {3, 3, "failed"}, {0, 0, "completed"}} {
		job := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(n), Items: items(c.items)})
		failing[job], want[job] = c.failing, c.event
	}
	in.consumer(to)
	for job := range want {
		in.publish(job)
	}
	for job, event := range want {
		state := in.ends(job)[job]
		at := in.job(job)
		if got := eventsOf(at); !slices.Equal(got, []string{event}) || at.Events[0].OpenItems != 0 {
			t.Errorf("job %s got %v, want %s with no item open: %+v", job, got, event, at.Events)
		}
		if event == "failed" && at.FailureReasonType != "validation_failure" {
			t.Errorf("job %s failed for %s", job, at.FailureReasonType)
		}
		if phase := strings.ToLower(strings.TrimPrefix(state.GetPhase().String(), "JOB_PHASE_")); phase != event {
			t.Errorf("job %s is %s here, %s at Pleo", job, phase, event)
		}
	}
}

// The reply to the closing event is lost: the job is read, and no second event is
// accepted. Trap 6.
func TestLostReplyToClosingEvent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 101})
	in.fetcher()
	var lost atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if postsEvent(r) || reportsItems(r) {
			answer := recorded(next, r)
			if lost.Add(1) <= 2 || postsEvent(r) && answer.Code == http.StatusAccepted {
				panic(http.ErrAbortHandler)
			}
			replay(w, answer)
			return
		}
		next.ServeHTTP(w, r)
	})
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.completes(job)
	to.once(in, job, 3)
	if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"completed"}) {
		t.Errorf("events at Pleo: %v", got)
	}
}

// hide serves a job's items without some entry until it is to be seen.
func hide(from func() bool, entry uuid.UUID) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		if !readsItems(r) || !from() {
			replay(w, answer)
			return
		}
		text := answer.Body.String()
		at := strings.Index(text, entry.String())
		if at < 0 {
			replay(w, answer)
			return
		}
		begin := strings.LastIndex(text[:at], "{")
		end := at + strings.Index(text[at:], "}") + 1
		if text[end] == ',' {
			end++
		} else if text[begin-1] == ',' {
			begin--
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.Code)
		_, _ = w.Write([]byte(text[:begin] + text[end:]))
	}
}

// Guards section 5: an open item that only the closing re-read shows is drained
// and worked as a further run, before the closing event.
func TestItemSeenLateIsWorkedBeforeTheClosingEvent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 102})
	var hidden atomic.Bool
	hidden.Store(true)
	in.intercept(hide(hidden.Load, entryID(2)))
	w := in.fetcher()
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		hidden.Store(false)
		return bookedAs(d)
	}}
	c := in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(3), NumberOfItems: items(2)})
	in.publish(job)
	in.completes(job)
	ids := to.ids(job)
	slices.Sort(ids)
	if !slices.Equal(ids, idsOf([]int{1, 2, 3})) {
		t.Errorf("sent %v", to.ids(job))
	}
	if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"completed"}) {
		t.Errorf("events at Pleo: %v", got)
	}
	w.stop()
	c.stop()
	in.nothingLeft()
}

// The further run's drain is refused: the job is parked, and its company's next
// job goes on all the same.
func TestFurtherRunThatIsParkedFreesTheCompany(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 103})
	var sent, refused atomic.Bool
	hiding := hide(func() bool { return !sent.Load() }, entryID(2))
	job := in.add(simulator.JobSpec{Entries: entries(3), NumberOfItems: items(2), CreatedAt: time.Now().Add(-time.Minute)})
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if refused.Load() && readsItems(r) && strings.Contains(r.URL.Path, job.String()) {
			http.Error(w, `{"type":"FORBIDDEN","message":"no more"}`, http.StatusForbidden)
			return
		}
		if sent.Load() && readsItems(r) && strings.Contains(r.URL.Path, job.String()) {
			refused.Store(true) // from the re-read on
		}
		hiding(w, r, next)
	})
	in.fetcher()
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		sent.Store(true)
		return bookedAs(d)
	}}
	in.consumer(to)
	in.publish(job)
	in.parks(job, "FORBIDDEN")
	next := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(0), Items: items(2)})
	in.publish(next)
	in.completes(next)
	to.once(in, next, 2)
}

// Pages that cannot be trusted at the closing re-read park the job by name; the
// job is not closed.
func TestPageFaultAtTheClosingParksJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 104})
	var sent atomic.Bool
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) && sent.Load() {
			_, _ = w.Write([]byte(`{"data":[],"pagination":{"hasNextPage":true,"endCursor":"AAAA"}}`))
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher()
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		sent.Store(true)
		return bookedAs(d)
	}}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(2)})
	in.publish(job)
	in.parks(job, "cursor repeated")
	to.once(in, job, 2)
	if got := eventsOf(in.job(job)); len(got) != 0 {
		t.Errorf("events at Pleo: %v", got)
	}
}

// LEDGERLINE_REPORT=false and payload none need no Pleo: the consumer asks it
// nothing.
func TestConsumerWithoutPleo(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 105})
	in.fetcher()
	to := &book{}
	in.consumer(to, silently, payloadNone, func(c *consumer.Config) { c.Pleo = nil })
	job := in.add(simulator.JobSpec{Items: items(30)})
	in.publish(job)
	if state := in.ends(job)[job]; state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED || !ledger.Final(state.GetPhase()) {
		t.Errorf("the job is %s: %s", state.GetPhase(), state.GetReason())
	}
	to.once(in, job, 30)
	if at := in.job(job); at.Status != simulator.JobInProgress || len(at.Events) != 0 || in.reported(job) != 0 {
		t.Errorf("Pleo was told: %s, %v, %d results", at.Status, at.Events, in.reported(job))
	}
}
