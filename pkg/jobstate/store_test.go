package jobstate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// limit ends a test that hangs.
const limit = time.Minute

type bench struct {
	t     *testing.T
	ctx   context.Context
	js    jetstream.JetStream
	kv    jetstream.KeyValue
	store *jobstate.Store
}

func newBench(t *testing.T) *bench { return benchOn(t, natstest.Start(t).JetStream(t), 1) }

func benchOn(t *testing.T, js jetstream.JetStream, replicas int) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: replicas, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	store, err := jobstate.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, subject.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, ctx: ctx, js: js, kv: kv, store: store}
}

func (b *bench) set(job uuid.UUID, change func(*ledgerlinev1.JobState)) {
	b.t.Helper()
	_, err := b.store.Update(b.ctx, job, func(s *ledgerlinev1.JobState) error {
		change(s)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) setPhase(job uuid.UUID, phase ledgerlinev1.JobPhase) {
	b.t.Helper()
	b.set(job, func(s *ledgerlinev1.JobState) { s.Phase = phase })
}

func (b *bench) putRaw(job uuid.UUID, data []byte) {
	b.t.Helper()
	if _, err := b.kv.Put(b.ctx, job.String(), data); err != nil {
		b.t.Fatal(err)
	}
}

func TestNoWriterOverwritesAnother(t *testing.T) {
	t.Parallel()
	for name, bench := range map[string]func(*testing.T) *bench{
		"one node": newBench,
		"three nodes": func(t *testing.T) *bench {
			return benchOn(t, natstest.JetStream(t, natstest.StartCluster(t).URL()), 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			job := uuid.New()
			const writers, writes = 4, 10
			var running sync.WaitGroup
			for range writers {
				running.Go(func() {
					for range writes {
						if _, err := b.store.Update(b.ctx, job, func(s *ledgerlinev1.JobState) error {
							s.Pages++
							return nil
						}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			running.Wait()
			state, _, err := b.store.Get(b.ctx, job)
			if err != nil || state.GetPages() != writers*writes || state.GetJobId() != job.String() {
				t.Errorf("%v: %v", state, err)
			}
		})
	}
}

func TestARefusedChangeWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job, refusal := uuid.New(), errors.New("not now")
	if _, err := b.store.Update(b.ctx, job, func(*ledgerlinev1.JobState) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
	if _, _, err := b.store.Get(b.ctx, job); !errors.Is(err, jobstate.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// Only what has ended for good expires; a parked job waits for a person.
func TestOnlyEndedJobsExpire(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stream, err := b.js.Stream(b.ctx, "KV_"+subject.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	job := uuid.New()
	for number, name := range ledgerlinev1.JobPhase_name {
		phase := ledgerlinev1.JobPhase(number)
		b.setPhase(job, phase)
		msg, err := stream.GetLastMsgForSubject(b.ctx, "$KV."+subject.BucketJobs+"."+job.String())
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if ledger.Final(phase) && phase != ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
			want = fmt.Sprint(int(jobstate.KeepEnded.Seconds()))
		}
		if got := msg.Header.Get(jetstream.MsgTTLHeader); got != want {
			t.Errorf("%s expires after %q, not %q", name, got, want)
		}
	}
}

func TestAJobThatWasForgottenIsWrittenAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, forget := range map[string]func(job uuid.UUID) error{
		"deleted": func(job uuid.UUID) error { return b.kv.Delete(b.ctx, job.String()) },
		"purged":  func(job uuid.UUID) error { return b.kv.Purge(b.ctx, job.String()) },
		"expired": func(job uuid.UUID) error {
			watcher, err := b.kv.Watch(b.ctx, job.String(), jetstream.UpdatesOnly())
			if err != nil {
				return err
			}
			defer func() { _ = watcher.Stop() }()
			msg := nats.NewMsg("$KV." + subject.BucketJobs + "." + job.String())
			msg.Header.Set(jetstream.MsgTTLHeader, "1")
			if _, err := b.js.PublishMsg(b.ctx, msg); err != nil {
				return err
			}
			for {
				select {
				case entry := <-watcher.Updates():
					if entry != nil && entry.Operation() != jetstream.KeyValuePut {
						return nil
					}
				case <-b.ctx.Done():
					return b.ctx.Err()
				}
			}
		},
	} {
		job := uuid.New()
		b.set(job, func(s *ledgerlinev1.JobState) { s.Pages = 7 })
		if err := forget(job); err != nil {
			t.Fatal(name, err)
		}
		if _, _, err := b.store.Get(b.ctx, job); !errors.Is(err, jobstate.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		b.set(job, func(s *ledgerlinev1.JobState) { s.Pages++ })
		if state, _, err := b.store.Get(b.ctx, job); err != nil || state.GetPages() != 1 {
			t.Errorf("%s: %v: %v", name, state, err)
		}
	}
}

func TestUnknownFieldsSurviveAnUpdate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := uuid.New()
	data := protowire.AppendTag(nil, 1_000, protowire.BytesType)
	b.putRaw(job, protowire.AppendString(data, "of a later version"))
	b.setPhase(job, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE)
	entry, err := b.kv.Get(b.ctx, job.String())
	if err != nil || !strings.Contains(string(entry.Value()), "of a later version") {
		t.Errorf("%v", err)
	}
}

func TestAnUnreadableStateIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	corrupt, newer, good := uuid.New(), uuid.New(), uuid.New()
	b.putRaw(corrupt, []byte("no state"))
	data, err := proto.Marshal(&ledgerlinev1.JobState{MinReader: ledger.Version + 1})
	if err != nil {
		t.Fatal(err)
	}
	b.putRaw(newer, data)
	b.setPhase(good, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE)

	untouched := func(*ledgerlinev1.JobState) error {
		t.Error("a state that cannot be read is changed")
		return nil
	}
	for _, read := range []func(uuid.UUID) error{
		func(job uuid.UUID) error { _, _, err := b.store.Get(b.ctx, job); return err },
		func(job uuid.UUID) error { _, err := b.store.Update(b.ctx, job, untouched); return err },
	} {
		if err := read(newer); !errors.Is(err, ledger.ErrNewer) || !strings.Contains(err.Error(), newer.String()) {
			t.Errorf("newer: %v", err)
		}
		if err := read(corrupt); err == nil || !strings.Contains(err.Error(), corrupt.String()) {
			t.Errorf("corrupt: %v", err)
		}
	}
	var seen []string
	err = b.store.List(b.ctx, func(s *ledgerlinev1.JobState, _ time.Time) { seen = append(seen, s.GetJobId()) })
	if !errors.Is(err, jobstate.ErrUnreadable) || !errors.Is(err, ledger.ErrNewer) || !strings.Contains(err.Error(), corrupt.String()) || len(seen) != 1 || seen[0] != good.String() {
		t.Errorf("listed %v: %v", seen, err)
	}
	// What comes after them is seen.
	next := uuid.New()
	watching, enough := context.WithCancel(b.ctx)
	defer enough()
	seen = nil
	b.setPhase(next, ledgerlinev1.JobPhase_JOB_PHASE_SEALED)
	err = b.store.Watch(watching, func(s *ledgerlinev1.JobState, _ time.Time, _ bool) {
		if seen = append(seen, s.GetJobId()); s.GetJobId() == next.String() {
			enough()
		}
	})
	if err != nil || !slices.Equal(seen, []string{good.String(), next.String()}) {
		t.Errorf("watched %v: %v", seen, err)
	}
}

func TestListsAndWatches(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	type change struct {
		job     string
		phase   ledgerlinev1.JobPhase
		removed bool
	}
	if err := b.store.List(b.ctx, func(*ledgerlinev1.JobState, time.Time) { t.Error("a job in an empty bucket") }); err != nil {
		t.Error(err)
	}
	first, second := uuid.New(), uuid.New()
	b.setPhase(first, ledgerlinev1.JobPhase_JOB_PHASE_SEALED)

	ctx, stop := context.WithCancel(b.ctx)
	changes, done := make(chan change, 8), make(chan error, 1)
	go func() {
		done <- b.store.Watch(ctx, func(s *ledgerlinev1.JobState, at time.Time, removed bool) {
			if at.IsZero() {
				t.Error("a change without its time")
			}
			changes <- change{s.GetJobId(), s.GetPhase(), removed}
		})
	}()
	expect := func(want change) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("%v, not %v", got, want)
			}
		case <-b.ctx.Done():
			t.Fatalf("never saw %v", want)
		}
	}
	expect(change{job: first.String(), phase: ledgerlinev1.JobPhase_JOB_PHASE_SEALED})
	b.setPhase(second, ledgerlinev1.JobPhase_JOB_PHASE_DRAINING)
	expect(change{job: second.String(), phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING})
	if err := b.kv.Delete(b.ctx, first.String()); err != nil {
		t.Fatal(err)
	}
	expect(change{job: first.String(), removed: true})
	var listed []string
	if err := b.store.List(b.ctx, func(s *ledgerlinev1.JobState, _ time.Time) { listed = append(listed, s.GetJobId()) }); err != nil || len(listed) != 1 || listed[0] != second.String() {
		t.Errorf("listed %v: %v", listed, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPhasesHaveTheOperatorsNames(t *testing.T) {
	t.Parallel()
	for phase, want := range map[ledgerlinev1.JobPhase]string{
		ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS: "completed_with_errors",
		ledgerlinev1.JobPhase_JOB_PHASE_PARKED:                "parked",
	} {
		if got := jobstate.PhaseName(phase); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// A bucket that is removed, or removed and made anew, ends the watch: the server
// would not tell, and the watch would be silent for ever.
func TestTheWatchOfALostBucketEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	for _, again := range []bool{false, true} {
		js := natstest.Start(t).JetStream(t)
		if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Second}, zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
		store, err := jobstate.Open(ctx, js)
		if err != nil {
			t.Fatal(err)
		}
		job, seen := uuid.New(), make(chan struct{}, 1)
		if _, err := store.Update(ctx, job, func(*ledgerlinev1.JobState) error { return nil }); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			done <- store.Watch(ctx, func(*ledgerlinev1.JobState, time.Time, bool) { seen <- struct{}{} })
		}()
		<-seen
		if err := js.DeleteKeyValue(ctx, subject.BucketJobs); err != nil {
			t.Fatal(err)
		}
		if again {
			if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Second}, zerolog.Nop()); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; !errors.Is(err, jobstate.ErrRenewed) {
			t.Errorf("the watch ended with %v", err)
		}
	}
}
