package fetcher

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// sealed seals a run of a new or known job.
func (f *Fetcher) sealed(t *testing.T, job uuid.UUID, run uint32, replaces uint64) *task {
	t.Helper()
	sealing := &task{job: job, company: uuid.New(), run: run, attempt: uuid.NewString(), replaces: replaces}
	if err := f.seal(within(t), sealing, entriesOf(1), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return sealing
}

// take is the next manifest that the consumers' durable hands out, nil for none.
func (f *Fetcher) take(t *testing.T) jetstream.Msg {
	t.Helper()
	msg, _, err := pull.Next(within(t), f.js, subject.StreamPipe, subject.DurableConsumer, pullWait)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func sequenceOf(t *testing.T, msg jetstream.Msg) uint64 {
	t.Helper()
	meta, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	return meta.Sequence.Stream
}

func (f *Fetcher) floor(t *testing.T) uint64 {
	t.Helper()
	durable, err := f.js.Consumer(within(t), subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		t.Fatal(err)
	}
	return durable.CachedInfo().AckFloor.Stream
}

// A run that is sealed while the manifest of the one before is in a worker's hand
// takes no other worker's manifest off the durable: the server would move the ack
// floor past that one, and forget it with its next start.
func TestASealWhileTheRunBeforeIsHeldLosesNoManifest(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	f := openedAt(t, srv, testLease)
	held, again, other := uuid.New(), uuid.New(), uuid.New()
	for _, job := range []uuid.UUID{held, again, other} {
		f.sealed(t, job, 1, 0)
	}
	var taken []jetstream.Msg
	for range 3 {
		taken = append(taken, f.take(t))
	}
	f.sealed(t, again, 2, sequenceOf(t, taken[1]))
	if err := taken[2].DoubleAck(within(t)); err != nil {
		t.Fatal(err)
	}
	if floor := f.floor(t); floor >= sequenceOf(t, taken[0]) {
		t.Errorf("the ack floor %d has passed the held manifest %d", floor, sequenceOf(t, taken[0]))
	}
	srv.Stop()
	srv.Restart(t)
	if err := topology.Ensure(within(t), f.js, topology.Options{Replicas: 1, Lease: time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	// The held ones come again when the lease is over, in any order.
	want := []string{subject.Ready(held), subject.Ready(again), subject.Ready(again)}
	patience := within(t)
	for len(want) > 0 {
		if patience.Err() != nil {
			t.Fatalf("%v did not come again", want)
		}
		msg := f.take(t)
		if msg == nil {
			continue
		}
		at := slices.Index(want, msg.Subject())
		if at < 0 {
			t.Fatalf("%s came, waited for %v", msg.Subject(), want)
		}
		want = slices.Delete(want, at, at+1)
		if err := msg.DoubleAck(within(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// lost makes the server take a manifest for acked that nobody has finished.
func (f *Fetcher) lost(t *testing.T, job uuid.UUID, run uint32) *task {
	t.Helper()
	sealing := f.sealed(t, job, run, 0)
	msg := f.take(t)
	if msg == nil || msg.Subject() != subject.Ready(job) {
		t.Fatalf("got %v", msg)
	}
	if err := msg.DoubleAck(within(t)); err != nil {
		t.Fatal(err)
	}
	return sealing
}

func (f *Fetcher) claim(t *testing.T, of *task) *ledger.Tenure {
	t.Helper()
	tenure, err := f.ledger.Claim(within(t), ledger.ClaimRequest{
		Company: of.company, Job: of.job, Run: of.run, Worker: "worker", Attempt: of.attempt, Total: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return tenure
}

func (f *Fetcher) ended(t *testing.T, of *task, phase ledgerlinev1.JobPhase, noted bool) {
	t.Helper()
	if err := f.claim(t, of).Append(within(t), &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: phase}}); err != nil {
		t.Fatal(err)
	}
	if !noted {
		return
	}
	if _, err := f.jobs.Update(within(t), of.job, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.Run = phase, of.run
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A manifest that the server holds for acked is offered again while its run has
// not ended, once nothing has happened to its job for two leases; what is left of
// an ended run goes at once.
func TestTendOffersALostManifestAgain(t *testing.T) {
	t.Parallel()
	f := opened(t)
	unclaimed, claimed := f.lost(t, uuid.New(), 1), f.lost(t, uuid.New(), 1)
	f.claim(t, claimed)
	ended := f.lost(t, uuid.New(), 1)
	f.ended(t, ended, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED, true)
	untold := f.lost(t, uuid.New(), 1)
	f.ended(t, untold, ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, false)
	busy := f.lost(t, uuid.New(), 1)
	f.claim(t, &task{job: uuid.New(), company: busy.company, run: 1})
	alive := f.lost(t, uuid.New(), 1)
	waiting := f.sealed(t, uuid.New(), 1, 0) // not behind the floor

	tending := &tender{f: f, seen: map[uint64]left{}}
	now := time.Now()
	if err := tending.look(within(t), now); err != nil {
		t.Fatal(err)
	}
	if n := f.stored(t, subject.Ready(ended.job)); n != 0 {
		t.Error("the manifest of an ended run is left")
	}
	// A sign of life between two looks: it is somebody's.
	f.claim(t, alive)
	if err := tending.look(within(t), now.Add(tendLeases*testLease)); err != nil {
		t.Fatal(err)
	}
	want := []string{subject.Ready(waiting.job), subject.Ready(unclaimed.job), subject.Ready(claimed.job), subject.Ready(untold.job)}
	var got []string
	for msg := f.take(t); msg != nil; msg = f.take(t) {
		got = append(got, msg.Subject())
	}
	if !slices.Equal(got, want) {
		t.Errorf("offered are %v, want %v", got, want)
	}
	for _, of := range []*task{unclaimed, claimed, untold, busy, alive, waiting} {
		if n := f.stored(t, subject.Ready(of.job)); n != 1 {
			t.Errorf("job %s has %d manifests, want 1", of.job, n)
		}
	}
}

// A manifest in a worker's hand is not touched however long its job stands still.
func TestTendLeavesAHeldManifestAlone(t *testing.T) {
	t.Parallel()
	f := opened(t)
	f.lost(t, uuid.New(), 1)
	held := f.sealed(t, uuid.New(), 1, 0)
	msg := f.take(t)
	tending := &tender{f: f, seen: map[uint64]left{}}
	for _, after := range []time.Duration{0, tendLeases * testLease, time.Hour} {
		if err := tending.look(within(t), time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	_, sequence, err := f.manifest(within(t), held.job)
	if err != nil || sequence != sequenceOf(t, msg) {
		t.Errorf("the held manifest is at %d, was at %d: %v", sequence, sequenceOf(t, msg), err)
	}
}

// A running fetcher tends by itself, at the interval it is given.
func TestAFetcherTends(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	const lease = 100 * time.Millisecond
	f := openedAt(t, srv, lease)
	f.config.TendInterval = 50 * time.Millisecond
	of := f.lost(t, uuid.New(), 1)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	for msg := f.take(t); ; msg = f.take(t) {
		if msg != nil {
			if msg.Subject() != subject.Ready(of.job) {
				t.Errorf("%s came", msg.Subject())
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the manifest was not offered again")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
