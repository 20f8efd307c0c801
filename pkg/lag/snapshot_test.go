package lag_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

var ended = &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, Reason: "for a reason"}

// A job's life, its lag at each step of it, read afresh and by one reader that
// follows.
func TestLagThroughAJobsLife(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	expect(t, "nothing", b.read(), 0, 0, 0)

	sealed := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	j := b.seal(10, sealed)
	other := b.seal(3, time.Now())
	s := b.read()
	expect(t, "sealed", s, 2, 0, 13)
	if first := s.Jobs[0]; first.ID != j.id || first.Company != j.company || first.Lag != 10 || first.Active ||
		!first.Since.Equal(sealed) || !first.Deadline.Equal(sealed.Add(time.Hour)) || !s.Oldest.Equal(sealed) {
		t.Errorf("the job with the most lag is %+v, the oldest was sealed at %s", first, s.Oldest)
	}

	tenure := b.claim(j)
	expect(t, "claimed, without a consumer yet", b.read(), 1, 1, 13)
	c := b.serve(j)
	expect(t, "with its consumer", b.read(), 1, 1, 13)
	b.ack(c, 6, 4)
	b.settle(tenure, 6)
	expect(t, "six delivered, four of them acked", b.read(), 1, 1, 9)

	moved := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
	b.note(j, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, func(s *ledgerlinev1.JobState) { s.Deadline = timestamppb.New(moved) })
	if got := b.read().Jobs[0]; !got.Deadline.Equal(moved) {
		t.Errorf("the deadline is %s, the worker read %s", got.Deadline, moved)
	}

	// The server's memory is gone: the ledger tells.
	must(t, b.pipe.DeleteConsumer(b.ctx, subject.DurableJob(j.id)))
	expect(t, "its consumer lost", b.read(), 1, 1, 4+3)

	// Ended, in the steps of a consumer; from the last record on it counts no more.
	must(t, tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{End: ended}))
	expect(t, "the last record stands", b.read(), 1, 0, 3)
	b.note(j, ledgerlinev1.JobPhase_JOB_PHASE_PARKED)
	expect(t, "people are told", b.read(), 1, 0, 3)
	must(t, b.pipe.Purge(b.ctx, jetstream.WithPurgeSubject(subject.Ready(j.id))))
	expect(t, "the manifest is gone", b.read(), 1, 0, 3)

	// A retry seals a further run.
	again := job{id: j.id, company: j.company, run: 2, count: 4, attempt: "second"}
	b.sealAgain(again, time.Now())
	s = b.read()
	expect(t, "sealed again", s, 2, 0, 7)
	if s.Jobs[0].Run != 2 {
		t.Errorf("the job is in run %d", s.Jobs[0].Run)
	}
	_ = other
}

// An end that only the bucket tells of, because the consumer's removal hangs.
func TestAnEndedJobCountsNoMoreWhateverIsLeftOfIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, phase := range []ledgerlinev1.JobPhase{
		ledgerlinev1.JobPhase_JOB_PHASE_PARKED, ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED,
	} {
		j := b.seal(5, time.Now())
		b.serve(j)
		tenure := b.claim(j)
		must(t, tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: phase}}))
		b.note(j, phase)
		expect(t, phase.String(), b.read(), 0, 0, 0)
	}
}

func TestOneReaderFollowsWhatChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, err := lag.Open(b.ctx, b.js)
	must(t, err)
	read := func() *lag.Snapshot {
		t.Helper()
		r.Expire()
		s, err := r.Snapshot(b.ctx)
		must(t, err)
		return s
	}
	expect(t, "nothing", read(), 0, 0, 0)
	j := b.seal(10, time.Now())
	expect(t, "sealed", read(), 1, 0, 10)
	b.seal(5, time.Now())
	expect(t, "a second one", read(), 2, 0, 15)
	tenure := b.claim(j)
	c := b.serve(j)
	b.ack(c, 10, 10)
	expect(t, "all acked", read(), 1, 1, 5)
	must(t, tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{End: ended}))
	b.note(j, ended.GetPhase())
	must(t, b.pipe.DeleteConsumer(b.ctx, subject.DurableJob(j.id)))
	must(t, b.pipe.Purge(b.ctx, jetstream.WithPurgeSubject(subject.Ready(j.id))))
	expect(t, "ended", read(), 1, 0, 5)
	again := job{id: j.id, company: j.company, run: 2, count: 2, attempt: "second"}
	b.sealAgain(again, time.Now())
	expect(t, "a further run", read(), 2, 0, 7)
}

func TestWhatIsParkedIsCountedByKind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 3 {
		must(t, b.parked.Job(b.ctx, uuid.New(), uuid.Nil, "a reason"))
	}
	must(t, b.parked.Event(b.ctx, uuid.Nil, []byte("not JSON"), "", "a reason"))
	if s := b.read(); s.Parked != 3 || s.ParkedEvents != 1 {
		t.Error(tell(s))
	}
}

func TestASnapshotIsSharedWhileItIsFresh(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, err := lag.Open(b.ctx, b.js)
	must(t, err)
	const askers = 16
	got := make([]*lag.Snapshot, askers)
	var all sync.WaitGroup
	began := time.Now()
	for i := range askers {
		all.Go(func() {
			s, err := r.Snapshot(b.ctx)
			if err != nil {
				t.Error(err)
			}
			got[i] = s
		})
	}
	all.Wait()
	if time.Since(began) > lag.MaxAge {
		t.Skip("this machine is too slow to tell")
	}
	for _, s := range got {
		if s != got[0] {
			t.Error("more than one refresh for those who asked at the same time")
		}
	}
}
