package jobview_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/jobview"
	"github.com/ledgerline/ledgerline/pkg/lag"
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
	store *jobstate.Store
	book  *ledger.Ledger
	view  *jobview.View
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, end := context.WithTimeout(context.Background(), limit)
	t.Cleanup(end)
	b := &bench{t: t, ctx: ctx, js: natstest.Start(t).JetStream(t)}
	if err := topology.Ensure(ctx, b.js, topology.Options{Replicas: 1, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.store, err = jobstate.Open(ctx, b.js); err == nil {
		if b.book, err = ledger.Open(ctx, b.js); err == nil {
			b.view, err = jobview.Open(ctx, b.js)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) set(job uuid.UUID, change func(*ledgerlinev1.JobState)) {
	b.t.Helper()
	if _, err := b.store.Update(b.ctx, job, func(s *ledgerlinev1.JobState) error { change(s); return nil }); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) one(job uuid.UUID) jobview.Row {
	b.t.Helper()
	row, err := b.view.One(b.ctx, job)
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

// The JSON has the outside contract's fields, all of them and no other; what is
// not known is empty, but for a deadline, which is null.
func TestARowHasTheContractsFields(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if rows, err := b.view.All(b.ctx); err != nil || rows == nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
	job := uuid.New()
	b.set(job, func(s *ledgerlinev1.JobState) { s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING })
	data, err := json.Marshal(b.one(job))
	want := `{"jobId":"` + job.String() + `","companyId":"","state":"draining","position":0,"total":0,"lag":0,"epoch":0,"worker":"","deadline":null,"reason":""}`
	if err != nil || string(data) != want {
		t.Errorf("%s: %v", data, err)
	}
	data, err = json.Marshal(jobview.LagOf(&lag.Snapshot{}, time.Now()))
	if want := `{"jobsWaiting":0,"jobsActive":0,"items":0,"oldestJobAgeSeconds":0}`; err != nil || string(data) != want {
		t.Errorf("%s: %v", data, err)
	}
}

// Position and epoch are the ledger's, which is ahead of the bucket; before a
// claim the lag is what was sealed.
func TestARowIsCompletedFromTheLedger(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job, company := uuid.New(), uuid.New()
	deadline := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	b.set(job, func(s *ledgerlinev1.JobState) {
		s.Phase, s.CompanyId, s.Run, s.Total = ledgerlinev1.JobPhase_JOB_PHASE_SEALED, company.String(), 1, 3
		s.Deadline = timestamppb.New(deadline)
	})
	if row := b.one(job); row.Lag != 3 || row.Position != 0 || row.Deadline == nil || !row.Deadline.Equal(deadline) || !row.Open() {
		t.Errorf("sealed: %+v", row)
	}
	tenure, err := b.book.Claim(b.ctx, ledger.ClaimRequest{Company: company, Job: job, Run: 1, Worker: "w", Total: 3, EpochFloor: 6})
	if err != nil {
		t.Fatal(err)
	}
	entry := uuid.New()
	settled := []*ledgerlinev1.Settlement{{Position: 1, EntryId: entry[:], Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED}}
	if err := tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{Settled: settled}); err != nil {
		t.Fatal(err)
	}
	b.set(job, func(s *ledgerlinev1.JobState) { s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE })
	if row := b.one(job); row.Position != 1 || row.Epoch != 7 || row.Lag != 2 {
		t.Errorf("active: %+v", row)
	}
	// A further run begins anew: the ledger's last word is about the run before.
	b.set(job, func(s *ledgerlinev1.JobState) { s.Phase, s.Run = ledgerlinev1.JobPhase_JOB_PHASE_SEALED, 2 })
	if row := b.one(job); row.Position != 0 || row.Lag != 3 {
		t.Errorf("second run: %+v", row)
	}
	// The bucket forgets, the ledger does not.
	kv, err := b.js.KeyValue(b.ctx, subject.BucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(b.ctx, job.String()); err != nil {
		t.Fatal(err)
	}
	if row := b.one(job); row.State != "active" || row.Position != 1 || row.CompanyID != company.String() {
		t.Errorf("forgotten while it runs: %+v", row)
	}
	end := &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_FAILED, Reason: "why"}
	if err := tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{End: end}); err != nil {
		t.Fatal(err)
	}
	if row := b.one(job); row.State != "failed" || row.Reason != "why" || row.Open() {
		t.Errorf("forgotten: %+v", row)
	}
	if _, err := b.view.One(b.ctx, uuid.New()); !errors.Is(err, jobview.ErrUnknown) || !errors.Is(err, jobstate.ErrNotFound) || !strings.Contains(err.Error(), "`ledgerline jobs`") {
		t.Errorf("%v", err)
	}
}

// A claimed job's lag is its consumer's, and jobs come oldest first.
func TestTheLagIsTheServersAndTheOldestComesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pipe, err := b.js.Stream(b.ctx, subject.StreamPipe)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var jobs []uuid.UUID
	for n := range 3 {
		job := uuid.New()
		jobs = append([]uuid.UUID{job}, jobs...)
		b.set(job, func(s *ledgerlinev1.JobState) {
			s.Phase, s.Total, s.Position = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, 9, 4
			s.CreatedAt = timestamppb.New(now.Add(-time.Duration(n) * time.Minute))
		})
		for range 4 - n {
			if _, err := b.js.Publish(b.ctx, subject.Items(job, "a"), nil); err != nil {
				t.Fatal(err)
			}
		}
		_, err := pipe.CreateConsumer(b.ctx, jetstream.ConsumerConfig{Durable: subject.DurableJob(job), FilterSubject: subject.Items(job, "a"), AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := b.view.All(b.ctx)
	if err != nil || len(rows) != len(jobs) {
		t.Fatalf("%v, %v", rows, err)
	}
	// One that cannot be read hides no others.
	if _, err := b.js.Publish(b.ctx, "$KV."+subject.BucketJobs+"."+uuid.NewString(), []byte("no state")); err != nil {
		t.Fatal(err)
	}
	if rows, err = b.view.All(b.ctx); !errors.Is(err, jobstate.ErrUnreadable) || len(rows) != len(jobs) {
		t.Fatalf("%v, %v", rows, err)
	}
	for i, row := range rows {
		if row.JobID != jobs[i].String() || row.Lag != uint64(2+i) || row.Lag != b.one(jobs[i]).Lag {
			t.Errorf("row %d: %+v", i, row)
		}
	}
}

// A wish that waits for a worker is shown as the reason.
func TestAWishThatWaitsIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []struct {
		phase   ledgerlinev1.JobPhase
		request ledgerlinev1.OperatorRequest
		reason  string
		want    string
	}{
		{ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE, "", "pause asked for"},
		{ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL, "", "cancel asked for"},
		{ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE, "paused by an operator", "paused by an operator"},
		{ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_RESUME, "", ""},
		{ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED, ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE, "", ""},
	} {
		job := uuid.New()
		b.set(job, func(s *ledgerlinev1.JobState) { s.Phase, s.Request, s.Reason = c.phase, c.request, c.reason })
		if got := b.one(job).Reason; got != c.want {
			t.Errorf("%s, %s: %q", c.phase, c.request, got)
		}
	}
}
