package fetcher

import (
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// A fetcher that is late with its word on a run leaves the state of the next one as
// it is: the job may have been worked, parked and retried meanwhile, and the retry
// would be lost.
func TestAFetcherThatWasOvertakenWritesNoState(t *testing.T) {
	t.Parallel()
	f := openedAt(t, natstest.Start(t), testLease)
	for name, write := range map[string]func(job uuid.UUID){
		"sealed": func(job uuid.UUID) {
			f.noteSealed(within(t), &task{job: job, run: 1}, &ledgerlinev1.Manifest{JobId: job.String(), Run: 1, Count: 3}, zerolog.Nop())
		},
		"parked": func(job uuid.UUID) {
			if _, err := f.js.Publish(within(t), subject.JobStarted, []byte(job.String())); err != nil {
				t.Fatal(err)
			}
			msg, _, err := f.next(within(t))
			if err != nil || msg == nil {
				t.Fatalf("no event: %v", err)
			}
			if err := f.park(within(t), msg, job, &parkError{reason: "no", run: 1}, zerolog.Nop()); err != nil {
				t.Fatal(err)
			}
			if there, err := f.parked.HasJob(within(t), job); there || err != nil {
				t.Errorf("%s is parked: %v, %v", job, there, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := uuid.New()
			retried := &ledgerlinev1.JobState{CompanyId: uuid.NewString(), Run: 2, Phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING}
			if err := f.jobs.Replace(within(t), job, retried, 0); err != nil {
				t.Fatal(err)
			}
			write(job)
			if now, _, err := f.jobs.Get(within(t), job); err != nil || !proto.Equal(now, retried) {
				t.Errorf("the state is %v: %v", now, err)
			}
		})
	}
}

// What the bucket says of an event's end is asked of its leader, which a write is: a
// replica may not know of the retry yet that the event is of.
func TestAnEventIsNotDroppedByAReplicasWord(t *testing.T) {
	t.Parallel()
	f := openedAt(t, natstest.Start(t), testLease)
	job := uuid.New()
	ended := &ledgerlinev1.JobState{CompanyId: uuid.NewString(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED}
	if err := f.jobs.Replace(within(t), job, ended, 0); err != nil {
		t.Fatal(err)
	}
	_, before, err := f.jobs.Get(within(t), job)
	if err != nil {
		t.Fatal(err)
	}
	if task, err := f.accept(within(t), job); task != nil || err != nil {
		t.Fatalf("%v: %v", task, err)
	}
	if now, after, err := f.jobs.Get(within(t), job); err != nil || after == before || !proto.Equal(now, ended) {
		t.Errorf("revision %d after %d, %v: %v", after, before, now, err)
	}
}

// The record of an end was lost: the bucket says that the job has ended and the ledger
// does not, so that the company's next job waits. Its event is taken up.
func TestAnEndThatTheLedgerHasLostIsMadeAnew(t *testing.T) {
	t.Parallel()
	f := openedAt(t, natstest.Start(t), testLease)
	job, company := uuid.New(), uuid.New()
	ended := &ledgerlinev1.JobState{CompanyId: company.String(), Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED}
	if err := f.jobs.Replace(within(t), job, ended, 0); err != nil {
		t.Fatal(err)
	}
	tenure, err := f.ledger.Claim(within(t), ledger.ClaimRequest{Company: company, Job: job, Run: 1, Worker: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	if task, err := f.accept(within(t), job); err != nil || task == nil || !task.known || task.run != 2 {
		t.Errorf("without its end: %v, %v", task, err)
	}
	if err := tenure.Append(within(t), &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: ended.GetPhase()}}); err != nil {
		t.Fatal(err)
	}
	if task, err := f.accept(within(t), job); err != nil || task != nil {
		t.Errorf("with its end: %v, %v", task, err)
	}
}

// A drain of a further run is nobody's but its fetcher's: with the name of the worker
// before, it would look like a job that a gateway is about to start.
func TestAFurtherDrainHasNoWorker(t *testing.T) {
	t.Parallel()
	f := openedAt(t, natstest.Start(t), testLease)
	job, company := uuid.New(), uuid.New()
	before := &ledgerlinev1.JobState{CompanyId: company.String(), Run: 1, Worker: "worker", Phase: ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE}
	if err := f.jobs.Replace(within(t), job, before, 0); err != nil {
		t.Fatal(err)
	}
	f.note(within(t), &task{job: job, company: company, run: 2}, 0, zerolog.Nop())
	if now, _, err := f.jobs.Get(within(t), job); err != nil || now.GetRun() != 2 || jobstate.Starting(now) {
		t.Errorf("%v: %v", now, err)
	}
}
