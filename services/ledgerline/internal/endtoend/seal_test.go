package endtoend

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Guards section 3: the same event many times at once, at several fetchers, does
// one job's work once; so does the same event after the job has ended.
func TestSameEventManyTimesIsOneJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 30})
	job := in.add(simulator.JobSpec{Items: items(40), Status: simulator.JobPending})
	for range 12 {
		in.publish(job)
	}
	to := &book{}
	workers := []*worker{in.fetcher(), in.fetcher(), in.fetcher(), in.consumer(to), in.consumer(to)}
	in.completes(job)
	for range 3 {
		in.publish(job)
	}
	in.settled(15)
	to.once(in, job, 40)
	if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"started", "completed"}) {
		t.Errorf("events at Pleo: %v", got)
	}
	claims := 0
	for _, e := range in.records(job) {
		if e.Record.GetClaim() != nil {
			claims++
		}
	}
	if claims != 1 {
		t.Errorf("the job was claimed %d times", claims)
	}
	in.completes(job) // and its state says so still
	for _, w := range workers {
		w.stop()
	}
	in.nothingLeft()
}

// settled waits until so many events have been acked as known, taken or sealed.
func (in *installation) settled(n int) {
	in.t.Helper()
	ctx := in.bounded("")
	stream, err := in.js.Stream(ctx, subject.StreamEvents)
	if err != nil {
		in.t.Fatal(err)
	}
	for {
		done := len(in.log.Lines("event known")) + len(in.log.Lines("job sealed")) + len(in.log.Lines("seal lost"))
		info, err := stream.Info(ctx)
		if err != nil {
			in.t.Fatalf("%d of %d events were settled: %v", done, n, err)
		}
		if done >= n && info.State.Msgs == 0 {
			return
		}
	}
}

// A fetcher that is slower than the whole life of the job seals nothing that is
// worked again, and the job's state stays what it was.
func TestSealAfterTheJobHasEnded(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 31})
	first := in.gate()
	var reads atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		if readsPayload(r) && reads.Add(1) == 1 {
			first.pass(r.Context())
		}
		replay(w, answer)
	})
	fetcher := in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(c *pleo.Config) { c.Timeout = patience }) })
	job := in.add(simulator.JobSpec{Items: items(5)})
	in.publish(job)
	in.wait(first, "the first drain's last page")
	in.publish(job)
	// The job takes so long that the first drain tells people again that it goes on.
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 5 && d.Attempt == 1 {
			return sink.Answer{Outcome: sink.Retry, RetryAfter: testLease * 3 / 4}
		}
		return bookedAs(d)
	}}
	consumer := in.consumer(to)
	in.completes(job)
	first.open()
	in.settled(2)
	fetcher.stop()
	in.waitForManifests()
	consumer.stop()
	if n := len(to.deliveries()); n != 6 {
		t.Errorf("%d sends, want 6", n)
	}
	in.completes(job)
	in.nothingLeft()
}

// waitForManifests waits until no manifest is stored.
func (in *installation) waitForManifests() {
	in.t.Helper()
	ctx := in.bounded("")
	pipe, err := in.js.Stream(ctx, subject.StreamPipe)
	if err != nil {
		in.t.Fatal(err)
	}
	for {
		info, err := pipe.Info(ctx, jetstream.WithSubjectFilter(subject.AllReady))
		if err != nil {
			in.t.Fatal("manifests are left: ", err)
		}
		if len(info.State.Subjects) == 0 {
			return
		}
	}
}

// Days later: the bucket has forgotten the job, the ledger has not.
func TestEventAfterTheStateIsGone(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 32})
	fetcher := in.fetcher()
	to := &book{}
	consumer := in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(5)})
	in.publish(job)
	in.completes(job)
	in.waitForManifests()
	jobs, err := in.js.KeyValue(in.bounded(""), subject.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Purge(in.bounded(""), job.String()); err != nil {
		t.Fatal(err)
	}
	in.publish(job)
	in.log.Wait("event known")
	fetcher.stop()
	consumer.stop()
	to.once(in, job, 5)
	in.nothingLeft()
}

// A fetcher that dies at any request of its drain leaves nothing that is worked.
func TestFetcherDyingAtAnyRequestLeavesNothing(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 33, PageLimit: 5, MaxPageLimit: 5})
	to := &book{}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Items: items(10)})
	in.publish(job)
	// Job, two pages of items, two of the payload.
	for kill := int32(1); kill <= 5; kill++ {
		var requests atomic.Int32
		here := in.gate()
		in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.UserAgent() == "doomed" && requests.Add(1) == kill {
				here.pass(r.Context())
			}
			next.ServeHTTP(w, r)
		})
		doomed := in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(c *pleo.Config) { c.UserAgent = "doomed" }) })
		in.wait(here, "the request at which the fetcher dies")
		doomed.die()
		here.open()
		doomed.stop()
		if n := len(to.deliveries()); n != 0 {
			t.Fatalf("%d items were sent of a job that nobody sealed", n)
		}
	}
	in.intercept(nil)
	in.fetcher()
	in.completes(job)
	to.once(in, job, 10)
}

