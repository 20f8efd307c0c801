package endtoend

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Guards promise 1: while the last page of the items, or of the payload, is held
// back, nothing is stored that a consumer would take, and nothing is sent.
// Trap 14.
func TestNothingIsSentBeforeEverythingIsFetched(t *testing.T) {
	t.Parallel()
	for name, reads := range map[string]func(*http.Request) bool{"items": readsItems, "payload": readsPayload} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 4, PageLimit: 10, MaxPageLimit: 10})
			last := in.gate()
			in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				answer := recorded(next, r)
				if reads(r) && isLastPage(answer.Body.Bytes()) {
					last.pass(r.Context())
				}
				replay(w, answer)
			})
			in.fetcher()
			to := &book{}
			in.consumer(to)
			job := in.add(simulator.JobSpec{Items: items(95)})
			in.publish(job)
			in.wait(last, "the last page")
			stream, err := in.js.Stream(in.bounded("the pipe was not found"), subject.StreamPipe)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.GetLastMsgForSubject(in.bounded("no answer"), subject.Ready(job))
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Errorf("a manifest stands before the last page was read: %v", err)
			}
			if n := len(to.deliveries()); n != 0 {
				t.Errorf("%d items were sent before the last page was read", n)
			}
			last.open()
			in.completes(job)
			to.once(in, job, 95)
		})
	}
}

// Page faults that a fresh drain does not show again cost nothing but that drain.
func TestFreshDrainMendsPageFault(t *testing.T) {
	t.Parallel()
	for _, fault := range []simulator.Fault{
		simulator.FaultRepeatedCursor, simulator.FaultMissingCursor, simulator.FaultForeignItem,
		simulator.FaultOversizedPage, simulator.FaultWrongShape,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{
				Seed: 5, MaxPageLimit: 20, PageLimit: 20,
				Faults: simulator.FaultPlan{{Fault: fault, Mode: simulator.FaultOnce}},
			})
			// One listing, or the fault would show once in each.
			in.fetcher(orderEntry)
			to := &book{}
			in.consumer(to, payloadNone)
			job := in.add(simulator.JobSpec{Items: items(70)})
			in.publish(job)
			in.completes(job)
			to.once(in, job, 70)
			if in.upstream.Counters().Faults[fault] == 0 {
				t.Error("the fault was not shown")
			}
		})
	}
}

// A page fault that a fresh drain shows again parks the job, with a reason that
// names it, and nothing of it was sent. The next job of the company goes on.
// Trap 12.
func TestLastingPageFaultParksJob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault simulator.Fault
		says  string
	}{
		{simulator.FaultRepeatedCursor, "cursor repeated"},
		{simulator.FaultMissingCursor, "hasNextPage without endCursor"},
		{simulator.FaultForeignItem, "row of another job"},
		{simulator.FaultOversizedPage, "answer too large"},
		{simulator.FaultWrongShape, "wrong shape"},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 6, MaxPageLimit: 20, PageLimit: 20})
			// Only the listing is at fault: a job that cannot be read is another case.
			if err := in.upstream.SetFaults(nil); err != nil {
				t.Fatal(err)
			}
			bad, err := simulator.New(simulator.Config{
				Seed: 6, MaxPageLimit: 20, PageLimit: 20,
				Faults: simulator.FaultPlan{{Fault: c.fault, Mode: simulator.FaultAlways}},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(bad.Close)
			job := in.add(simulator.JobSpec{Items: items(70)})
			if _, err := bad.AddJob(simulator.JobSpec{ID: job, Items: items(70), Status: simulator.JobInProgress}); err != nil {
				t.Fatal(err)
			}
			good := in.add(simulator.JobSpec{Items: items(7)})
			in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if readsItems(r) && r.URL.Path == "/v3/export-jobs/"+job.String()+"/items" {
					next = bad.Handler()
				}
				next.ServeHTTP(w, r)
			})
			in.fetcher()
			to := &book{}
			in.consumer(to)
			in.publish(job, good)
			in.parks(job, c.says, "nothing of the job was sent")
			in.completes(good)
			to.once(in, good, 7)
			if sent := to.ids(job); len(sent) != 0 {
				t.Errorf("%d items of the parked job were sent", len(sent))
			}
			if got := eventsOf(in.job(job)); len(got) != 0 {
				t.Errorf("events of the parked job: %v", got)
			}
			// A parked job waits for a retry: its event is acked in silence.
			in.publish(job)
			in.log.Wait("event known")
		})
	}
}

