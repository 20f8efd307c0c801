package consumer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// given is the manifest of a fresh job as the server gives it out.
func given(ctx context.Context, t *testing.T, c *Consumer, company uuid.UUID) jetstream.Msg {
	t.Helper()
	id := uuid.New()
	data, err := proto.Marshal(&ledgerlinev1.Manifest{
		JobId: id.String(), CompanyId: company.String(), Run: 1, Attempt: "drain", Digest: digestOfNothing(),
		CreatedAt: timestamppb.Now(), SealedAt: timestamppb.Now(), Deadline: timestamppb.New(time.Now().Add(time.Hour)),
	})
	if err == nil {
		_, err = c.js.Publish(ctx, subject.Ready(id), data)
	}
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := c.next(ctx)
	if err != nil || msg == nil {
		t.Fatalf("no manifest: %v", err)
	}
	return msg
}

// inHand is the job of a manifest as a worker begins with it: with a slot. A slot that
// another job has is waited for.
func inHand(ctx context.Context, t *testing.T, c *Consumer, msg jetstream.Msg, log *logtest.Recorder) *job {
	t.Helper()
	j, err := c.readManifest(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	c.slots <- struct{}{}
	j.slot, j.logger = true, log.Logger()
	return j
}

// Two workers have one manifest, as after a kill of the server, which confirms the
// heartbeats of both, and both wait for the company's turn. The first to claim has the
// job; the other one leaves it alone, and does not fence a worker that is alive.
func TestOnlyOneOfTwoThatWaitWithAManifestClaimsIt(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	company, holder := uuid.New(), uuid.New()
	before, err := c.ledger.Claim(ctx, ledger.ClaimRequest{Company: company, Job: holder, Run: 1, Worker: "another"})
	if err != nil {
		t.Fatal(err)
	}
	at := &ledgerlinev1.JobState{CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE}
	if err := c.jobs.Replace(ctx, holder, at, 0); err != nil {
		t.Fatal(err)
	}
	msg := given(ctx, t, c, company)
	type outcome struct {
		j   *job
		err error
	}
	ended := make(chan outcome)
	for range 2 {
		log := logtest.New(t)
		j := inHand(ctx, t, c, msg, log)
		go func() { ended <- outcome{j, c.claim(ctx, j)} }()
		log.Wait(logevent.JobWaiting)
	}
	if err := before.Append(ctx, &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED}}); err != nil {
		t.Fatal(err)
	}
	first := <-ended
	if first.err != nil || first.j.tenure.Epoch != 1 {
		t.Fatalf("the first one has not got the job: %v", first.err)
	}
	first.j.giveSlot() // which the other one waits for
	second := <-ended
	second.j.giveSlot()
	if !errors.Is(second.err, ledger.ErrFenced) {
		t.Errorf("the second one claimed too: %v", second.err)
	}
	if err := first.j.tenure.Append(ctx, &ledgerlinev1.LedgerRecord{}); err != nil {
		t.Errorf("the first one was fenced: %v", err)
	}
}

// Whoever waits with a manifest whose job another worker has claimed lets go of it
// within a lease, however long it would have to wait itself: when the other one dies,
// the server gives the manifest to the next one.
func TestAWaitEndsWhereAnotherWorkerHasClaimedTheJob(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	c.config.Topology.Lease = time.Second
	company := uuid.New()
	msg := given(ctx, t, c, company)
	log := logtest.New(t)
	j := inHand(ctx, t, c, msg, log)
	c.turns.visit(&ledgerlinev1.JobState{
		JobId: j.id.String(), CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_SEALED,
		CreatedAt: j.manifest.GetCreatedAt(), Request: ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE,
	}, time.Now(), false)
	ended := make(chan error)
	go func() { ended <- c.claim(ctx, j) }()
	log.Wait(logevent.JobWaiting)
	if _, err := c.ledger.Claim(ctx, ledger.ClaimRequest{Company: company, Job: j.id, Run: 1, Worker: "another"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("%v", err)
	}
}
