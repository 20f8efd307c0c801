package ledger_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
)

// worker is one of several that work the jobs of a company, one step at a time.
// A crash forgets its tenure; a worker that is not asked for long is a zombie
// with its tenure in hand.
type worker struct {
	job    int
	tenure *ledger.Tenure
	seen   *look
}

// look is what a worker saw of a job when its manifest came, however long ago.
type look struct {
	job     int
	last    *ledger.Entry
	records int
}

// jobModel is what must stand in a job's ledger.
type jobModel struct {
	id       uuid.UUID
	run      uint32
	epoch    uint64
	records  int
	owner    *worker // the one whose writes count
	position uint32
	ended    bool // this run
	final    bool // and the job with it
}

// Several workers claim, settle, crash and end in any order, against a model in
// plain memory.
func TestWorkersAgainstAModel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rapid.Check(t, func(rt *rapid.T) {
		company := uuid.New()
		jobs := make([]*jobModel, rapid.IntRange(1, 2).Draw(rt, "jobs"))
		for i := range jobs {
			jobs[i] = &jobModel{id: uuid.New(), run: 1}
		}
		workers := make([]*worker, 3)
		for i := range workers {
			workers[i] = &worker{}
		}
		turn := -1 // the job that has it
		pick := func(rt *rapid.T) *worker { return rapid.SampledFrom(workers).Draw(rt, "worker") }
		// write checks an append: it passes exactly for the owner.
		write := func(rt *rapid.T, w *worker, err error) bool {
			owns := jobs[w.job].owner == w
			if owns && err != nil || !owns && !errors.Is(err, ledger.ErrFenced) {
				rt.Fatalf("worker of job %d, owner %v: %v", w.job, owns, err)
			}
			if !owns {
				w.tenure = nil
				return false
			}
			jobs[w.job].records++
			return true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"look": func(rt *rapid.T) {
				i := rapid.IntRange(0, len(jobs)-1).Draw(rt, "job")
				pick(rt).seen = &look{job: i, last: b.last(company, jobs[i].id), records: jobs[i].records}
			},
			"claim": func(rt *rapid.T) {
				w := pick(rt)
				i := rapid.IntRange(0, len(jobs)-1).Draw(rt, "job")
				if w.seen != nil {
					i = w.seen.job
				}
				job, r := jobs[i], request(company, jobs[i].id, jobs[i].run)
				overtaken := false
				if w.seen != nil {
					r.Last, overtaken, w.seen = w.seen.last, w.seen.records != job.records, nil
				} else {
					r.Last = b.last(company, job.id)
				}
				tenure, err := b.ledger.Claim(b.ctx, r)
				var held *ledger.CompanyBusyError
				switch {
				case overtaken && errors.Is(err, ledger.ErrFenced):
				case job.ended && !overtaken:
					if !errors.Is(err, ledger.ErrEnded) {
						rt.Fatalf("an ended run is claimed: %v", err)
					}
				case turn >= 0 && turn != i && !jobs[turn].final:
					if !errors.As(err, &held) || held.Holder != jobs[turn].id {
						rt.Fatalf("another job's turn: %v", err)
					}
				case overtaken || err != nil:
					rt.Fatalf("overtaken %v: %v", overtaken, err)
				default:
					if tenure.Epoch <= job.epoch || tenure.Position != job.position {
						rt.Fatalf("epoch %d after %d, position %d, not %d", tenure.Epoch, job.epoch, tenure.Position, job.position)
					}
					if old := jobs[w.job]; old.owner == w {
						old.owner = nil
					}
					w.job, w.tenure = i, tenure
					job.epoch, job.owner, job.final, turn = tenure.Epoch, w, false, i
					job.records++
				}
			},
			"settle": func(rt *rapid.T) {
				w := pick(rt)
				if w.tenure == nil {
					return
				}
				n := rapid.IntRange(1, 3).Draw(rt, "items")
				record := settle(w.tenure, booked, entries(int(w.tenure.Position), int(w.tenure.Position)+n)...)
				if write(rt, w, w.tenure.Append(b.ctx, record)) {
					jobs[w.job].position += uint32(n)
				}
			},
			"crash": func(rt *rapid.T) {
				w := pick(rt)
				if jobs[w.job].owner == w {
					jobs[w.job].owner = nil
				}
				w.tenure = nil
			},
			"end": func(rt *rapid.T) {
				w := pick(rt)
				if w.tenure == nil {
					return
				}
				phase := rapid.SampledFrom([]ledgerlinev1.JobPhase{completed, draining}).Draw(rt, "phase")
				if err := w.tenure.Fold(b.ctx); err != nil {
					rt.Fatal(err)
				}
				if job := jobs[w.job]; write(rt, w, w.tenure.Append(b.ctx, ending(phase))) {
					job.ended, job.final, job.owner, w.tenure = true, phase == completed, nil, nil
				}
			},
			"drain again": func(rt *rapid.T) {
				job := rapid.SampledFrom(jobs).Draw(rt, "job")
				if job.ended {
					job.run, job.ended, job.position = job.run+1, false, 0
				}
			},
		})
		for _, job := range jobs {
			judgeRecords(rt, b, company, job)
		}
	})
}

// judgeRecords reads the ledger of one job: no position settled twice or left
// out in a run, the epoch never falls and rises at each claim, and whoever writes
// has claimed.
func judgeRecords(rt *rapid.T, b *bench, company uuid.UUID, job *jobModel) {
	var epoch uint64
	var run, position uint32
	for _, record := range b.records(company, job.id) {
		if record.GetRun() != run {
			if record.GetRun() < run {
				rt.Fatalf("run %d after %d", record.GetRun(), run)
			}
			run, position = record.GetRun(), 0
		}
		if claims := record.GetClaim() != nil; claims != (record.GetEpoch() > epoch) || record.GetEpoch() < epoch {
			rt.Fatalf("epoch %d after %d, claim %v", record.GetEpoch(), epoch, claims)
		}
		epoch = record.GetEpoch()
		for _, s := range record.GetSettled() {
			if position++; s.GetPosition() != position {
				rt.Fatalf("position %d is settled where %d must be", s.GetPosition(), position)
			}
		}
		if record.GetPosition() != position {
			rt.Fatalf("the record says position %d, settled are %d", record.GetPosition(), position)
		}
	}
	if epoch != job.epoch || (run == job.run && position != job.position) {
		rt.Fatalf("the ledger is at epoch %d, position %d; the model at %d, %d", epoch, position, job.epoch, job.position)
	}
}
