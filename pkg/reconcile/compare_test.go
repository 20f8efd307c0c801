package reconcile_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
)

const (
	booked  = ledgerlinev1.Outcome_OUTCOME_BOOKED
	already = ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED
	failed  = ledgerlinev1.Outcome_OUTCOME_FAILED
)

var entry = uuid.MustParse("00000000-0000-4000-8000-000000000001")

// side is one entry as the three sides know it; an empty status is not listed, an
// outcome of 0 not settled.
type side struct {
	pleo    pleo.ItemStatus
	outcome ledgerlinev1.Outcome
	sealed  bool
}

func sides(phase ledgerlinev1.JobPhase, at pleo.JobStatus, manifest bool, e side) *reconcile.Sides {
	s := &reconcile.Sides{
		Job: uuid.New(), Company: uuid.New(), Read: pleo.Job{Status: at},
		Items: map[uuid.UUID]pleo.ItemStatus{}, Sealed: map[uuid.UUID]struct{}{}, Settled: map[uuid.UUID]*ledgerlinev1.Settlement{},
	}
	if phase != 0 {
		s.State = &ledgerlinev1.JobState{Phase: phase, Run: 1}
	}
	if manifest {
		s.Manifest = &ledgerlinev1.Manifest{Run: 1}
	}
	if e.pleo != "" {
		s.Items[entry] = e.pleo
	}
	if e.outcome != 0 {
		s.Settled[entry] = &ledgerlinev1.Settlement{EntryId: entry[:], Outcome: e.outcome, ExternalId: "E-1"}
	}
	if e.sealed {
		s.Sealed[entry] = struct{}{}
	}
	return s
}

func TestCompare(t *testing.T) {
	t.Parallel()
	const (
		active    = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
		draining  = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
		parked    = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
		completed = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
		cancelled = ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED
		open      = pleo.JobInProgress
		closed    = pleo.JobCompleted
	)
	for _, c := range []struct {
		name  string
		sides *reconcile.Sides
		want  []string
	}{
		{"running, not sent yet", sides(active, open, true, side{pleo: pleo.ItemPending, sealed: true}), nil},
		{"running, booked and on its way to Pleo", sides(active, open, true, side{pleo.ItemPending, booked, true}), nil},
		{"running, done", sides(active, open, true, side{pleo.ItemSuccessful, booked, true}), nil},
		{"running, appeared after the drain", sides(active, open, true, side{pleo: pleo.ItemPending}), nil},
		{"draining, its event waits", func() *reconcile.Sides {
			s := sides(draining, open, false, side{pleo: pleo.ItemPending})
			s.Event = true
			return s
		}(), nil},
		{"draining, and nothing is stored", sides(draining, open, false, side{pleo: pleo.ItemPending}), []string{"lost start"}},
		{"running, ended at Pleo", sides(active, pleo.JobFailed, true, side{}), []string{"ended_at_pleo none"}},
		{"completed", sides(completed, closed, false, side{pleo.ItemSuccessful, booked, false}), nil},
		{"completed, booked by an earlier job", sides(completed, closed, false, side{pleo.ItemSuccessful, already, false}), nil},
		{"completed, final before the drain", sides(completed, closed, false, side{pleo: pleo.ItemSuccessful}), nil},
		{"completed, failed", sides(completed, closed, false, side{pleo.ItemFailed, failed, false}), nil},
		{"completed, not reported", sides(completed, open, false, side{pleo.ItemPending, booked, false}), []string{"unreported report"}},
		{"completed, not reported and too late", sides(completed, closed, false, side{pleo.ItemPending, booked, false}), []string{"unreported person"}},
		{"completed, not closed", sides(completed, open, false, side{pleo.ItemSuccessful, booked, false}), []string{"not_closed close"}},
		{"cancelled, not told", sides(cancelled, open, false, side{pleo: pleo.ItemPending}), []string{"not_closed close"}},
		{"cancelled", sides(cancelled, pleo.JobFailed, false, side{pleo: pleo.ItemPending}), nil},
		{"completed, open at Pleo all the same", sides(completed, open, false, side{pleo: pleo.ItemPending}), []string{"open person"}},
		{"parked", sides(parked, open, false, side{pleo: pleo.ItemPending}), []string{"parked retry", "open retry"}},
		{"parked, booked and not reported", sides(parked, open, false, side{pleo.ItemPending, booked, false}), []string{"parked retry", "unreported retry"}},
		{"parked and expired", sides(parked, pleo.JobFailed, false, side{pleo.ItemAbandoned, 0, false}), []string{"parked person"}},
		{"never heard of", sides(0, open, false, side{pleo: pleo.ItemPending}), []string{"unknown start"}},
		{"never heard of, and over", sides(0, closed, false, side{pleo: pleo.ItemSuccessful}), nil},
		{"booked here, failed there", sides(completed, closed, false, side{pleo.ItemFailed, booked, false}), []string{"contradiction person"}},
		{"booked here, abandoned there", sides(parked, pleo.JobFailed, false, side{pleo.ItemAbandoned, booked, false}), []string{"parked person", "contradiction person"}},
		{"failed here, successful there", sides(completed, closed, false, side{pleo.ItemSuccessful, failed, false}), []string{"contradiction person"}},
		{"settled here, not listed there", sides(completed, closed, false, side{outcome: booked}), []string{"gone person"}},
		{"sealed here, not listed there", sides(active, open, true, side{sealed: true}), []string{"gone person"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := reconcile.Compare(c.sides)
			var got []string
			ok := true
			for _, f := range r.Findings {
				got = append(got, fmt.Sprintf("%s %s", f.Kind, f.Fix))
				ok = ok && f.Fix == reconcile.ByNobody
				if f.Text == "" {
					t.Errorf("%s says nothing", f.Kind)
				}
			}
			if !slices.Equal(got, c.want) || r.OK != ok {
				t.Errorf("%v, ok %v; want %v", got, r.OK, c.want)
			}
		})
	}
}