// A fetcher that is stopped hands its event back: another goes on at once, not
// after a lease.
func TestStoppedFetcherHandsBackItsEvent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 34})
	here := in.gate()
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) && r.UserAgent() == "stopped" {
			here.pass(r.Context())
		}
		next.ServeHTTP(w, r)
	})
	job := in.add(simulator.JobSpec{Items: items(10)})
	in.publish(job)
	stopped := in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(c *pleo.Config) { c.UserAgent = "stopped" }) })
	in.wait(here, "the drain")
	stopped.stop()
	ctx := in.bounded("the event was not looked up")
	durable, err := in.js.Consumer(ctx, subject.StreamEvents, subject.DurableFetcher)
	if err != nil {
		t.Fatal(err)
	}
	if info := durable.CachedInfo(); info.NumAckPending != 0 && info.NumRedelivered == 0 {
		t.Errorf("the event is held by nobody for a lease: %d pending", info.NumAckPending)
	}
	in.fetcher()
	to := &book{}
	in.consumer(to)
	in.completes(job)
	to.once(in, job, 10)
}

// Items of a drain that nobody sealed, beside the sealed ones: never read.
func TestItemsWithoutManifestAreNotSent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 35})
	job := in.add(simulator.JobSpec{Items: items(3)})
	for range 3 {
		if _, err := in.js.Publish(in.bounded(""), subject.Items(job, "ORPHAN"), []byte(encodedItem(t))); err != nil {
			t.Fatal(err)
		}
	}
	in.fetcher()
	to := &book{}
	in.consumer(to)
	in.publish(job)
	in.completes(job)
	to.once(in, job, 3)
	if slices.Contains(to.ids(job), entryID(1).String()) {
		t.Error("an item of the unsealed drain was sent")
	}
}

func encodedItem(t *testing.T) string {
	t.Helper()
	id := entryID(1)
	return mustMarshal(t, &ledgerlinev1.Item{EntryId: id[:], Position: 1})
}

// Two fetchers have the same event, one seals the job and the other's pages are
// refused: the job is the first one's, and is not parked.
func TestRefusalAfterAnotherSealedIsNotParked(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 36})
	first := in.gate()
	var reads atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) && reads.Add(1) == 1 {
			first.pass(r.Context())
			http.Error(w, `{"type":"FORBIDDEN"}`, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(c *pleo.Config) { c.Timeout = patience }) })
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.wait(first, "the first drain")
	in.publish(job)
	in.log.Wait("job sealed")
	first.open()
	in.log.Wait("event known")
	to := &book{}
	in.consumer(to)
	in.completes(job)
	to.once(in, job, 3)
}

// A drain that goes on after another fetcher's has been sealed and worked to its
// end, and that never comes to a seal, does not make the ended job look open.
func TestOvertakenDrainDoesNotReopenTheJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 37, MaxPageLimit: 3, PageLimit: 3})
	first, second := in.gate(), in.gate()
	var reads atomic.Int32
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsPayload(r) {
			switch reads.Add(1) {
			case 1: // page 1 of the drain that is overtaken
				answer := recorded(next, r) // now: an ended job's payload is not shown
				first.pass(r.Context())
				replay(w, answer)
				return
			case 4: // its page 2, after the two of the other drain
				second.pass(r.Context())
			}
		}
		next.ServeHTTP(w, r)
	})
	overtaken := in.fetcher(func(c *fetcher.Config) { c.Pleo = in.client(func(c *pleo.Config) { c.Timeout = patience }) })
	job := in.add(simulator.JobSpec{Items: items(5)})
	in.publish(job)
	in.wait(first, "the first drain")
	in.publish(job)
	// So long that the first drain's next page says again that it goes on.
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 5 && d.Attempt == 1 {
			return sink.Answer{Outcome: sink.Retry, RetryAfter: testLease * 3 / 4}
		}
		return bookedAs(d)
	}}
	in.consumer(to, payloadNone)
	in.completes(job)
	first.open()
	in.wait(second, "the first drain's second page")
	now := in.until(job, "known", func(*ledgerlinev1.JobState) bool { return true })
	if now.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED {
		t.Errorf("the job that has ended is %s again", now.GetPhase())
	}
	overtaken.stop()
	in.fetcher()
	in.log.Wait("event known")
	in.completes(job)
}
