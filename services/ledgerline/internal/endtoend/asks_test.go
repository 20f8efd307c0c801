package endtoend

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Every replica of each service answers the ping, with what tells it apart.
func TestEveryReplicaAnswersThePing(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 160})
	in.fetcher()
	in.fetcher()
	in.consumer(&book{}, named("A"))
	in.consumer(&book{}, named("B"))
	in.consumer(&book{}, named("C"))
	for service, want := range map[string]struct {
		replicas  int
		endpoints []string
	}{
		subject.ServiceFetcher:  {2, []string{subject.FetcherAgain}},
		subject.ServiceConsumer: {3, []string{subject.ConsumerCheck, subject.ConsumerEnd, subject.ConsumerReconcile, subject.ConsumerSteer}},
	} {
		ctx := in.bounded("not every replica answered")
		var found []micro.Info
		for len(found) < want.replicas {
			var err error
			if found, err = endpoint.Replicas(ctx, in.conn, service, time.Second); err != nil {
				t.Fatal(context.Cause(ctx), err)
			}
		}
		var subjects []string
		for _, e := range found[0].Endpoints {
			subjects = append(subjects, e.Subject)
		}
		slices.Sort(subjects)
		if len(found) != want.replicas || !slices.Equal(subjects, want.endpoints) {
			t.Errorf("%s: %d replicas with %v", service, len(found), subjects)
		}
	}
}

// A consumer publishes no events: it asks a fetcher for a further run, and keeps
// the manifest, and with it the wish, until one has stored the event.
func TestAFurtherRunWaitsForAFetcher(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 161})
	var hidden atomic.Bool
	hidden.Store(true)
	in.intercept(hide(hidden.Load, entryID(2)))
	draining := in.fetcher()
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		hidden.Store(false)
		return bookedAs(d)
	}}
	job := in.add(simulator.JobSpec{Entries: entries(3), NumberOfItems: items(2)})
	in.publish(job)
	in.phase(job, isSealed)
	in.settled(1)
	draining.stop()
	c := in.consumer(to)
	in.log.Wait(logevent.JobHandedBack)
	if n := in.events(); n != 0 {
		t.Errorf("%d events are stored, with no fetcher to publish them", n)
	}
	f := in.fetcher()
	in.completes(job)
	ids := to.ids(job)
	slices.Sort(ids)
	if !slices.Equal(ids, idsOf([]int{1, 2, 3})) {
		t.Errorf("sent %v", to.ids(job))
	}
	f.stop()
	c.stop()
	in.nothingLeft()
}

// events is how many job-started events are stored.
func (in *installation) events() uint64 {
	in.t.Helper()
	stream, err := in.js.Stream(in.bounded(""), subject.StreamEvents)
	if err != nil {
		in.t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// A fetcher writes no ledger: what ends a job in its drain it asks of a consumer,
// and keeps the event until one has recorded it. Then the company's next job may
// begin.
func TestADrainThatEndsAJobWaitsForAConsumer(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 162})
	var refusesPayload, refusesItems atomic.Bool
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if refusesPayload.Load() && readsPayload(r) || refusesItems.Load() && readsItems(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(orderEntry)
	to := &book{}
	first := in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(3), CreatedAt: time.Now().Add(-time.Minute)})
	// It has its company's turn, and a record in the ledger, when it is parked.
	refusesPayload.Store(true)
	in.publish(job)
	in.parks(job, "403")
	first.stop()
	refusesPayload.Store(false)
	refusesItems.Store(true)
	in.wish(job, retry)
	in.log.Wait(logevent.EventHandedBack)
	state := in.phase(job, isDraining)
	if state.GetRun() != 2 {
		t.Errorf("it is in run %d", state.GetRun())
	}
	in.consumer(to, named("recorder"))
	in.parks(job, "403")
	records := in.records(job)
	last := records[len(records)-1].Record
	if last.GetRun() != 2 || last.GetEnd().GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED || last.GetWorker() != "recorder" {
		t.Errorf("the ledger ends with %v", last)
	}
	refusesItems.Store(false)
	next := in.add(simulator.JobSpec{Items: items(2)})
	in.publish(next)
	in.completes(next)
	// And the parked one is retried once more.
	in.wish(job, retry)
	in.completes(job)
}

// A run whose manifest was lost has bookings that nobody has folded: who ends the
// job in its ledger folds them first, so that the company's next job knows them.
func TestAnEndKeepsWhatALostRunBooked(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 166})
	var refused atomic.Bool
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if refused.Load() && readsItems(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(orderEntry)
	to, here := holding(in, 2)
	first := in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(3), CreatedAt: time.Now().Add(-time.Minute)})
	in.publish(job)
	in.wait(here, "the second item")
	in.settled(1)
	first.die()
	ctx := in.bounded("")
	pipe, err := in.js.Stream(ctx, subject.StreamPipe)
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{subject.Ready(job), subject.ItemsOf(job)} {
		if err := pipe.Purge(ctx, jetstream.WithPurgeSubject(lost)); err != nil {
			t.Fatal(err)
		}
	}
	refused.Store(true)
	in.publish(job)
	in.consumer(to)
	in.parks(job, "403")
	refused.Store(false)
	here.open()
	next := in.add(simulator.JobSpec{Entries: entries(3)})
	in.publish(next)
	in.completes(next)
	if ids := to.ids(next); len(ids) != 2 || slices.Contains(ids, entryID(1).String()) {
		t.Errorf("%v were sent, of which %s was booked before", ids, entryID(1))
	}
}

