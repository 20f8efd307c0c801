package ledger_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

func TestAClaimFencesTheTenureBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	zombie := b.claim(request(company, job, 1))
	b.book(zombie, entry(0))
	owner := b.claim(request(company, job, 1))
	if owner.Epoch != zombie.Epoch+1 || owner.Position != 1 {
		t.Errorf("epoch %d after %d, position %d", owner.Epoch, zombie.Epoch, owner.Position)
	}
	if err := zombie.Append(b.ctx, settle(zombie, ledgerlinev1.Outcome_OUTCOME_BOOKED, entry(1))); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("the zombie writes: %v", err)
	}
	if err := zombie.Append(b.ctx, ending(completed)); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("the zombie ends the job: %v", err)
	}
	b.book(owner, entry(1))
	b.end(owner, completed)
	if got := b.records(company, job); len(got) != 5 || got[4].GetEpoch() != owner.Epoch {
		t.Errorf("the ledger is %v", got)
	}
}

// Two workers have the manifest, as after a kill of the server, and wait for the
// company's turn: the first to claim has the job, and the other one cannot fence it.
func TestAClaimIsComparedWithWhatWasSeenBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	holder := uuid.New()
	before := b.claim(request(company, holder, 1))
	first, second := request(company, job, 1), request(company, job, 1)
	for _, r := range []*ledger.ClaimRequest{&first, &second} {
		r.Last = b.last(company, job)
		_, err := b.ledger.Claim(b.ctx, *r)
		busy(t, err, holder)
	}
	b.end(before, completed)
	owner, err := b.ledger.Claim(b.ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ledger.Claim(b.ctx, second); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("the second one: %v", err)
	}
	b.book(owner, entry(0))
	// Whoever gets the manifest when the owner is gone sees all that.
	second.Last = b.last(company, job)
	b.book(owner, entry(1))
	if _, err := b.ledger.Claim(b.ctx, second); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("the owner is at work: %v", err)
	}
	if next := b.claim(request(company, job, 1)); next.Epoch != 2 || next.Position != 2 {
		t.Errorf("epoch %d, position %d", next.Epoch, next.Position)
	}
}

func TestTheEpochRisesAlsoAboveTheFloor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := request(uuid.New(), uuid.New(), 1)
	for _, c := range []struct{ floor, want uint64 }{{0, 1}, {0, 2}, {40, 41}, {7, 42}} {
		r.EpochFloor = c.floor
		if tenure := b.claim(r); tenure.Epoch != c.want {
			t.Errorf("with floor %d the epoch is %d, not %d", c.floor, tenure.Epoch, c.want)
		}
	}
}

func TestAnEndedRunIsNotClaimed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	b.end(b.claim(request(company, job, 1)), parked)
	if _, err := b.try(request(company, job, 1)); !errors.Is(err, ledger.ErrEnded) {
		t.Errorf("the ended run: %v", err)
	}
	second := b.claim(request(company, job, 2))
	if second.Epoch != 2 || second.Position != 0 {
		t.Errorf("run 2 has epoch %d and position %d", second.Epoch, second.Position)
	}
	if _, err := b.try(request(company, job, 1)); !errors.Is(err, ledger.ErrEnded) {
		t.Errorf("a run before the one at work: %v", err)
	}
}

func TestPositionsGoUpOneByOne(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tenure := b.claim(request(uuid.New(), uuid.New(), 1))
	b.book(tenure, entries(0, 3)...)
	for _, position := range []uint32{0, 2, 3, 5} {
		id := entry(9)
		err := tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{Settled: []*ledgerlinev1.Settlement{{Position: position, EntryId: id[:]}}})
		if err == nil {
			t.Errorf("position %d was settled after 3", position)
		}
	}
	b.book(tenure, entry(3))
	if tenure.Position != 4 {
		t.Errorf("position %d", tenure.Position)
	}
}

