//go:build unix

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// class is a way to break a promise.
type class string

const (
	// lost: an item of an ended job that the sink never settled, or a job that did
	// not end.
	lost class = "lost"
	// doubled: a settled item came again, and no kill, freeze or cut of the worker
	// that had its job accounts for it; or an entry that an earlier job of the
	// company had booked came again.
	doubled class = "doubled"
	// overlapping: two workers were at one job at once, or two jobs of one company
	// ran at once.
	overlapping class = "overlapping"
	// disordered: an item came before one that stands before it.
	disordered class = "out of order"
	// unreported: Pleo's items or jobs are not what the sink has.
	unreported class = "unreported"
	// early: a job was closed before all its items were settled.
	early class = "completed early"
	// twice: a job was started or closed more than once.
	twice class = "event twice"
	// ended: a process ended by itself.
	ended class = "ended by itself"
)

var classes = []class{lost, doubled, overlapping, disordered, unreported, early, twice, ended}

// evidence is what the judge gets to see.
type evidence struct {
	Deliveries []delivery
	Pleo       *pleoState
	// Faults are what was done, to tell what it accounts for.
	Faults []fault
	Lease  time.Duration
}

// maxProblems bounds what a verdict lists of each class; it counts all.
const maxProblems = 20

type verdict struct {
	Command  string             `json:"command"`
	Took     time.Duration      `json:"tookNanoseconds"`
	Jobs     int                `json:"jobs"`
	Items    int                `json:"items"`
	Settled  int                `json:"settled"` // by the sink, each entry and job once
	Faults   tally              `json:"faults"`
	Broken   map[class]int      `json:"broken"`
	Problems map[class][]string `json:"problems"`

	// What is allowed.
	SentAgain   int `json:"sentAgainAfterTakeover"`
	InPlace     int `json:"repeatedInPlace"` // behind a cut: its answer was lost
	Late        int `json:"arrivedLate"`     // a transmission that a link had held up
	Refused     int `json:"refusedByEpoch"`  // a worker that was presumed dead
	Takeovers   int `json:"takeovers"`
	Unexplained int `json:"takeoversWithoutAFault"`

	// From a kill to the next item of a job that its worker had, whatever else was
	// wrong meanwhile.
	Resumed waits `json:"fromKillToNextItem"`
}

func (v *verdict) add(c class, format string, args ...any) {
	v.Broken[c]++
	if len(v.Problems[c]) < maxProblems {
		v.Problems[c] = append(v.Problems[c], fmt.Sprintf(format, args...))
	}
}

// OK tells whether every promise was kept.
func (v *verdict) OK() bool { return len(v.Broken) == 0 }

// tally counts faults by kind.
type counted map[faultKind]int

type tally []fault

func (t tally) count() counted {
	c := counted{}
	for _, f := range t {
		c[f.Kind]++
	}
	return c
}

func (t tally) String() string {
	c := t.count()
	var parts []string
	for _, kind := range []faultKind{killed, frozen, downed, deposed, spoiled, stalled} {
		if c[kind] > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", c[kind], kind))
		}
	}
	return strings.Join(parts, ", ")
}

// judge compares the two ends.
func judge(e evidence) *verdict {
	v := &verdict{Broken: map[class]int{}, Problems: map[class][]string{}, Faults: e.Faults}
	deliveries := slices.Clone(e.Deliveries)
	slices.SortStableFunc(deliveries, func(a, b delivery) int { return cmp.Compare(a.Number, b.Number) })
	byJob := map[string][]delivery{}
	for _, d := range deliveries {
		byJob[d.Job] = append(byJob[d.Job], d)
	}
	books := v.readBooks(deliveries)
	for _, job := range e.Pleo.Jobs {
		l := lane{v: v, e: e, job: job, name: job.ID.String()}
		l.judge(byJob[l.name])
		v.judgeReports(job, byJob[l.name], books)
		delete(byJob, l.name)
	}
	for job, of := range byJob {
		v.add(doubled, "job %s is not Pleo's and %d items of it came", job, len(of))
	}
	v.judgeCompanies(deliveries)
	for _, problem := range e.Pleo.Problems {
		if strings.Contains(problem, "was started before") {
			v.add(overlapping, "Pleo: %s", problem)
		} else {
			v.add(early, "Pleo: %s", problem)
		}
	}
	v.measure(deliveries, e)
	return v
}