// What a caller that pages by hasNextPage and endCursor does not notice, and what
// passes when it is tried again.
func TestDrainSurvivesUpstreamTrouble(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{
		"empty-page,short-pages,duplicate-item,status-changes",
		"rate-limit-seconds:once,slow-body",
		"rate-limit-date:once",
		"server-errors:once,cut-json@0.1",
		"reset@0.1,invalid-json:once",
		"unauthorized:once",
		"lost-reply,partial-errors@0.05,stale-read",
	} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			faults, err := simulator.ParseFaults(plan)
			if err != nil {
				t.Fatal(err)
			}
			in := install(t, simulator.Config{Seed: 7, MaxPageLimit: 40, PageLimit: 40, Faults: faults})
			in.fetcher()
			to := &book{}
			in.consumer(to)
			job := in.add(simulator.JobSpec{Items: items(130), Status: simulator.JobPending})
			in.publish(job)
			in.completes(job)
			to.once(in, job, 130)
			if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"started", "completed"}) {
				t.Errorf("events at Pleo: %v", got)
			}
			if len(in.upstream.Counters().Faults) == 0 {
				t.Error("no fault was shown")
			}
		})
	}
}

// Fewer rows than numberOfItems: drained once more, then on with a warning.
// Trap 18.
func TestMissingRowsAreLookedForOnceMore(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 8})
	var reads atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) {
			reads.Add(1)
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(orderEntry)
	to := &book{}
	in.consumer(to, payloadNone)
	job := in.add(simulator.JobSpec{Items: items(10), NumberOfItems: items(12)})
	in.publish(job)
	in.completes(job)
	to.once(in, job, 10)
	// Twice for the drain, once before the closing event.
	if n := reads.Load(); n != 3 {
		t.Errorf("the items were read %d times, want 3", n)
	}
	if in.log.Wait("rows missing")["expected"] != float64(12) {
		t.Error("the warning does not name the expected rows")
	}
}

// Only open items are worked; the others keep what they have. Trap 8.
func TestOnlyOpenItemsAreSent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 9})
	in.fetcher()
	to := &book{}
	in.consumer(to)
	specs := entries(6)
	specs[1].Status, specs[3].Status, specs[4].Status = simulator.ItemSuccessful, simulator.ItemInProgress, simulator.ItemFailed
	job := in.add(simulator.JobSpec{Entries: specs})
	in.publish(job)
	if state := in.ends(job)[job]; state.GetTotal() != 4 {
		t.Errorf("%d items were sealed, want 4", state.GetTotal())
	}
	to.once(in, job, 4)
	if got := in.job(job).Status; got != simulator.JobCompletedWithErrors {
		t.Errorf("the job is %s: one of its items had failed before", got)
	}
}

// Answers that no repetition changes park the job at once with the upstream's
// words; 404 is about the event.
func TestRefusalParks(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusBadRequest, http.StatusConflict} {
		for _, place := range []string{"", "/items"} {
			t.Run(fmt.Sprint(status, place), func(t *testing.T) {
				t.Parallel()
				in := install(t, simulator.Config{Seed: 10})
				job := in.add(simulator.JobSpec{Items: items(3)})
				if err := in.upstream.Override(simulator.Override{
					Method: http.MethodGet, Path: "/v3/export-jobs/" + job.String() + place, Status: status,
					Body: `{"type":"NOT_FOR_YOU","message":"ask the owner"}`,
				}); err != nil {
					t.Fatal(err)
				}
				in.fetcher()
				in.publish(job)
				in.parks(job, "NOT_FOR_YOU", "ask the owner", fmt.Sprint(status))
			})
		}
	}
}

// A page that the upstream refuses for a missing contra account fails the job
// there, so that the bookkeeper learns it, and parks it here. Trap 34.
func TestMissingContraAccountFailsJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 11, Faults: simulator.FaultPlan{{Fault: simulator.FaultContraAccounts}}})
	in.fetcher()
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.parks(job, "MISSING_CONTRA_ACCOUNTS")
	at := in.job(job)
	if at.Status != simulator.JobFailed || at.FailureReasonType != "missing_configuration" {
		t.Errorf("the job is %s for %s", at.Status, at.FailureReasonType)
	}
	if n := len(to.deliveries()); n != 0 {
		t.Errorf("%d items were sent", n)
	}
}

// The same where only the consumer reads the payload.
func TestMissingContraAccountAtTheClaimFailsJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 12, Faults: simulator.FaultPlan{{Fault: simulator.FaultContraAccounts}}})
	in.fetcher(orderEntry)
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.parks(job, "MISSING_CONTRA_ACCOUNTS")
	if at := in.job(job); at.Status != simulator.JobFailed || at.FailureReasonType != "missing_configuration" {
		t.Errorf("the job is %s for %s", at.Status, at.FailureReasonType)
	}
	if n := len(to.deliveries()); n != 0 {
		t.Errorf("%d items were sent", n)
	}
}

// A credential that is refused for a while is a person's work; the drain goes on
// when it is right again.
func TestUnauthorizedForAWhile(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 13})
	var refused atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) && refused.Add(1) <= 2 {
			http.Error(w, `{"type":"UNAUTHORIZED"}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(p *pleo.Config) { p.PageSize = 7 }) })
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(20)})
	in.publish(job)
	in.completes(job)
	to.once(in, job, 20)
	in.log.Wait("pleo credentials refused")
}