// Where the bucket is behind or lost, the ledger says how the job stands.
func TestCompareBelievesTheLedger(t *testing.T) {
	t.Parallel()
	last := func(run uint32, end ledgerlinev1.JobPhase) *ledger.Entry {
		record := &ledgerlinev1.LedgerRecord{Run: run}
		if end != 0 {
			record.End = &ledgerlinev1.End{Phase: end, Reason: "why"}
		}
		return &ledger.Entry{Record: record}
	}
	s := sides(ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, pleo.JobCompleted, false, side{pleo: pleo.ItemSuccessful})
	s.Last = last(1, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED)
	if r := reconcile.Compare(s); r.State != "completed" || r.Ledger.End != "completed" || !r.OK {
		t.Errorf("behind: %+v", r)
	}
	s.State = nil
	s.Last = last(1, 0)
	s.Read.Status, s.Manifest = pleo.JobInProgress, &ledgerlinev1.Manifest{Run: 1}
	if r := reconcile.Compare(s); r.State != "active" || !r.OK {
		t.Errorf("lost: %+v", r)
	}
	// A further run has begun since the ledger's last word.
	s.State = &ledgerlinev1.JobState{Phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, Run: 2}
	s.Last, s.Event, s.Manifest = last(1, ledgerlinev1.JobPhase_JOB_PHASE_PARKED), true, nil
	if r := reconcile.Compare(s); r.State != "draining" || !r.OK {
		t.Errorf("retried: %+v", r)
	}
}

// A booking is never forgotten for a failure that a later run had.
func TestRememberKeepsABooking(t *testing.T) {
	t.Parallel()
	settled := map[uuid.UUID]*ledgerlinev1.Settlement{}
	for _, outcome := range []ledgerlinev1.Outcome{failed, booked, failed} {
		reconcile.Remember(settled, entry, &ledgerlinev1.Settlement{Outcome: outcome})
	}
	if got := reconcile.Outcome(settled[entry]); got != "booked" {
		t.Errorf("%s", got)
	}
}

// A report names a bounded number of entries and counts all of them.
func TestAReportIsBounded(t *testing.T) {
	t.Parallel()
	s := sides(ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED, pleo.JobCompleted, false, side{})
	const n = reconcile.MaxFindings + 7
	for i := range n {
		id := entry
		id[0], id[1] = byte(i>>8), byte(i)
		s.Settled[id] = &ledgerlinev1.Settlement{EntryId: id[:], Outcome: booked}
	}
	r := reconcile.Compare(s)
	if len(r.Findings) != reconcile.MaxFindings || r.More != 7 || r.Ledger.Booked != n || r.OK {
		t.Errorf("%d findings, %d more, %d booked", len(r.Findings), r.More, r.Ledger.Booked)
	}
}