func TestEachRecordCarriesTheHashOfTheOneBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	first := b.claim(request(company, job, 1))
	b.book(first, entries(0, 3)...)
	second := b.claim(request(company, job, 1))
	b.book(second, entry(3))
	b.end(second, draining)
	third := b.claim(request(company, job, 2))
	b.end(third, completed)
	if n := len(b.records(company, job)); n != 7 {
		t.Errorf("%d records, not 7", n)
	}
}

func busy(t *testing.T, err error, holder uuid.UUID) {
	t.Helper()
	var held *ledger.CompanyBusyError
	if !errors.As(err, &held) || held.Holder != holder {
		t.Errorf("not busy with %s: %v", holder, err)
	}
}

func TestTheTurnPassesOnlyFromAJobThatHasEnded(t *testing.T) {
	t.Parallel()
	for phase, passes := range map[ledgerlinev1.JobPhase]bool{
		completed: true, parked: true, draining: false,
		ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS: true,
		ledgerlinev1.JobPhase_JOB_PHASE_FAILED:                true,
		ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED:             true,
		ledgerlinev1.JobPhase_JOB_PHASE_PAUSED:                false,
	} {
		t.Run(phase.String(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			company, first, second := uuid.New(), uuid.New(), uuid.New()
			tenure := b.claim(request(company, first, 1))
			_, err := b.try(request(company, second, 1))
			busy(t, err, first)
			b.claim(request(uuid.New(), uuid.New(), 1)) // another company's
			b.end(tenure, phase)
			_, err = b.try(request(company, second, 1))
			if !passes {
				busy(t, err, first)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// The first comes again, by a retry, and waits for its turn.
			_, err = b.try(request(company, first, 2))
			busy(t, err, second)
		})
	}
}

// between runs once, when the ledger first reads a job's last record.
type between struct {
	jetstream.Stream
	subject string
	once    *sync.Once
	run     func()
}

func (s between) GetLastMsgForSubject(ctx context.Context, subj string) (*jetstream.RawStreamMsg, error) {
	msg, err := s.Stream.GetLastMsgForSubject(ctx, subj)
	if subj == s.subject {
		s.once.Do(s.run)
	}
	return msg, err
}

// interrupted is a JetStream whose ledger stream is a between.
type interrupted struct {
	jetstream.JetStream
	subject string
	run     func()
}

func (i interrupted) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := i.JetStream.Stream(ctx, name)
	return between{Stream: stream, subject: i.subject, once: new(sync.Once), run: i.run}, err
}

// A job that has ended begins a further run between the moment at which another
// job of its company sees it ended and the one at which that takes the turn.
func TestARetryAndTheNextJobNeverBothGetTheTurn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, first, second := uuid.New(), uuid.New(), uuid.New()
	b.end(b.claim(request(company, first, 1)), parked)
	var retried *ledger.Tenure
	slow, err := ledger.Open(b.ctx, interrupted{JetStream: b.js, subject: subject.Ledger(company, first), run: func() {
		retried = b.claim(request(company, first, 2))
	}})
	if err != nil {
		t.Fatal(err)
	}
	next := request(company, second, 1)
	_, err = slow.Claim(b.ctx, next)
	busy(t, err, first)
	b.book(retried, entry(0))
	b.end(retried, completed)
	// Its claim was stored before it lost the turn; the next one goes on from that.
	var held *ledger.CompanyBusyError
	if !errors.As(err, &held) || held.Claimed == nil {
		t.Fatalf("its own claim is not told: %v", err)
	}
	next.Last = held.Claimed
	if tenure, err := b.ledger.Claim(b.ctx, next); err != nil || tenure.Epoch != 2 {
		t.Errorf("the next claim: %v, %v", tenure, err)
	}
	if n := len(b.records(company, second)); n != 2 {
		t.Errorf("%d records, not two claims", n)
	}
}

