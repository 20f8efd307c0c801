package endtoend

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Every answer of section 6 in one job: each item ends as its last answer says,
// in order, and every send has its own number.
func TestEverySinkAnswer(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 80})
	in.fetcher()
	script := map[uint32][]sink.Answer{
		1: {{Outcome: sink.Booked, ExternalID: "J-1", ExternalURL: "https://erp.example/1"}},
		2: {{Outcome: sink.Failed, FailureReason: "closed period", FailureReasonType: "account_unknown"}},
		3: {{Outcome: sink.Retry, RetryAfter: 20 * time.Millisecond}, {Outcome: sink.Retry, RetryAfter: 10 * time.Millisecond}, {Outcome: sink.Booked}},
		4: {{Outcome: sink.Refused, Detail: "401", RetryAfter: 10 * time.Millisecond}, {Outcome: sink.Booked, ExternalID: "J-4"}},
		5: {{Outcome: sink.Retry, Detail: "connection refused"}, {Outcome: sink.Failed, FailureReason: "gone", FailureReasonType: "unexpected_failure"}},
		6: {{}, {Outcome: sink.Booked}}, // no verdict at all is no booking
	}
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer { return script[d.Position][d.Attempt-1] }}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(6)})
	in.publish(job)
	in.ends(job)
	var sends []uint32
	for _, d := range to.deliveries() {
		sends = append(sends, d.Position*10+d.Attempt)
	}
	if want := []uint32{11, 21, 31, 32, 33, 41, 42, 51, 52, 61, 62}; !slices.Equal(sends, want) {
		t.Errorf("sends (position and attempt) are %v, want %v", sends, want)
	}
	at := in.job(job)
	if at.Status != simulator.JobCompletedWithErrors || at.OpenAtClose != 0 {
		t.Errorf("the job is %s, %d open at its close", at.Status, at.OpenAtClose)
	}
	results := map[string]simulator.ItemSnapshot{}
	for _, it := range at.Items {
		results[it.AccountingEntryID.String()] = it
	}
	for _, d := range to.deliveries() {
		answers := script[d.Position]
		last, got := answers[len(answers)-1], results[d.AccountingEntryID]
		want := simulator.ItemSuccessful
		if last.Outcome == sink.Failed {
			want = simulator.ItemFailed
		}
		if got.Status != want || got.ExternalID != last.ExternalID || got.FailureReason != last.FailureReason || got.FailureReasonType != last.FailureReasonType {
			t.Errorf("position %d is %+v at Pleo after %+v", d.Position, got, last)
		}
	}
	if in.log.Wait("sink refused")["position"] != float64(4) {
		t.Error("the alert does not name the item that was refused")
	}
}

// 412: the worker drops the job, records nothing of that item, and the next claim
// has a higher epoch. A storm of them is bounded by the lease.
func TestStaleEpochIsDropped(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 81})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(4)})
	const storm = 2
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 3 && d.Epoch <= storm {
			return sink.Answer{Outcome: sink.Stale}
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	in.publish(job)
	in.completes(job)
	sent := to.deliveries()
	var epochs []uint64
	var positions []uint32
	for i, d := range sent {
		positions, epochs = append(positions, d.Position), append(epochs, d.Epoch)
		if d.Position == 3 && d.Attempt != uint32(i-1) {
			t.Errorf("send %d of item 3 is attempt %d", i-1, d.Attempt)
		}
	}
	if !slices.Equal(positions, []uint32{1, 2, 3, 3, 3, 4}) || !slices.Equal(epochs, []uint64{1, 1, 1, 2, 3, 3}) {
		t.Errorf("positions %v in epochs %v", positions, epochs)
	}
	var settledIn []uint64
	var claims []time.Time
	for _, e := range in.records(job) {
		if e.Record.GetClaim() != nil {
			claims = append(claims, e.Record.GetAt().AsTime())
		}
		for _, s := range e.Record.GetSettled() {
			settledIn = append(settledIn, uint64(s.GetPosition())*10+e.Record.GetEpoch())
		}
	}
	if !slices.Equal(settledIn, []uint64{11, 21, 33, 43}) {
		t.Errorf("settled (position and epoch) %v", settledIn)
	}
	for i := 1; i < len(claims); i++ {
		if apart := claims[i].Sub(claims[i-1]); apart < testLease {
			t.Errorf("claims %s apart in a storm of 412, less than a lease", apart)
		}
	}
}

// LEDGERLINE_ON_FAILURE=stop: nothing is sent after a failed item, what was done
// is reported, and the job fails.
func TestFailureStopsJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 82})
	in.fetcher(orderEntry)
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 3 {
			return sink.Answer{Outcome: sink.Failed, FailureReason: "blocked", FailureReasonType: "vendor_unknown"}
		}
		return bookedAs(d)
	}}
	in.consumer(to, failureStops)
	job := in.add(simulator.JobSpec{Entries: entries(6)})
	in.publish(job)
	if state := in.ends(job)[job]; state.GetPhase().String() != "JOB_PHASE_FAILED" || state.GetPosition() != 3 {
		t.Errorf("the job is %s at position %d", state.GetPhase(), state.GetPosition())
	}
	if n := len(to.deliveries()); n != 3 {
		t.Errorf("%d items were sent, want 3", n)
	}
	at := in.job(job)
	if at.Status != simulator.JobFailed || at.FailureReasonType != "validation_failure" {
		t.Errorf("the job is %s for %s at Pleo", at.Status, at.FailureReasonType)
	}
	var statuses []string
	for _, it := range at.Items {
		statuses = append(statuses, it.Status)
	}
	if want := "successful successful failed abandoned abandoned abandoned"; strings.Join(statuses, " ") != want {
		t.Errorf("items are %v, want %s", statuses, want)
	}
}

// The same where the worker that had the failed item dies before it closed the
// job: the successor sends nothing more.
func TestFailureStopsJobAfterTakeover(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 83})
	in.fetcher()
	report := in.gate()
	in.intercept(gated(report, reportsItems))
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		return sink.Answer{Outcome: sink.Failed, FailureReason: "blocked", FailureReasonType: "vendor_unknown"}
	}}
	a := in.consumer(to, failureStops)
	job := in.add(simulator.JobSpec{Items: items(6)})
	in.publish(job)
	in.wait(report, "the report")
	a.die()
	in.intercept(nil)
	in.consumer(to, failureStops)
	in.ends(job)
	if n := len(to.deliveries()); n != 1 {
		t.Errorf("%d items were sent, want 1", n)
	}
	if at := in.job(job); at.Status != simulator.JobFailed || at.FailureReasonType != "validation_failure" {
		t.Errorf("the job is %s for %s at Pleo", at.Status, at.FailureReasonType)
	}
}