// Asked twice to end the same run, a consumer says the same; asked to end one that
// was sealed since, it says that it was overtaken.
func TestAnEndIsRecordedOnce(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 163})
	f := in.fetcher()
	in.consumer(&book{})
	job := in.add(simulator.JobSpec{Entries: entries(3)})
	in.publish(job)
	in.completes(job)
	f.stop()
	ask := func(id uuid.UUID, run uint32, reason string) (ended endpoint.DrainEnded, err error) {
		err = endpoint.Ask(in.bounded("nobody answered"), in.conn, subject.ConsumerEnd, endpoint.EndDrain{JobID: id.String(), Run: run, Reason: reason}, &ended)
		return ended, err
	}
	before := len(in.records(job))
	if ended, err := ask(job, 1, "too late"); err != nil || !ended.Overtaken {
		t.Errorf("a run that has ended: %+v, %v", ended, err)
	}
	if n := len(in.records(job)); n != before {
		t.Errorf("%d records were added", n-before)
	}
	for range 2 {
		if ended, err := ask(job, 2, "refused"); err != nil || ended.Overtaken {
			t.Errorf("%+v, %v", ended, err)
		}
	}
	if n := len(in.records(job)); n != before+2 { // the claim and the end
		t.Errorf("%d records were added, want 2", n-before)
	}
	if ended, err := ask(uuid.New(), 1, "refused"); err != nil || ended.Overtaken {
		t.Errorf("a job without a record: %+v, %v", ended, err)
	}
	for _, wrong := range []struct {
		run    uint32
		reason string
	}{{0, "no run"}, {3, ""}} {
		_, err := ask(job, wrong.run, wrong.reason)
		var refused *endpoint.RefusedError
		if !errors.As(err, &refused) || refused.Code != "400" {
			t.Errorf("%v", err)
		}
	}
}

// A pause outlives the loss of the job's state: its worker writes it again, so
// that somebody can resume the job.
func TestAPauseOutlivesALostState(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 164})
	in.fetcher()
	to, here := holding(in, 2)
	in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(4)})
	in.publish(job)
	in.wishAt(here, job, pause)
	at := in.phase(job, isPaused).GetPosition()
	jobs, err := in.js.KeyValue(in.bounded(""), subject.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Purge(in.bounded(""), job.String()); err != nil {
		t.Fatal(err)
	}
	state := in.phase(job, isPaused)
	if state.GetPosition() != at || state.GetEpoch() != 1 || state.GetWorker() == "" || state.GetTotal() != 4 {
		t.Errorf("written again: %v", state)
	}
	if n := len(to.deliveries()); n != int(at) {
		t.Errorf("%d items were sent of a job that is paused after %d", n, at)
	}
	in.wish(job, resume)
	in.completes(job)
	to.once(in, job, 4)
}

// A parked job is retried under the same promises, whatever parked it: what was
// booked is not sent again, what Pleo had not taken is reported, and the rest is
// worked.
func TestRetryWhateverParkedTheJob(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		hits   func(*http.Request) bool
		with   func(http.ResponseWriter)
		reason string
		booked int // sends before it is parked
	}{
		"its pages are refused": {readsItems, answer(403, `{"type":"FORBIDDEN","message":"no scope"}`), "FORBIDDEN", 0},
		"its pages are nonsense": {
			readsItems, answer(200, `{"data":[{"exportJobId":"8eb648ab-464b-42a0-ba17-eda703657e33","accountingEntryId":"8eb648ab-464b-42a0-ba17-eda703657e33","status":"pending"}],"pagination":{"hasNextPage":false}}`),
			"", 0,
		},
		"its payload is refused":  {readsPayload, answer(404, `{"type":"NOT_FOUND","message":"gone"}`), "NOT_FOUND", 0},
		"its results are refused": {reportsItems, answer(403, `{"type":"FORBIDDEN","message":"read only"}`), "read only", 3},
		"its closing is refused":  {postsEvent, answer(400, `{"type":"BAD_REQUEST","message":"not like this"}`), "not like this", 3},
		"a contra account is missing": {
			readsPayload, answer(400, `{"type":"MISSING_CONTRA_ACCOUNTS","message":"map account 4711"}`), "missing_configuration", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 165})
			var faulty atomic.Bool
			faulty.Store(true)
			in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if faulty.Load() && c.hits(r) {
					c.with(w)
					return
				}
				next.ServeHTTP(w, r)
			})
			// By entry, the drain asks for no payload: its worker does.
			in.fetcher(orderEntry)
			to := &book{}
			in.consumer(to)
			job := in.add(simulator.JobSpec{Entries: entries(3)})
			in.publish(job)
			in.parks(job, c.reason)
			if n := len(to.deliveries()); n != c.booked {
				t.Errorf("%d items were sent before it was parked, want %d", n, c.booked)
			}
			faulty.Store(false)
			if strings.Contains(name, "contra account") {
				// Pleo was told that it failed: it is over there, and a retry says so.
				in.wish(job, retry)
				in.until(job, "parked again", func(s *ledgerlinev1.JobState) bool {
					return s.GetRun() == 2 && strings.Contains(s.GetReason(), "failed at Pleo")
				})
				return
			}
			in.wish(job, retry)
			in.completes(job)
			if n := len(to.deliveries()); n != 3 {
				t.Errorf("%d sends in all, want 3", n)
			}
			if n := in.reported(job); n != 3 {
				t.Errorf("%d results are at Pleo, want 3", n)
			}
		})
	}
}
