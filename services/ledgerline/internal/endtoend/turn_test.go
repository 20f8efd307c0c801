package endtoend

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Guards promise 6: the jobs of one company do not overlap, and the oldest goes
// first, also where it was sealed last.
func TestJobsOfOneCompanyRunOldestFirst(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 60})
	in.fetcher()
	now := time.Now()
	// The running one keeps the company busy until all are sealed.
	running := in.add(simulator.JobSpec{Items: items(3), CreatedAt: now.Add(-time.Minute)})
	in.publish(running)
	to, here := holding(in, 2)
	in.consumer(to)
	in.consumer(to)
	in.wait(here, "item 2 of the running job")
	var younger []uuid.UUID
	for n := range 4 {
		job := in.add(simulator.JobSpec{Items: items(3), CreatedAt: now.Add(-time.Duration(n) * 10 * time.Second)})
		in.publish(job)
		in.until(job, "waiting", func(s *ledgerlinev1.JobState) bool { return s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_WAITING })
		younger = append(younger, job)
	}
	here.open()
	in.completes(append(younger, running)...)
	slices.Reverse(younger)
	var order []string
	for _, d := range to.deliveries() {
		if len(order) == 0 || order[len(order)-1] != d.JobID {
			order = append(order, d.JobID)
		}
	}
	want := []string{running.String()}
	for _, job := range younger {
		want = append(want, job.String())
	}
	if !slices.Equal(order, want) {
		t.Errorf("the jobs were worked in the order %v, want %v", order, want)
	}
}

// The next job of a company begins promptly, whatever the end of the one before.
func TestNextJobBeginsWhateverTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(in *installation, job uuid.UUID) sink.Outcome{
		"completed": func(*installation, uuid.UUID) sink.Outcome { return sink.Booked },
		"failed":    func(*installation, uuid.UUID) sink.Outcome { return sink.Failed },
		"cancelled": func(in *installation, job uuid.UUID) sink.Outcome {
			if err := in.upstream.Cancel(job); err != nil {
				in.t.Error(err)
			}
			return sink.Booked
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 61})
			in.fetcher()
			first := in.add(simulator.JobSpec{Items: items(1), CreatedAt: time.Now().Add(-time.Minute)})
			here := in.gate()
			to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
				if d.JobID == first.String() {
					here.pass(ctx)
					return sink.Answer{Outcome: end(in, first), FailureReason: "no", FailureReasonType: "vendor_unknown"}
				}
				return bookedAs(d)
			}}
			in.consumer(to)
			in.publish(first)
			in.wait(here, "the first job's item")
			next := in.add(simulator.JobSpec{Items: items(1)})
			in.publish(next)
			in.until(next, "waiting", func(s *ledgerlinev1.JobState) bool { return s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_WAITING })
			here.open()
			ended := in.ends(first)[first].GetEndedAt().AsTime()
			in.completes(next)
			claimed := in.records(next)[0].Record.GetAt().AsTime()
			if after := claimed.Sub(ended); after > slowness*time.Second {
				t.Errorf("the next job was claimed %s after the first had ended", after)
			}
		})
	}
}

// Thirty companies at a time on one worker; and one job at a time where that is
// asked for, each company's jobs oldest first.
func TestCompaniesRunInParallel(t *testing.T) {
	t.Parallel()
	const companies = 30
	in := install(t, simulator.Config{Seed: 62, Jobs: companies, Companies: companies, ItemsPerJob: 4})
	in.fetcher()
	// Each job's second item waits until every job is there.
	var mu sync.Mutex
	there, all := 0, in.gate()
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 2 {
			mu.Lock()
			if there++; there == companies {
				all.open()
			}
			mu.Unlock()
			all.pass(ctx)
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	var jobs []uuid.UUID
	for _, j := range in.upstream.Snapshot().Jobs {
		jobs = append(jobs, j.ID)
	}
	in.publish(jobs...)
	in.completes(jobs...)
	for _, job := range jobs {
		to.once(in, job, 4)
	}
}

func TestOneJobAtATime(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 63, Jobs: 12, Companies: 4, ItemsPerJob: 3})
	in.fetcher()
	var mu sync.Mutex
	busy := 0
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		mu.Lock()
		defer mu.Unlock()
		if busy++; busy != 1 {
			t.Errorf("%d sends at a time", busy)
		}
		busy--
		return bookedAs(d)
	}}
	worker := in.consumer(to, func(c *consumer.Config) { c.ConcurrentJobs = 1 })
	var jobs []uuid.UUID
	for _, j := range in.upstream.Snapshot().Jobs {
		jobs = append(jobs, j.ID)
	}
	in.publish(jobs...)
	in.completes(jobs...)
	worker.stop()
	sent := to.deliveries()
	// A job's items stand together: no other job got in between.
	seen := map[string]bool{}
	for i, d := range sent {
		if i > 0 && sent[i-1].JobID != d.JobID && seen[d.JobID] {
			t.Fatalf("job %s was interrupted", d.JobID)
		}
		seen[d.JobID] = true
	}
	if len(sent) != 36 {
		t.Errorf("%d items were sent, want 36", len(sent))
	}
}

