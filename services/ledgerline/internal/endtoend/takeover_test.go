package endtoend

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// holding is a sink that keeps one position's first send from its answer until
// the gate opens, and books everything else.
func holding(in *installation, position uint32) (*book, *gate) {
	g := in.gate()
	return &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.Position == position {
			g.pass(ctx)
			return sink.Answer{Outcome: sink.Booked, ExternalID: "late"}
		}
		return bookedAs(d)
	}}, g
}

// Guards promises 2, 4 and 5: a worker is cut off in the middle of an item. After
// the lease another goes on with that one item, with a higher attempt and epoch,
// and nothing else twice. When the wire heals, the first one's late answer is not
// recorded and it sends nothing more.
func TestTakeoverSendsOneItemAgain(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 50})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(150)})
	in.publish(job)
	toA, stuck := holding(in, 90)
	a := in.consumer(toA, named("A"))
	in.wait(stuck, "item 90 at worker A")
	a.wire.stall()
	toB, paused := holding(in, 120)
	in.consumer(toB, named("B"))
	// B is in the middle of the job when A comes back.
	in.wait(paused, "item 120 at worker B")
	stuck.open()
	a.wire.resume()
	in.log.Wait("job dropped")
	a.stop()
	paused.open()
	in.completes(job)

	sentA, sentB := toA.deliveries(), toB.deliveries()
	if len(sentA) != 90 || len(sentB) != 61 {
		t.Errorf("A sent %d items and B %d, want 90 and 61", len(sentA), len(sentB))
	}
	for i, d := range sentB {
		want := uint32(1)
		if i == 0 {
			want = 2
		}
		if d.Position != uint32(90+i) || d.Attempt != want || d.Epoch <= sentA[0].Epoch {
			t.Errorf("B sent position %d, attempt %d, epoch %d; want position %d, attempt %d, epoch above %d",
				d.Position, d.Attempt, d.Epoch, 90+i, want, sentA[0].Epoch)
		}
	}
	if again, first := sentB[0], sentA[89]; again.IdempotencyKey() != first.IdempotencyKey() {
		t.Errorf("the item in doubt was sent as %s and then as %s", first.IdempotencyKey(), again.IdempotencyKey())
	}
	for _, e := range in.records(job) {
		for _, s := range e.Record.GetSettled() {
			if s.GetPosition() == 90 && (e.Record.GetWorker() != "B" || s.GetExternalId() == "late") {
				t.Errorf("position 90 is recorded by %s as %s", e.Record.GetWorker(), s.GetExternalId())
			}
		}
	}
}

// The same where the worker's connection is gone for good.
func TestTakeoverFromDeadWorker(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 51})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(20)})
	in.publish(job)
	toA, stuck := holding(in, 7)
	a := in.consumer(toA)
	in.wait(stuck, "item 7")
	a.die()
	to := &book{}
	in.consumer(to)
	in.completes(job)
	sent := to.deliveries()
	if len(sent) != 14 || sent[0].Position != 7 || sent[0].Attempt != 2 {
		t.Errorf("the successor sent %d items from position %d, attempt %d; want 14 from 7, attempt 2", len(sent), sent[0].Position, sent[0].Attempt)
	}
	in.records(job)
}

// A worker that stops gracefully finishes the item in hand and hands the job back:
// the next one goes on at once, and nothing is sent twice.
func TestGracefulStopHandsBackAtOnce(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 52})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(60)})
	in.publish(job)
	to := &book{}
	manifests, err := in.js.Consumer(in.bounded(""), subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		t.Fatal(err)
	}
	for stop := 10; stop <= 50; stop += 10 {
		here := in.gate()
		to.answer = func(ctx context.Context, d sink.Delivery) sink.Answer {
			if d.Position == uint32(stop) {
				here.pass(ctx)
			}
			return bookedAs(d)
		}
		w := in.consumer(to)
		in.wait(here, fmt.Sprint("item ", stop))
		stopped := make(chan struct{})
		go func() { w.stop(); close(stopped) }()
		here.open()
		<-stopped
		// Anybody may have it now, long before the lease runs out.
		batch, err := manifests.Fetch(1, jetstream.FetchMaxWait(testLease/4))
		if err != nil {
			t.Fatal(err)
		}
		manifest := <-batch.Messages()
		if manifest == nil {
			t.Fatalf("the job was not handed back: %v", batch.Error())
		}
		if err := manifest.Nak(); err != nil {
			t.Fatal(err)
		}
		if n := len(to.deliveries()); n != stop && n != stop+1 {
			t.Errorf("%d items were sent when the worker had stopped at %d", n, stop)
		}
		// What was booked is reported before the job is handed back.
		if reported := in.reported(job); reported != len(to.deliveries()) {
			t.Errorf("%d of %d results were reported before the job was handed back", reported, len(to.deliveries()))
		}
	}
	to.answer = nil
	in.consumer(to)
	in.completes(job)
	to.once(in, job, 60)
}

