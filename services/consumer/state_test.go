package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// made is a consumer that is not opened yet, on streams that are there.
func made(t *testing.T) (*Consumer, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	js := natstest.Start(t).JetStream(t)
	options := topology.Options{Replicas: 1, Lease: time.Minute}
	if err := topology.Ensure(ctx, js, options, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{
		Conn: js.Conn(), Logger: zerolog.Nop(), Worker: "worker", ConcurrentJobs: 1,
		Payload: PayloadNone, OnFailure: OnFailureContinue,
		Topology: options, APITimeout: topology.APITimeout(options.Lease),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, ctx
}

// opened is a consumer that takes no manifests.
func opened(t *testing.T) (*Consumer, context.Context) {
	t.Helper()
	c, ctx := made(t)
	if err := c.open(ctx); err != nil {
		t.Fatal(err)
	}
	return c, ctx
}

// claimed claims by what the ledger says now.
func claimed(ctx context.Context, c *Consumer, r ledger.ClaimRequest) (_ *ledger.Tenure, err error) {
	if r.Last, err = c.ledger.Last(ctx, r.Company, r.Job); err != nil {
		return nil, err
	}
	return c.ledger.Claim(ctx, r)
}

// A job that has just ended, or whose manifest is lost, hides no other older one.
func TestTheNextOlderJobCountsWhereTheOldestIsGone(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, now := uuid.New(), time.Now()
	open := func(age time.Duration) (uuid.UUID, *ledgerlinev1.Manifest) {
		id := uuid.New()
		c.turns.visit(&ledgerlinev1.JobState{
			JobId: id.String(), CompanyId: company.String(), Run: 1,
			CreatedAt: timestamppb.New(now.Add(-age)), Phase: ledgerlinev1.JobPhase_JOB_PHASE_WAITING,
		}, now, false)
		return id, &ledgerlinev1.Manifest{JobId: id.String(), CompanyId: company.String(), Run: 1, CreatedAt: timestamppb.New(now.Add(-age))}
	}
	open(time.Hour) // gone
	older, manifest := open(time.Minute)
	data, err := proto.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.Publish(ctx, subject.Ready(older), data); err != nil {
		t.Fatal(err)
	}
	youngest, manifest := open(0)
	reason, err := c.olderFirst(ctx, &job{c: c, id: youngest, company: company, manifest: manifest})
	if err != nil || !strings.Contains(reason, older.String()) {
		t.Errorf("it waits because %q: %v", reason, err)
	}
}

// A worker that was overtaken leaves the state of the run, or of the worker, after
// it as it is: a retry would be lost, or a job that has ended would look alive.
func TestAWorkerThatWasOvertakenWritesNoState(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	for name, later := range map[string]*ledgerlinev1.JobState{
		"a further run": {Run: 2, Epoch: 3, Phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING},
		"a later claim": {Run: 1, Epoch: 4, Phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED},
	} {
		id := uuid.New()
		if err := c.jobs.Replace(ctx, id, later, 0); err != nil {
			t.Fatal(err)
		}
		j := &job{
			c: c, id: id, manifest: &ledgerlinev1.Manifest{JobId: id.String(), Run: 1, Count: 7},
			tenure: &ledger.Tenure{Epoch: 3}, logger: zerolog.Nop(),
		}
		j.note(ctx, func(s *ledgerlinev1.JobState) { s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE })
		if now, _, err := c.jobs.Get(ctx, id); err != nil || !proto.Equal(now, later) {
			t.Errorf("%s: the state is %v: %v", name, now, err)
		}
	}
}

// The end of a job is told, or the manifest comes again until it is: a gateway that
// takes the job for alive starts no other one of its company.
func TestAnEndThatCannotBeToldIsToldAgain(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	id, company := uuid.New(), uuid.New()
	manifest := &ledgerlinev1.Manifest{JobId: id.String(), CompanyId: company.String(), Run: 1}
	tenure, err := c.ledger.Claim(ctx, ledger.ClaimRequest{Company: company, Job: id, Run: 1, Worker: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	end := &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED}
	if err := tenure.Append(ctx, &ledgerlinev1.LedgerRecord{End: end}); err != nil {
		t.Fatal(err)
	}
	j := &job{c: c, id: id, company: company, manifest: manifest, tenure: tenure, logger: zerolog.Nop()}
	if err := j.announceEnd(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.js.DeleteStream(ctx, "KV_"+subject.BucketJobs); err != nil {
		t.Fatal(err)
	}
	if err := j.announceEnd(ctx); err == nil {
		t.Error("the end is taken for told")
	}
}

// An older job that no worker can get, since those that wait for it have all the
// places, does not hold them up for ever.
func TestAnOlderJobThatNoWorkerCanGetHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, older := uuid.New(), uuid.New()
	sealed := time.Now().Add(-sealedPatience*c.config.Topology.Lease - time.Second)
	c.turns.visit(&ledgerlinev1.JobState{
		JobId: older.String(), CompanyId: company.String(), Run: 1, CreatedAt: timestamppb.New(sealed), Phase: ledgerlinev1.JobPhase_JOB_PHASE_SEALED,
	}, sealed, false)
	j := &job{c: c, id: uuid.New(), company: company, manifest: &ledgerlinev1.Manifest{CreatedAt: timestamppb.Now()}}
	for _, id := range []uuid.UUID{j.id, older} {
		if _, err := c.js.Publish(ctx, subject.Ready(id), []byte("a manifest")); err != nil {
			t.Fatal(err)
		}
	}
	waits := func() bool {
		t.Helper()
		reason, err := c.olderFirst(ctx, j)
		if err != nil {
			t.Fatal(err)
		}
		return reason != ""
	}
	if !waits() {
		t.Error("it does not wait for an older job that a worker can get")
	}
	durable, err := c.js.Consumer(ctx, subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		t.Fatal(err)
	}
	config := durable.CachedInfo().Config
	config.MaxAckPending = 1
	if _, err := c.js.UpdateConsumer(ctx, subject.StreamPipe, config); err != nil {
		t.Fatal(err)
	}
	if msg, _, err := c.next(ctx); err != nil || msg == nil {
		t.Fatalf("no manifest: %v", err)
	}
	c.places.at = time.Time{} // looked at a second ago
	if waits() {
		t.Error("it waits for a job that nobody can get")
	}
}

// That the ledger has lost what was sent from a manifest is known to every claim of it.
func TestAClaimOfAForgottenRunSaysSoEachTime(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, id := uuid.New(), uuid.New()
	// The bucket knows of a claim, and the ledger of none. The first worker dies before
	// it can end the run.
	for _, floor := range []uint64{4, 0} {
		tenure, err := claimed(ctx, c, ledger.ClaimRequest{Company: company, Job: id, Run: 1, Worker: "worker", EpochFloor: floor})
		if err != nil || !tenure.Forgotten {
			t.Fatalf("%v: %v", tenure, err)
		}
	}
	fresh, err := claimed(ctx, c, ledger.ClaimRequest{Company: company, Job: id, Run: 2, Worker: "worker"})
	if err != nil || fresh.Forgotten {
		t.Errorf("the next run: %v, %v", fresh, err)
	}
}

// A job is put before a person once its ledger says so: a worker that has lost it
// before leaves no entry of a job that another one completes.
func TestAParkedEntryComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, id := uuid.New(), uuid.New()
	manifest := &ledgerlinev1.Manifest{JobId: id.String(), CompanyId: company.String(), Run: 1}
	holder := func() *job {
		tenure, err := claimed(ctx, c, ledger.ClaimRequest{Company: company, Job: id, Run: 1, Worker: "worker"})
		if err != nil {
			t.Fatal(err)
		}
		return &job{c: c, id: id, company: company, manifest: manifest, tenure: tenure, logger: zerolog.Nop()}
	}
	lost, has := holder(), holder()
	for _, end := range []struct {
		by *job
		is bool
	}{{lost, false}, {has, true}} {
		err := end.by.end(ctx, &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, reason: "why"})
		there, lookErr := c.parked.HasJob(ctx, id)
		if (err == nil) != end.is || there != end.is || lookErr != nil {
			t.Errorf("ended: %v; it is parked: %v, %v", err, there, lookErr)
		}
	}
}

// Items that are gone from the store are drained again from Pleo; the last one too,
// up to which the others are read.
func TestALastItemThatIsGoneIsDrainedAgain(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, id := uuid.New(), uuid.New()
	j := &job{c: c, id: id, company: company, logger: zerolog.Nop()}
	j.manifest = &ledgerlinev1.Manifest{JobId: id.String(), CompanyId: company.String(), Run: 1, Attempt: "drain", Count: 2, LastSequence: 2}
	data, err := proto.Marshal(&ledgerlinev1.Item{EntryId: id[:], Position: 1})
	if err == nil {
		_, err = c.js.Publish(ctx, j.itemsSubject(), data)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second tenure reads the items
		if j.tenure, err = claimed(ctx, c, j.claimRequest(0)); err != nil {
			t.Fatal(err)
		}
	}
	var end *endError
	if err := j.recall(ctx); !errors.As(err, &end) || end.phase != ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
		t.Errorf("%v", err)
	}
	// A cancelled job sends nothing and needs them not.
	j.cancelling = true
	if err := j.recall(ctx); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}
