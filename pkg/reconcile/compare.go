package reconcile

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// Sides are the three readings of a job.
type Sides struct {
	Job, Company uuid.UUID
	// State is what the bucket knows, nil for nothing.
	State *ledgerlinev1.JobState
	// Read is the job at Pleo, Items its items there.
	Read  pleo.Job
	Items map[uuid.UUID]pleo.ItemStatus
	// Manifest is the sealed one, nil for none, and Sealed its entries.
	Manifest *ledgerlinev1.Manifest
	Sealed   map[uuid.UUID]struct{}
	// Event is true while a job-started event waits to be fetched: of this job, or of
	// any, which cannot be told apart without taking it.
	Event bool
	// Last is the ledger's last record of the job, nil for none, and Settled the
	// last settlement of each entry; a booking is never replaced by a failure.
	Last    *ledger.Entry
	Settled map[uuid.UUID]*ledgerlinev1.Settlement
}

// Remember takes a settlement into settled, in the order of the ledger.
func Remember(settled map[uuid.UUID]*ledgerlinev1.Settlement, id uuid.UUID, s *ledgerlinev1.Settlement) {
	if before, known := settled[id]; known && booked(before) && !booked(s) {
		return
	}
	settled[id] = s
}

func booked(s *ledgerlinev1.Settlement) bool {
	return s.GetOutcome() == ledgerlinev1.Outcome_OUTCOME_BOOKED || s.GetOutcome() == ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED
}

// Outcome is the name of an outcome, such as "booked".
func Outcome(s *ledgerlinev1.Settlement) string {
	if s == nil {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(s.GetOutcome().String(), "OUTCOME_"))
}

// phase is how the job stands here: by the ledger where that has ended it, since
// the bucket may be behind or lost.
func (s *Sides) phase() ledgerlinev1.JobPhase {
	phase := s.State.GetPhase()
	if s.Last == nil {
		return phase
	}
	end := s.Last.Record.GetEnd().GetPhase()
	switch {
	case ledger.Final(end) && s.State.GetRun() <= s.Last.Record.GetRun():
		return end
	case s.State == nil:
		return ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE // the bucket was lost
	}
	return phase
}

// Compare finds what differs.
func Compare(s *Sides) *Report {
	phase := s.phase()
	r := &Report{
		JobID: s.Job.String(), CompanyID: s.Company.String(), Reason: s.State.GetReason(),
		Pleo:     AtPleo{Status: string(s.Read.Status), FailureReasonType: string(s.Read.FailureReasonType), Items: len(s.Items)},
		Stream:   InStream{Sealed: s.Manifest != nil, Run: s.Manifest.GetRun(), Items: len(s.Sealed)},
		Findings: []Finding{}, Fixed: []string{},
	}
	if phase != ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED {
		r.State = jobstate.PhaseName(phase)
	}
	for _, status := range s.Items {
		switch {
		case status.Open():
			r.Pleo.Open++
		case status == pleo.ItemSuccessful:
			r.Pleo.Successful++
		default:
			r.Pleo.Failed++
		}
	}
	for _, settled := range s.Settled {
		if booked(settled) {
			r.Ledger.Booked++
		} else {
			r.Ledger.Failed++
		}
	}
	if s.Last != nil {
		record := s.Last.Record
		r.Ledger.Run, r.Ledger.Epoch, r.Ledger.Position = record.GetRun(), record.GetEpoch(), record.GetPosition()
		if end := record.GetEnd(); end != nil {
			r.Ledger.End = jobstate.PhaseName(end.GetPhase())
		}
		if r.Reason == "" {
			r.Reason = record.GetEnd().GetReason()
		}
	}
	all := s.jobFindings(phase, r)
	for _, id := range s.entries() {
		if f, found := s.entryFinding(phase, id); found {
			all = append(all, f)
		}
	}
	r.OK = !slices.ContainsFunc(all, func(f Finding) bool { return f.Fix != ByNobody })
	r.Findings = append(r.Findings, all[:min(len(all), MaxFindings)]...)
	r.More = len(all) - len(r.Findings)
	return r
}

