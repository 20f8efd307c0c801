package consumer

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/ledgerline/ledgerline/pkg/steer"
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

// paused makes an operator's pause of the job known.
func paused(c *Consumer, j *job) {
	c.turns.visit(&ledgerlinev1.JobState{
		JobId: j.id.String(), CompanyId: j.company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_SEALED,
		CreatedAt: j.manifest.GetCreatedAt(), Request: ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE,
	}, time.Now(), false)
}

// overtake has another worker claim the job.
func overtake(ctx context.Context, t *testing.T, c *Consumer, j *job) {
	t.Helper()
	if _, err := claimed(ctx, c, ledger.ClaimRequest{Company: j.company, Job: j.id, Run: 1, Worker: "another"}); err != nil {
		t.Fatal(err)
	}
}

// Whoever waits with a manifest whose job another worker has claimed lets go of it
// within a lease, however long it would have to wait itself: when the other one dies,
// the server gives the manifest to the next one.
func TestAWaitEndsWhereAnotherWorkerHasClaimedTheJob(t *testing.T) {
	t.Parallel()
	for _, waitsFor := range []string{"the end of a pause", "a slot"} {
		t.Run(waitsFor, func(t *testing.T) {
			t.Parallel()
			c, ctx := opened(t)
			c.config.Topology.Lease = time.Second
			log := logtest.New(t)
			j := inHand(ctx, t, c, given(ctx, t, c, uuid.New()), log)
			ended := make(chan error)
			if waitsFor == "a slot" {
				j.slot = false // another job has it
				j.looked = time.Now()
				go func() { ended <- j.takeSlot(ctx) }()
			} else {
				paused(c, j)
				go func() { ended <- c.claim(ctx, j) }()
				log.Wait(logevent.JobWaiting)
			}
			overtake(ctx, t, c, j)
			if err := <-ended; !errors.Is(err, ledger.ErrFenced) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The server takes a manifest back from whoever gives it, and the next worker would
// fence the one that has the job: it is left alone.
func TestAManifestWhoseJobAnotherWorkerHasIsNotHandedBack(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]error{"a stop": errStopping, "trouble": context.DeadlineExceeded} {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, taken by another one: %t", name, taken), func(t *testing.T) {
				t.Parallel()
				c, ctx := opened(t)
				j := inHand(ctx, t, c, given(ctx, t, c, uuid.New()), logtest.New(t))
				j.looked = time.Now()
				if taken {
					overtake(ctx, t, c, j)
				}
				c.settle(j, reason)
				var msg jetstream.Msg
				for range 3 { // a delay is a second
					var err error
					if msg, _, err = c.next(ctx); err != nil {
						t.Fatal(err)
					}
					if msg != nil {
						break
					}
				}
				if (msg != nil) == taken {
					t.Errorf("it came again: %t", msg != nil)
				}
			})
		}
	}
}

// rival is a claimer whose job another worker claims in the moment before.
type rival struct{ *ledger.Ledger }

func (r rival) Claim(ctx context.Context, ask ledger.ClaimRequest) (*ledger.Tenure, error) {
	faster := ask
	faster.Worker = "another"
	if _, err := r.Ledger.Claim(ctx, faster); err != nil {
		return nil, err
	}
	return r.Ledger.Claim(ctx, ask)
}

// A job that a worker claims while an operator's cancel of it is carried out here is
// that worker's to cancel: nobody is refused.
func TestACancelLeavesAJobThatIsClaimedMeanwhile(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	c.claimer = rival{c.ledger}
	company := uuid.New()
	id, ok := subject.ReadyJob(given(ctx, t, c, company).Subject())
	if !ok {
		t.Fatal("it is no manifest")
	}
	wish := &ledgerlinev1.JobState{
		CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_SEALED,
		Request: ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL,
	}
	if err := c.jobs.Replace(ctx, id, wish, 0); err != nil {
		t.Fatal(err)
	}
	if answer, err := c.steer(ctx, steer.Request{JobID: id.String()}); err != nil || answer.Done {
		t.Errorf("%+v: %v", answer, err)
	}
	if last, err := c.ledger.Last(ctx, company, id); err != nil || last.Record.GetWorker() != "another" || last.Record.GetEnd() != nil {
		t.Errorf("the ledger says %v: %v", last, err)
	}
}

