package endtoend

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// At the deadline a job stops: nothing more is sent, what is booked is reported
// and remembered, the job is parked as job_expired, and the company's next job
// goes on. Trap 1.
func TestDeadlineStopsJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 110})
	var job uuid.UUID
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.JobID == job.String() && d.Position == 3 {
			return sink.Answer{Outcome: sink.Retry, Detail: "the accounting system is away"}
		}
		return bookedAs(d)
	}}
	set := metrics.New("consumer", "test")
	in.fetcher(orderEntry)
	in.consumer(to, shows(set))
	// Its clock runs from here: the workers' start must not cost a part of it.
	in.log.Wait("fetcher ready")
	in.log.Wait("consumer ready")
	job = in.add(simulator.JobSpec{Entries: entries(5), ExpiresIn: 4 * slowness})
	in.publish(job)
	in.log.Wait(logevent.DeadlineNear) // its rate tells before its end
	in.parks(job, "job_expired", "2 of 5")
	in.figures(set, map[string]float64{"ledgerline_jobs_short_of_time": 0})
	if n := in.reported(job); n != 2 {
		t.Errorf("%d results at Pleo, want 2", n)
	}
	sent := len(to.deliveries())
	later := in.add(simulator.JobSpec{Entries: entries(5)})
	in.publish(later)
	in.completes(later)
	if got := to.deliveries()[sent:]; len(got) != 3 || got[0].Position != 3 || got[0].JobID != later.String() {
		t.Errorf("after the deadline %d items were sent", len(got))
	}
}

// Each accepted report renews the job: one that takes longer than its time goes
// on while it moves. Trap 1.
func TestReportsRenewTheDeadline(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 111})
	var job uuid.UUID
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Attempt == 1 {
			return sink.Answer{Outcome: sink.Retry, RetryAfter: slowness * time.Second}
		}
		return bookedAs(d)
	}}
	in.fetcher(orderEntry)
	in.consumer(to)
	// Its clock runs from here: the workers' start must not cost a part of it.
	in.log.Wait("fetcher ready")
	in.log.Wait("consumer ready")
	job = in.add(simulator.JobSpec{Entries: entries(8), ExpiresIn: 4 * slowness})
	in.publish(job)
	in.completes(job)
	if n := len(to.deliveries()); n != 16 {
		t.Errorf("%d sends, want 16", n)
	}
}

// Pleo is away from the payload on, also when the deadline has passed: the job is
// parked, and does not come again and again.
func TestADeadlineThatPassesBeforeTheFirstItem(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 113})
	var away atomic.Bool
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsPayload(r) {
			away.Store(true)
		}
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(orderEntry) // it asks for no payload
	in.consumer(&book{})
	in.log.Wait("fetcher ready")
	in.log.Wait("consumer ready")
	job := in.add(simulator.JobSpec{Entries: entries(2), ExpiresIn: 6 * slowness})
	in.publish(job)
	in.parks(job, "job_expired", "0 of 2")
}

// What was booked just before the deadline is reported after it, where Pleo still
// takes it: its clock and ours need not agree to the second.
func TestLastResultsAreReportedAfterTheDeadline(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 112})
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		text := strings.Replace(answer.Body.String(), `"expiresIn":3600`, `"expiresIn":`+strconv.Itoa(4*slowness), 1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.Code)
		_, _ = w.Write([]byte(text))
	})
	var job uuid.UUID
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 1 && d.Attempt == 1 {
			// Booked within the last second, so that its report is not yet due.
			return sink.Answer{Outcome: sink.Retry, RetryAfter: time.Until(in.job(job).LastUpdatedAt.Add(4*slowness*time.Second - 500*time.Millisecond))}
		}
		if d.Position == 2 {
			return sink.Answer{Outcome: sink.Retry}
		}
		return bookedAs(d)
	}}
	in.fetcher(orderEntry)
	in.consumer(to)
	// Its clock runs from here: the workers' start must not cost a part of it.
	in.log.Wait("fetcher ready")
	in.log.Wait("consumer ready")
	job = in.add(simulator.JobSpec{Entries: entries(3)})
	in.publish(job)
	in.parks(job, "job_expired", "1 of 3")
	if n := in.reported(job); n != 1 {
		t.Errorf("%d results at Pleo, want 1", n)
	}
}