// booking is the first booking of an entry.
type booking struct {
	job, external string
}

// readBooks finds the first booking of each entry of a company, and those that
// another job carried to the sink again.
func (v *verdict) readBooks(deliveries []delivery) map[string]booking {
	books := map[string]booking{}
	for _, d := range deliveries {
		key := d.Company + ":" + d.Entry
		first, have := books[key]
		switch {
		case d.Outcome == booked && have:
			v.add(doubled, "entry %s was booked in job %s and again in job %s", d.Entry, first.job, d.Job)
		case d.Outcome == booked:
			books[key] = booking{job: d.Job, external: d.ExternalID}
		case have && first.job != d.Job && d.Outcome != stale:
			v.add(doubled, "entry %s was booked in job %s and came again in job %s (epoch %d, attempt %d)", d.Entry, first.job, d.Job, d.Epoch, d.Attempt)
		}
	}
	return books
}

// lane goes through one job's deliveries in the order of the sink's decisions.
type lane struct {
	v    *verdict
	e    evidence
	job  simulator.JobSnapshot
	name string

	last  delivery // the last one that settled an item for the first time
	seen  delivery // the last one of the owner's, whatever came of it
	epoch uint64
	// settled is how each entry was settled first.
	settled map[string]delivery
	// spent are the faults that account for a repetition already.
	spent map[int]bool
	busy  time.Time // until when the sink was at an item of the job
}

func (l *lane) judge(deliveries []delivery) {
	l.settled, l.spent = map[string]delivery{}, map[int]bool{}
	sent := map[string]delivery{} // by transmission
	for _, d := range deliveries {
		// Each transmission is counted before it is made; the same one twice means
		// that something sends by itself.
		transmission := fmt.Sprintf("%s %d %d", d.Entry, d.Epoch, d.Attempt)
		if _, again := sent[transmission]; again {
			l.v.add(doubled, "job %s: position %d (epoch %d, attempt %d) came twice with one attempt", l.name, d.Position, d.Epoch, d.Attempt)
		}
		sent[transmission] = d
		if d.Outcome == stale {
			l.v.Refused++
			if d.Epoch >= l.epoch && l.epoch != 0 && !l.overtaken(deliveries, d) {
				l.v.add(disordered, "job %s: epoch %d was refused and none is higher", l.name, d.Epoch)
			}
			continue
		}
		l.fence(d)
		l.place(d)
	}
	l.v.Jobs++
	l.v.Items += len(l.job.Items)
	l.v.Settled += len(l.settled)
}

func (l *lane) overtaken(deliveries []delivery, by delivery) bool {
	return slices.ContainsFunc(deliveries, func(d delivery) bool { return d.Epoch > by.Epoch })
}

// fence judges whether one worker at a time was at the job.
func (l *lane) fence(d delivery) {
	switch {
	case d.Epoch < l.epoch:
		l.v.add(overlapping, "job %s: position %d came in epoch %d after epoch %d", l.name, d.Position, d.Epoch, l.epoch)
	case d.Epoch > l.epoch:
		if l.epoch != 0 {
			l.v.Takeovers++
			if l.accountFor(l.seen, d, false) < 0 {
				l.v.Unexplained++
			}
		}
		if d.Arrived.Before(l.busy) {
			l.v.add(overlapping, "job %s: position %d of epoch %d arrived while an item of epoch %d was worked on", l.name, d.Position, d.Epoch, l.epoch)
		}
		l.epoch = d.Epoch
	}
	if d.Decided.After(l.busy) {
		l.busy = d.Decided
	}
}