// The job gets its company's turn from another worker while this one waits for an older
// job, which then waits for this one: it is looked at once a lease.
func TestAWaitForAnOlderJobEndsWhereThisOneHasTheTurn(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	c.config.Topology.Lease = time.Second
	company := uuid.New()
	log := logtest.New(t)
	j := inHand(ctx, t, c, given(ctx, t, c, company), log)
	overtake(ctx, t, c, j)
	// As if that worker's turn had not been stored yet when this one looked.
	turn := func(id uuid.UUID) {
		data, err := proto.Marshal(&ledgerlinev1.Turn{JobId: id.String()})
		if err == nil {
			_, err = c.js.Publish(ctx, subject.Turn(company), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	turn(uuid.New())
	older := uuid.New()
	c.turns.visit(&ledgerlinev1.JobState{
		JobId: older.String(), CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_WAITING,
		CreatedAt: timestamppb.New(time.Now().Add(-time.Hour)),
	}, time.Now(), false)
	if _, err := c.js.Publish(ctx, subject.Ready(older), []byte("a manifest")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- c.claim(ctx, j) }()
	log.Wait(logevent.JobWaiting)
	turn(j.id)
	if err := <-ended; err != nil || j.tenure.Epoch != 2 {
		t.Errorf("%v", err)
	}
}

// loser is a claimer that is overtaken at the company's turn once its first claim of
// the job was stored.
type loser struct {
	*ledger.Ledger
	lost bool
}

func (l *loser) Claim(ctx context.Context, r ledger.ClaimRequest) (*ledger.Tenure, error) {
	if l.lost {
		return l.Ledger.Claim(ctx, r)
	}
	l.lost = true
	r.Aside = true
	if _, err := l.Ledger.Claim(ctx, r); err != nil {
		return nil, err
	}
	claim, err := l.Last(ctx, r.Company, r.Job)
	if err != nil {
		return nil, err
	}
	return nil, &ledger.CompanyBusyError{Company: r.Company, Holder: r.Job, Claimed: claim}
}

// A worker whose claim was stored, and which was overtaken at the company's turn, is
// not fenced by its own claim.
func TestAWorkerIsNotFencedByItsOwnClaim(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	c.claimer = &loser{Ledger: c.ledger}
	j := inHand(ctx, t, c, given(ctx, t, c, uuid.New()), logtest.New(t))
	if err := c.claim(ctx, j); err != nil || j.tenure.Epoch != 2 {
		t.Errorf("%v", err)
	}
}

// A ledger that is gone in the moment of a write may never tell whether that was
// stored: it is asked for a lease at most.
func TestAWriteToALedgerThatIsGoneEnds(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(context.Context, *Consumer, *job) error{
		"claim": func(ctx context.Context, c *Consumer, j *job) error {
			// A job that is to be cancelled waits for no turn.
			_, err := c.jobs.Update(ctx, j.id, func(s *ledgerlinev1.JobState) error {
				s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL
				return nil
			})
			if err != nil {
				return err
			}
			j.last = &ledger.Entry{Sequence: 50, Record: &ledgerlinev1.LedgerRecord{}}
			_, err = c.tryClaim(ctx, j)
			return err
		},
		"record": func(ctx context.Context, _ *Consumer, j *job) error {
			return j.record(ctx, &ledgerlinev1.LedgerRecord{})
		},
		"assertion": func(ctx context.Context, _ *Consumer, j *job) error {
			return (&source{j: j}).recover(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ctx := opened(t)
			c.config.Topology.Lease = time.Second
			j := inHand(ctx, t, c, given(ctx, t, c, uuid.New()), logtest.New(t))
			if err := c.claim(ctx, j); err != nil {
				t.Fatal(err)
			}
			if err := c.js.DeleteStream(ctx, subject.StreamLedger); err != nil {
				t.Fatal(err)
			}
			if err := write(ctx, c, j); !errors.Is(err, errUnrecorded) || ctx.Err() != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// hanging is a claimer whose request is not answered while the lease holds.
type hanging struct{}

func (hanging) Claim(ctx context.Context, _ ledger.ClaimRequest) (*ledger.Tenure, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A worker whose lease ends in the middle of a request hands nothing back: the manifest
// may be another one's already.
func TestAManifestWhoseLeaseIsOverIsNotHandedBack(t *testing.T) {
	t.Parallel()
	c, ctx := opened(t)
	log := logtest.New(t)
	c.claimer, c.logger = hanging{}, log.Logger()
	msg := given(ctx, t, c, uuid.New())
	c.slots <- struct{}{}
	c.handle(ctx, msg, time.Now().Add(-c.config.Topology.Lease))
	if dropped, back := log.Lines(logevent.JobDropped), log.Lines(logevent.JobHandedBack); len(dropped) != 1 || len(back) != 0 {
		t.Errorf("dropped: %v, handed back: %v", dropped, back)
	}
}