// jobFindings are the differences about the job itself.
func (s *Sides) jobFindings(phase ledgerlinev1.JobPhase, r *Report) []Finding {
	openThere := !s.Read.Status.Final()
	of := func(kind Kind, fix Fix, format string, args ...any) []Finding {
		return []Finding{{Kind: kind, Fix: fix, Text: fmt.Sprintf(format, args...)}}
	}
	switch {
	case phase == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED && openThere:
		return of(Unknown, ByStart, "the job is %s at Pleo and nothing of it is known here", s.Read.Status)
	case phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED && openThere:
		return of(Parked, ByRetry, "the job is parked here and %s at Pleo", s.Read.Status)
	case phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED:
		return of(Parked, ByPerson, "the job is parked here and %s at Pleo, which takes nothing more of it", s.Read.Status)
	case ledger.Final(phase) && openThere && (r.Pleo.Open == 0 || !completed(phase)):
		return of(NotClosed, ByClose, "the job is %s here, and still %s at Pleo", r.State, s.Read.Status)
	case ledger.Final(phase) || phase == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED:
		return nil
	case !openThere:
		return of(EndedAtPleo, ByNobody, "the job is %s here and %s at Pleo: its worker ends it when it looks next", r.State, s.Read.Status)
	case s.Manifest == nil && !s.Event && !jobstate.Starting(s.State):
		return of(Lost, ByStart, "the job is %s here, and neither its event nor its manifest is stored", r.State)
	}
	return nil
}

// completed tells whether the phase says that every item has a result.
func completed(phase ledgerlinev1.JobPhase) bool {
	return phase == ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED || phase == ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS
}

// EndsAs is the phase whose event closes the job at Pleo: what its items there say,
// but for a job that was stopped or cancelled here.
func (r *Report) EndsAs() ledgerlinev1.JobPhase {
	switch {
	case r.State == jobstate.PhaseName(ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED):
		return ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED
	case r.State == jobstate.PhaseName(ledgerlinev1.JobPhase_JOB_PHASE_FAILED) || r.Pleo.Successful == 0 && r.Pleo.Failed > 0:
		return ledgerlinev1.JobPhase_JOB_PHASE_FAILED
	case r.Pleo.Failed > 0:
		return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS
	}
	return ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
}

// entries are all that any side names, in a fixed order.
func (s *Sides) entries() []uuid.UUID {
	all := map[uuid.UUID]struct{}{}
	for id := range s.Items {
		all[id] = struct{}{}
	}
	for id := range s.Sealed {
		all[id] = struct{}{}
	}
	for id := range s.Settled {
		all[id] = struct{}{}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

// entryFinding is what differs about one entry.
func (s *Sides) entryFinding(phase ledgerlinev1.JobPhase, id uuid.UUID) (Finding, bool) {
	status, listed := s.Items[id]
	settled := s.Settled[id]
	f := Finding{AccountingEntryID: id.String(), Pleo: string(status), Ledger: Outcome(settled), ExternalID: settled.GetExternalId()}
	over := ledger.Final(phase)
	isParked := phase == ledgerlinev1.JobPhase_JOB_PHASE_PARKED
	takes := !s.Read.Status.Final() // whether Pleo takes results of the job
	say := func(kind Kind, fix Fix, text string) (Finding, bool) {
		f.Kind, f.Fix, f.Text = kind, fix, text
		return f, true
	}
	switch {
	case !listed:
		return say(Gone, ByPerson, "Pleo does not list the entry among the job's items")
	case status.Open() && settled != nil && over:
		switch {
		case !takes:
			return say(Unreported, ByPerson, "the result was not accepted before the job ended at Pleo")
		case isParked:
			return say(Unreported, ByRetry, "the result was not accepted; a retry reports it and sends nothing twice")
		}
		return say(Unreported, ByReport, "the result was not accepted")
	case status.Open() && over && isParked && takes:
		return say(Open, ByRetry, "not sent yet")
	case status.Open() && over && phase != ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED && takes:
		return say(Open, ByPerson, "open at Pleo, without a result here, in a job that has ended here")
	case status == pleo.ItemSuccessful && settled != nil && !booked(settled):
		return say(Contradiction, ByPerson, "failed here, successful at Pleo")
	case status.Final() && status != pleo.ItemSuccessful && booked(settled):
		return say(Contradiction, ByPerson, "booked here, "+string(status)+" at Pleo")
	}
	return f, false
}