// place judges whether the delivery is the next one, or an allowed repetition.
func (l *lane) place(d delivery) {
	first, again := l.settled[d.Entry]
	switch {
	case !again && d.Position > l.last.Position:
		if dated(l.last, d) {
			l.v.add(disordered, "job %s: position %d (%s) came before position %d (%s)", l.name, l.last.Position, day(l.last), d.Position, day(d))
		}
		if d.Outcome.settles() {
			l.last, l.settled[d.Entry] = d, d
		}
	case !again:
		l.v.add(disordered, "job %s: position %d came after position %d", l.name, d.Position, l.last.Position)
		if d.Outcome.settles() {
			l.settled[d.Entry] = d
		}
	case d.Epoch == first.Epoch && d.Attempt < l.attempt(d):
		// A link held it up until a later attempt was through.
		if l.accountFor(first, d, true) < 0 {
			l.v.add(doubled, "job %s: position %d, attempt %d, came late without trouble on its link", l.name, d.Position, d.Attempt)
		}
		l.v.Late++
	case d.Position != l.last.Position:
		l.v.add(doubled, "job %s: position %d (epoch %d, attempt %d) came again after position %d", l.name, d.Position, d.Epoch, d.Attempt, l.last.Position)
	case d.Epoch == l.seen.Epoch:
		// In place: the worker did not get the answer.
		if l.accountFor(l.seen, d, true) < 0 {
			l.v.add(doubled, "job %s: position %d was sent again in epoch %d (attempt %d) without trouble on its link", l.name, d.Position, d.Epoch, d.Attempt)
		}
		l.v.InPlace++
	default:
		// The item in doubt, after a takeover: one for each fault of the worker
		// that had the job.
		fault := l.accountFor(l.seen, d, false)
		if fault < 0 {
			l.v.add(doubled, "job %s: position %d was sent again in epoch %d (attempt %d) and nothing had happened to %s, which had the job",
				l.name, d.Position, d.Epoch, d.Attempt, l.seen.Via)
		} else {
			l.spent[fault] = true
		}
		l.v.SentAgain++
	}
	l.seen = d
}

// attempt is the highest attempt of the entry that has come so far.
func (l *lane) attempt(d delivery) uint32 {
	highest := l.settled[d.Entry].Attempt
	if l.seen.Entry == d.Entry && l.seen.Epoch == d.Epoch {
		highest = max(highest, l.seen.Attempt)
	}
	return highest
}

// accountFor finds a fault of the worker that sent before, between that sending and
// the one after it: the number of one that accounts for no other repetition of the
// job yet, or -1. Repetitions in place need trouble on a link, or of the machine,
// and one trouble accounts for as many as there are while it lasts.
func (l *lane) accountFor(before, after delivery, inPlace bool) int {
	for i, f := range l.e.Faults {
		if !f.touches(before.Via) || !inPlace && l.spent[i] {
			continue
		}
		if inPlace && f.Kind != spoiled && f.Kind != stalled {
			continue
		}
		// A lease that ran out began before the item was sent, and what a trouble
		// held up comes after its end.
		if f.From.Before(after.Arrived) && f.Until.Add(2*l.e.Lease).After(before.Arrived.Add(-l.e.Lease)) {
			return i
		}
	}
	return -1
}

// dated tells whether b belongs before a: by date, undated last, then by entry.
func dated(a, b delivery) bool {
	switch {
	case a.Position == 0:
		return false
	case a.Date == nil || b.Date == nil:
		if (a.Date == nil) != (b.Date == nil) {
			return a.Date == nil
		}
	case !a.Date.Equal(*b.Date):
		return a.Date.After(*b.Date)
	}
	return a.Entry > b.Entry
}

func day(d delivery) string {
	if d.Date == nil {
		return "undated, " + d.Entry
	}
	return d.Date.Format(time.RFC3339) + ", " + d.Entry
}