// Guards promise 6 where only the ledger can: the older job is sealed while a
// younger one runs, so nothing in the jobs bucket tells it to wait.
func TestOlderJobSealedLaterWaitsForTheRunningOne(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 64})
	in.fetcher()
	to, here := holding(in, 2)
	in.consumer(to)
	running := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(running)
	in.wait(here, "item 2 of the running job")
	older := in.add(simulator.JobSpec{Items: items(3), CreatedAt: time.Now().Add(-time.Minute)})
	in.publish(older)
	in.until(older, "waiting", func(s *ledgerlinev1.JobState) bool {
		return s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_WAITING || s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
	})
	here.open()
	in.completes(running, older)
	var order []string
	for _, d := range to.deliveries() {
		order = append(order, d.JobID)
	}
	r, o := running.String(), older.String()
	if want := []string{r, r, r, o, o, o}; !slices.Equal(order, want) {
		t.Errorf("the items were sent for the jobs %v, want %v", order, want)
	}
	if ended, claimed := in.lastRecord(running), in.records(older)[0].Record.GetAt().AsTime(); claimed.Before(ended) {
		t.Errorf("the older job was claimed %s before the running one had ended", ended.Sub(claimed))
	}
}

// Guards promise 6: the job that was interrupted has its company's turn and goes on,
// although an older one was sealed meanwhile; neither waits for the other.
func TestAnInterruptedJobGoesOnBeforeAnOlderOne(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 66})
	in.fetcher()
	to, here := holding(in, 2)
	c := in.consumer(to)
	running := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(running)
	in.wait(here, "item 2 of the running job")
	older := in.add(simulator.JobSpec{Items: items(3), CreatedAt: time.Now().Add(-time.Minute)})
	in.publish(older)
	in.until(older, "waiting", func(s *ledgerlinev1.JobState) bool { return s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_WAITING })
	c.die()
	here.open()
	after := &book{}
	in.consumer(after)
	in.completes(running, older)
	var order []string
	for _, d := range after.deliveries() {
		order = append(order, d.JobID)
	}
	r, o := running.String(), older.String()
	if want := []string{r, r, o, o, o}; !slices.Equal(order, want) {
		t.Errorf("the items were sent for the jobs %v, want %v", order, want)
	}
}

// lastRecord is when a job's last record was written.
func (in *installation) lastRecord(job uuid.UUID) time.Time {
	in.t.Helper()
	records := in.records(job)
	return records[len(records)-1].Record.GetAt().AsTime()
}

// Guards promises 3, 4 and 6: the ledger alone was restored, from a backup that was
// made while a job ran which has ended at Pleo since. The company's next job does not
// wait for it for ever, and knows what it had booked.
func TestATurnThatTheLedgerAloneKnows(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 63})
	f := in.fetcher()
	first := in.add(simulator.JobSpec{Items: items(3), CreatedAt: time.Now().Add(-time.Minute)})
	in.publish(first)
	to, here := holding(in, 2)
	c := in.consumer(to)
	in.wait(here, "item 2 of the first job")
	booked := uuid.MustParse(to.deliveries()[0].AccountingEntryID)
	c.die()
	f.stop()
	ctx := in.bounded("the streams were not removed")
	for _, stream := range []string{subject.StreamPipe, subject.StreamEvents, subject.StreamDetected, "KV_" + subject.BucketJobs} {
		if err := in.js.DeleteStream(ctx, stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.upstream.Cancel(first); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(ctx, in.js, in.topology(), in.logger()); err != nil {
		t.Fatal(err)
	}
	in.fetcher()
	after := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer { return bookedAs(d) }}
	in.consumer(after)
	fresh := uuid.New()
	next := in.add(simulator.JobSpec{Entries: []simulator.EntrySpec{{ID: booked}, {ID: fresh}}})
	in.publish(next)
	in.completes(next)
	in.parks(first, "is failed at Pleo", "not recorded here")
	for _, d := range after.deliveries() {
		if d.JobID != next.String() || d.AccountingEntryID != fresh.String() {
			t.Errorf("entry %s of job %s was sent", d.AccountingEntryID, d.JobID)
		}
	}
}