func TestManyWorkersClaimTheJobsOfOneCompany(t *testing.T) {
	t.Parallel()
	for name, bench := range map[string]func(*testing.T) *bench{
		"one node": func(t *testing.T) *bench { return newBench(t) },
		"three nodes": func(t *testing.T) *bench {
			return benchOn(t, natstest.JetStream(t, natstest.StartCluster(t).URL()), 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			const jobs, workersPerJob, runs = 3, 3, 2
			company := uuid.New()
			var running sync.WaitGroup
			for range jobs {
				job := uuid.New()
				for range workersPerJob {
					running.Go(func() { workRuns(b, company, job, runs) })
				}
			}
			running.Wait()
			judgeTurns(b, company, jobs*runs)
		})
	}
}

// workRuns claims, settles an item and ends each run of a job, against others
// that do the same.
func workRuns(b *bench, company, job uuid.UUID, runs uint32) {
	for run := uint32(1); run <= runs; {
		tenure, err := b.try(request(company, job, run))
		var held *ledger.CompanyBusyError
		switch {
		case errors.Is(err, ledger.ErrEnded):
			run++
			continue
		case errors.As(err, &held), errors.Is(err, ledger.ErrFenced):
			continue
		case err == nil:
			err = tenure.Append(b.ctx, settle(tenure, ledgerlinev1.Outcome_OUTCOME_FAILED, entry(int(tenure.Position))))
		}
		if err == nil {
			err = tenure.Append(b.ctx, ending(completed))
		}
		if err != nil && !errors.Is(err, ledger.ErrFenced) {
			b.t.Error(err)
			return
		}
	}
}

// judgeTurns reads the ledger of a company in the order in which it was stored:
// from the first settlement of a job's run to the end of that run no other job
// settles anything.
func judgeTurns(b *bench, company uuid.UUID, wantEnds int) {
	b.t.Helper()
	var atWork uuid.UUID
	ends := 0
	b.each(strings.ReplaceAll(subject.Ledger(company, uuid.Nil), uuid.Nil.String(), "*"), func(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
		entry, err := ledger.Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err != nil {
			b.t.Fatal(err)
		}
		if entry.Record.GetClaim() != nil {
			return
		}
		if atWork != uuid.Nil && atWork != entry.Job {
			b.t.Errorf("record %d of job %s while job %s is at work", entry.Sequence, entry.Job, atWork)
		}
		atWork = entry.Job
		if entry.Record.GetEnd() != nil {
			atWork = uuid.Nil
			ends++
		}
	})
	if ends != wantEnds {
		b.t.Errorf("%d runs ended, not %d", ends, wantEnds)
	}
}

// A tenure that was claimed without its company's turn may end the job and nothing
// else: another job of the company may be running.
func TestATenureAsideSendsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, running, other := uuid.New(), uuid.New(), uuid.New()
	tenure, err := b.try(request(company, running, 1))
	if err != nil {
		t.Fatal(err)
	}
	ask := request(company, other, 1)
	if _, err := b.try(ask); err == nil {
		t.Error("two jobs have the turn")
	}
	ask.Aside = true
	aside, err := b.try(ask)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	for _, step := range []*ledgerlinev1.LedgerRecord{
		{Send: &ledgerlinev1.Send{Position: 1, EntryId: id[:], Attempt: 1}},
		{Settled: []*ledgerlinev1.Settlement{{Position: 1, EntryId: id[:], Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED}}},
	} {
		if err := aside.Append(b.ctx, step); err == nil || !strings.Contains(err.Error(), ledger.ErrAside.Error()) {
			t.Errorf("%v", err)
		}
	}
	if err := aside.Append(b.ctx, &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED}}); err != nil {
		t.Error(err)
	}
	// The turn is still the running job's.
	if err := tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{}); err != nil {
		t.Error(err)
	}
	if _, err := b.try(request(company, uuid.New(), 1)); err == nil {
		t.Error("a third job has the turn")
	}
	// Claimed aside, a job of its own worker is fenced like by any claim.
	ask = request(company, running, 1)
	ask.Aside = true
	if _, err := b.try(ask); err != nil {
		t.Fatal(err)
	}
	if err := tenure.Append(b.ctx, &ledgerlinev1.LedgerRecord{}); err == nil {
		t.Error("the worker before writes on")
	}
}