// judgeReports compares Pleo's final state of a job with the sink's record.
func (v *verdict) judgeReports(job simulator.JobSnapshot, deliveries []delivery, books map[string]booking) {
	started, closed := 0, 0
	for _, event := range job.Events {
		switch event.Event {
		case simulator.EventStarted:
			started++
		default:
			closed++
			if event.By != simulator.ByClient {
				v.add(lost, "job %s was ended by %s: %s", job.ID, event.By, event.Event)
			}
		}
	}
	if started > 1 || closed > 1 {
		v.add(twice, "job %s has %d started and %d closing events", job.ID, started, closed)
	}
	if closed == 0 {
		v.add(lost, "job %s has not ended: it is %s", job.ID, job.Status)
		return
	}
	last := map[string]outcome{}
	for _, d := range deliveries {
		if d.Outcome.settles() {
			_, again := last[d.Entry]
			last[d.Entry] = d.Outcome
			// Pleo's times are whole seconds, and a link may hold a repetition up.
			if !again && d.Arrived.After(job.CompletedAt.Add(time.Second)) {
				v.add(early, "job %s was closed at %s and position %d came at %s", job.ID, job.CompletedAt.Format(time.RFC3339), d.Position, d.Arrived.Format(time.RFC3339))
			}
		}
	}
	good := 0
	for _, item := range job.Items {
		entry := item.AccountingEntryID.String()
		book, have := books[job.CompanyID.String()+":"+entry]
		came := last[entry]
		switch {
		case !have && came != failed:
			v.add(lost, "job %s: entry %s is %s at Pleo and the sink never settled it", job.ID, entry, item.Status)
		case have && came != failed && (item.Status != simulator.ItemSuccessful || item.ExternalID != book.external):
			v.add(unreported, "job %s: entry %s was booked as %s and is %s with %q at Pleo", job.ID, entry, book.external, item.Status, item.ExternalID)
		case came == failed && item.Status != simulator.ItemFailed:
			v.add(unreported, "job %s: entry %s failed and is %s at Pleo", job.ID, entry, item.Status)
		}
		if item.Status == simulator.ItemSuccessful {
			good++
		}
	}
	want := simulator.JobCompletedWithErrors
	switch good {
	case len(job.Items):
		want = simulator.JobCompleted
	case 0:
		want = simulator.JobFailed
	}
	if job.Status != want {
		v.add(unreported, "job %s has %d of %d items successful and is %s (%s)", job.ID, good, len(job.Items), job.Status, job.FailureReason)
	}
	if job.OpenAtClose > 0 {
		v.add(early, "job %s was closed with %d open items", job.ID, job.OpenAtClose)
	}
}

// judgeCompanies finds jobs of one company that ran at once.
func (v *verdict) judgeCompanies(deliveries []delivery) {
	type turn struct {
		job         string
		first, last time.Time
	}
	turns := map[string][]*turn{}
	settled := map[string]bool{}
	for _, d := range deliveries {
		// What a link held up may come at any time: what counts is what settles.
		if settled[d.Job+d.Entry] || !d.Outcome.settles() {
			continue
		}
		settled[d.Job+d.Entry] = true
		of := turns[d.Company]
		at := slices.IndexFunc(of, func(t *turn) bool { return t.job == d.Job })
		if at < 0 {
			turns[d.Company] = append(of, &turn{job: d.Job, first: d.Arrived, last: d.Decided})
			continue
		}
		if d.Arrived.Before(of[at].first) {
			of[at].first = d.Arrived
		}
		of[at].last = d.Decided
	}
	for company, of := range turns {
		slices.SortFunc(of, func(a, b *turn) int { return a.first.Compare(b.first) })
		for i := 1; i < len(of); i++ {
			if of[i].first.Before(of[i-1].last) {
				v.add(overlapping, "company %s: job %s began before job %s was through", company, of[i].job, of[i-1].job)
			}
		}
	}
}

// measure finds the times from a kill to the next item of each job that the killed
// worker had.
func (v *verdict) measure(deliveries []delivery, e evidence) {
	byJob := map[string][]delivery{}
	for _, d := range deliveries {
		if d.Outcome != stale {
			byJob[d.Job] = append(byJob[d.Job], d)
		}
	}
	for _, f := range e.Faults {
		if f.Kind != killed || !strings.HasPrefix(f.Targets[0], "consumer") {
			continue
		}
		for _, of := range byJob {
			next := slices.IndexFunc(of, func(d delivery) bool { return d.Arrived.After(f.From) })
			if next <= 0 || of[next-1].Via != f.Targets[0] {
				continue
			}
			v.Resumed = append(v.Resumed, of[next].Arrived.Sub(f.From))
		}
	}
	slices.Sort(v.Resumed)
}
