package fetcher

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func opened(t *testing.T) *Fetcher {
	t.Helper()
	return openedAt(t, natstest.Start(t), testLease)
}

// testLease is long for tests that take by hand: nothing is handed out twice.
const testLease = time.Minute

func openedAt(t *testing.T, srv *natstest.Server, lease time.Duration) *Fetcher {
	t.Helper()
	js := srv.JetStream(t)
	f, err := New(Config{
		Conn: js.Conn(), Logger: zerolog.Nop(), Order: OrderEntry,
		Topology: topology.Options{Replicas: 1, Lease: lease}, APITimeout: topology.APITimeout(lease),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.open(within(t)); err != nil {
		t.Fatal(err)
	}
	return f
}

func entriesOf(n int) []entry {
	entries := make([]entry, n)
	for i := range entries {
		entries[i] = entry{id: uuid.New(), status: ledgerlinev1.ItemStatus_ITEM_STATUS_PENDING}
	}
	return entries
}

func (f *Fetcher) stored(t *testing.T, subj string) uint64 {
	t.Helper()
	info, err := f.pipe.Info(within(t), jetstream.WithSubjectFilter(subj))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects[subj]
}

// A drain that died between its items and its seal is purged once it is old; a
// young one may still be sealed, and a sealed one stays whatever its age.
func TestSweepPurgesOldItemsThatNoManifestNames(t *testing.T) {
	t.Parallel()
	f := opened(t)
	sealed := &task{job: uuid.New(), company: uuid.New(), run: 1, attempt: "SEALED"}
	if err := f.seal(within(t), sealed, entriesOf(3), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	orphans := []*task{
		{job: sealed.job, company: sealed.company, run: 1, attempt: "LOSER"}, // lost the race for the seal
		{job: uuid.New(), company: uuid.New(), run: 1, attempt: "DIED"},
	}
	for _, o := range orphans {
		// More than one batch, as a large job has.
		if _, err := f.stage(within(t), o, entriesOf(1_500)); err != nil {
			t.Fatal(err)
		}
	}
	for _, age := range []time.Duration{orphanAge / 2, orphanAge + time.Minute} {
		if err := f.purgeOrphans(within(t), time.Now().Add(age)); err != nil {
			t.Fatal(err)
		}
		want := uint64(1_500)
		if age > orphanAge {
			want = 0
		}
		for _, o := range orphans {
			if n := f.stored(t, subject.Items(o.job, o.attempt)); n != want {
				t.Errorf("after %s %d items of the drain %s are stored, want %d", age, n, o.attempt, want)
			}
		}
		if n := f.stored(t, subject.Items(sealed.job, sealed.attempt)); n != 3 {
			t.Errorf("after %s %d sealed items are stored, want 3", age, n)
		}
	}
}

// Of drains that seal one after another the first wins; the loser's items are
// purged at once.
func TestFirstSealWins(t *testing.T) {
	t.Parallel()
	f := opened(t)
	job, company := uuid.New(), uuid.New()
	first := &task{job: job, company: company, run: 1, attempt: "FIRST"}
	if err := f.seal(within(t), first, entriesOf(2), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	second := &task{job: job, company: company, run: 1, attempt: "SECOND"}
	if err := f.seal(within(t), second, entriesOf(2), zerolog.Nop()); err == nil {
		t.Error("the job was sealed twice")
	}
	manifest, _, err := f.manifest(within(t), job)
	if err != nil || manifest.GetAttempt() != "FIRST" {
		t.Errorf("the manifest is of drain %s: %v", manifest.GetAttempt(), err)
	}
	if n := f.stored(t, subject.Items(job, "SECOND")); n != 0 {
		t.Errorf("%d items of the loser are left", n)
	}
	// A later run takes the place of the first, whose manifest may be in a worker's
	// hand.
	third := &task{job: job, company: company, run: 2, attempt: "THIRD"}
	if err := f.seal(within(t), third, entriesOf(2), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if n := f.stored(t, subject.Ready(job)); n != 2 {
		t.Errorf("%d manifests are stored, want 2", n)
	}
	if manifest, _, err = f.manifest(within(t), job); err != nil || manifest.GetAttempt() != "THIRD" {
		t.Errorf("the manifest is of drain %s: %v", manifest.GetAttempt(), err)
	}
}

// An open job that has neither manifest nor fetcher gets its event again; one
// that was touched lately, has a manifest, is a gateway's or has ended does not.
func TestSweepPublishesLostEventsAgain(t *testing.T) {
	t.Parallel()
	f := opened(t)
	lost, sealed, ended := uuid.New(), uuid.New(), uuid.New()
	for job, phase := range map[uuid.UUID]ledgerlinev1.JobPhase{
		lost: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, sealed: ledgerlinev1.JobPhase_JOB_PHASE_SEALED,
		ended: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED,
	} {
		if _, err := f.jobs.Update(within(t), job, func(s *ledgerlinev1.JobState) error {
			s.Phase, s.CompanyId, s.Run = phase, uuid.NewString(), 1
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	// A gateway's mark: the job may be pending, and its event would be parked.
	if _, err := f.jobs.Update(within(t), uuid.New(), func(s *ledgerlinev1.JobState) error {
		s.Phase, s.CompanyId, s.Run, s.Worker = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, uuid.NewString(), 1, "gateway-1"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A state that cannot be read hides no others.
	if _, err := f.js.Publish(within(t), "$KV."+subject.BucketJobs+"."+uuid.NewString(), []byte("no state")); err != nil {
		t.Fatal(err)
	}
	manifest, err := proto.Marshal(&ledgerlinev1.Manifest{JobId: sealed.String(), Run: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.Publish(within(t), subject.Ready(sealed), manifest); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{lostLeases * testLease / 2, lostAge + time.Minute} {
		young, err := f.recoverLost(within(t), time.Now().Add(age))
		if err != nil {
			t.Fatal(err)
		}
		if young != (age < lostAge) {
			t.Errorf("after %s the streams are young: %t", age, young)
		}
	}
	msg, _, err := f.next(within(t))
	if err != nil || msg == nil {
		t.Fatalf("no event came: %v", err)
	}
	if job, _, err := readEvent("", msg.Data()); err != nil || job != lost {
		t.Errorf("the event of job %s came, want %s: %v", job, lost, err)
	}
	if more, _, err := f.next(within(t)); more != nil || err != nil {
		t.Errorf("a further event came: %v", err)
	}
}

// A stream that was made anew has lost what the bucket tells of: the events of open
// jobs come again at once, not after the time that a drain may take.
func TestSweepPublishesAtOnceWhatARenewedStreamHasLost(t *testing.T) {
	t.Parallel()
	f := opened(t)
	lost := uuid.New()
	if _, err := f.jobs.Update(within(t), lost, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.CompanyId, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, uuid.NewString(), 1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.recoverLost(within(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	if msg, _, err := f.next(within(t)); msg != nil || err != nil {
		t.Fatalf("an event came before anything was lost: %v", err)
	}
	if err := f.js.DeleteStream(within(t), subject.StreamPipe); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(within(t), f.js, f.config.Topology, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.recoverLost(within(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	msg, _, err := f.next(within(t))
	if err != nil || msg == nil {
		t.Fatalf("no event came: %v", err)
	}
	if job, _, err := readEvent("", msg.Data()); err != nil || job != lost {
		t.Errorf("the event of job %s came, want %s: %v", job, lost, err)
	}
}

// The event of a job that has ended tells the bucket how, where the bucket does not
// know: else the company's next job would wait for it.
func TestTheEndOfAJobIsToldAgain(t *testing.T) {
	t.Parallel()
	f := opened(t)
	job, company := uuid.New(), uuid.New()
	tenure, err := f.ledger.Claim(within(t), ledger.ClaimRequest{Company: company, Job: job, Run: 1, Worker: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tenure.Append(within(t), &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{
		Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, Reason: "a reason",
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.jobs.Update(within(t), job, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.CompanyId, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, company.String(), 1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if task, err := f.accept(within(t), job); task != nil || err != nil {
		t.Fatalf("the event is work: %v", err)
	}
	state, _, err := f.jobs.Get(within(t), job)
	if err != nil {
		t.Fatal(err)
	}
	if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED || state.GetReason() != "a reason" || state.GetEndedAt() == nil {
		t.Errorf("the bucket tells %v", state)
	}
	// What an operator has asked for since stands.
	if _, err := f.jobs.Update(within(t), job, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, 2
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if task, err := f.accept(within(t), job); task == nil || err != nil {
		t.Errorf("a retry is no work: %v", err)
	}
}