// reported is how many items of a job have a result at the upstream.
func (in *installation) reported(job uuid.UUID) int {
	n := 0
	for _, it := range in.job(job).Items {
		if it.Status == simulator.ItemSuccessful || it.Status == simulator.ItemFailed {
			n++
		}
	}
	return n
}

// The server's state of the job's consumer is lost while the job runs: the ledger
// knows where it stands.
func TestJobConsumerRemovedInTheMiddle(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 53})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(300)})
	in.publish(job)
	to, here := holding(in, 100)
	in.consumer(to)
	in.wait(here, "item 100")
	if err := in.js.DeleteConsumer(in.bounded(""), subject.StreamPipe, subject.DurableJob(job)); err != nil {
		t.Fatal(err)
	}
	here.open()
	in.completes(job)
	to.once(in, job, 300)
	in.records(job)
}

// Somebody else pulls from the job's consumer, with or without acks: the items
// come in order all the same, once each.
func TestRivalPullSwallowsItems(t *testing.T) {
	t.Parallel()
	for name, ack := range map[string]bool{"without acks": false, "with acks": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 54})
			in.fetcher()
			job := in.add(simulator.JobSpec{Items: items(300)})
			in.publish(job)
			// The last of a batch: all before it are acked, where nothing is reported.
			to, here := holding(in, 64)
			in.consumer(to, silently)
			in.wait(here, "item 64")
			ctx := in.bounded("")
			rival, err := in.js.Consumer(ctx, subject.StreamPipe, subject.DurableJob(job))
			if err != nil {
				t.Fatal(err)
			}
			batch, err := rival.Fetch(40, jetstream.FetchMaxWait(5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			swallowed := 0
			for msg := range batch.Messages() {
				swallowed++
				if ack {
					if err := msg.DoubleAck(ctx); err != nil {
						t.Fatal(err)
					}
				}
			}
			if swallowed != 40 {
				t.Fatalf("the rival got %d items", swallowed)
			}
			here.open()
			in.ends(job)
			to.once(in, job, 300)
			in.log.Wait("items missed")
		})
	}
}

// Guards promise 3: what a former worker settled is to be looked up at Pleo before it
// is reported again; while Pleo does not show it, the job goes on all the same.
func TestATakeoverGoesOnWhilePleoShowsNoItems(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 56})
	in.fetcher()
	to, here := holding(in, 3)
	a := in.consumer(to)
	var away atomic.Bool
	defer away.Store(false) // a worker that waits for it does not end
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if away.Load() && readsItems(r) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	job := in.add(simulator.JobSpec{Items: items(5)})
	in.publish(job)
	in.wait(here, "item 3, with two that are settled")
	away.Store(true)
	a.die()
	here.open()
	after, last := holding(in, 5)
	in.consumer(after)
	in.wait(last, "item 5, while Pleo shows no items")
	away.Store(false)
	last.open()
	in.completes(job)
	if n := in.reported(job); n != 5 {
		t.Errorf("%d results are at Pleo, want 5", n)
	}
}

// A worker dies right after its closing event, and the server has lost the acks:
// all items come again. Whoever takes over finds the job completed at Pleo, and so
// says our state.
func TestTakeoverAfterTheClosingEvent(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"Pleo answers": false, "Pleo is busy for longer than it is waited for": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takeoverAfterTheClosingEvent(t, busy)
		})
	}
}

func takeoverAfterTheClosingEvent(t *testing.T, busy bool) {
	t.Helper()
	in := install(t, simulator.Config{Seed: 55})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(5)})
	closed := in.gate()
	var dead, put atomic.Bool
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if busy && dead.Load() && readsItems(r) && put.CompareAndSwap(false, true) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		answer := recorded(next, r)
		if postsEvent(r) {
			closed.pass(r.Context())
		}
		replay(w, answer)
	})
	in.publish(job)
	to := &book{}
	a := in.consumer(to)
	in.wait(closed, "the closing event")
	a.die()
	dead.Store(true)
	closed.open()
	if err := in.js.DeleteConsumer(in.bounded(""), subject.StreamPipe, subject.DurableJob(job)); err != nil {
		t.Fatal(err)
	}
	in.consumer(to)
	in.completes(job)
	if put.Load() != busy {
		t.Errorf("Pleo was busy: %t", put.Load())
	}
	to.once(in, job, 5)
	if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"completed"}) {
		t.Errorf("events at Pleo: %v", got)
	}
}
