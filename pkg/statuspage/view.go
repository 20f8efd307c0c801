package statuspage

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds on what the page lists; `ledgerline jobs` lists everything. The rest is
// counted.
const (
	maxRows    = 200
	maxParked  = 80 // so that they never hide what still runs
	maxRunning = 90
	maxEnded   = 10
	maxWaiting = maxRows - maxParked - maxRunning - maxEnded
)

const (
	// soon is when a deadline is shown as near.
	soon = time.Hour
	// surelySoon is when it is shown as trouble.
	surelySoon = 10 * time.Minute
)

// view is what the page shows.
type view struct {
	Verdict verdict
	Figures []figure
	Chart   chart
	Parked  section
	Running section
	Waiting section
	Ended   section
	// None is true where no job ever came.
	None bool
	// Known is false before the first reading.
	Known bool

	active, draining, waiting, paused, parked, late, still int
	remaining                                              uint64
	rate                                                   float64
	// moved is when any active job last moved.
	moved time.Time
}

type figure struct {
	Name, Value, Note string
	Tone              tone
}

// section is a bounded list.
type section struct {
	Rows []row
	// More are those that are not listed.
	More int
}

// MoreText counts them.
func (s section) MoreText() string { return count(s.More) }

// row is a job, or an event that could not be used.
type row struct {
	// Key is unique on the page.
	Key         string
	ID, Company string
	Event       bool
	Label       string
	Tone        tone
	// Measured is true where Position and Total mean something, Bar where they are
	// drawn too.
	Measured, Bar   bool
	Position, Total uint32
	Percent         int
	Done            string
	// Pace is the rate and the time that is left.
	Pace         string
	Deadline     string
	DeadlineTone tone
	DeadlineAt   string
	Worker       string
	Reason       string
	At, AtText   string
	Actions      []Action
}

func viewOf(m *memory, now time.Time) *view {
	v := &view{Known: !m.at.IsZero(), Chart: chartOf(&m.ring)}
	jobs := slices.Clone(m.last.Jobs)
	slices.SortStableFunc(jobs, func(a, b Job) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	v.None = len(jobs) == 0 && len(m.last.Parked) == 0
	byID := make(map[string]Job, len(jobs))
	for _, j := range jobs {
		byID[j.ID] = j
	}
	listed := map[string]bool{}
	var still, moving []Job
	for i, p := range m.last.Parked {
		listed[p.JobID] = true
		v.Parked.add(maxParked, func() row { return v.parkedRow(i, p, byID[p.JobID], now) })
	}
	for _, j := range jobs {
		v.count(j, m, now)
		switch {
		case j.State == stateParked:
			if !listed[j.ID] {
				v.Parked.add(maxParked, func() row {
					return v.parkedRow(0, Parked{JobID: j.ID, Reason: j.Reason, At: j.Ended}, j, now)
				})
			}
		case ended(j.State):
		case v.waits(j):
			v.Waiting.add(maxWaiting, func() row { return v.row(j, m, now) })
		case standsStill(j, m.paces[j.ID], now):
			still = append(still, j)
		default:
			moving = append(moving, j)
		}
	}
	for _, j := range append(still, moving...) { // what does not move is seen first
		v.Running.add(maxRunning, func() row { return v.row(j, m, now) })
	}
	v.parked = len(v.Parked.Rows) + v.Parked.More
	v.addEnded(jobs, m, now)
	v.Verdict = verdictOf(m, v, now)
	v.Figures = v.figures(m)
	return v
}

// waits tells whether a job waits for a worker or its company's turn.
func (v *view) waits(j Job) bool { return j.State == stateSealed || j.State == stateWaiting }

func (s *section) add(limit int, of func() row) {
	if len(s.Rows) == limit {
		s.More++
		return
	}
	s.Rows = append(s.Rows, of())
}

// addEnded lists the jobs that ended last, newest first.
func (v *view) addEnded(jobs []Job, m *memory, now time.Time) {
	over := slices.DeleteFunc(slices.Clone(jobs), func(j Job) bool { return !ended(j.State) })
	slices.SortStableFunc(over, func(a, b Job) int { return b.Ended.Compare(a.Ended) })
	for _, j := range over {
		v.Ended.add(maxEnded, func() row { return v.row(j, m, now) })
	}
}

func (v *view) count(j Job, m *memory, now time.Time) {
	p := m.paces[j.ID]
	switch j.State {
	case stateDraining:
		v.draining++
	case stateActive, stateReporting:
		v.active++
		v.rate += p.rate
		if p.moved.After(v.moved) {
			v.moved = p.moved
		}
		if standsStill(j, p, now) {
			v.still++
		}
	case statePaused:
		v.paused++
	case stateSealed, stateWaiting:
		v.waiting++
	default:
		return
	}
	v.remaining += uint64(j.Total - min(j.Position, j.Total))
	if late(j, p, now) {
		v.late++
	}
}

// standsStill tells whether a job is worked on and does not move.
func standsStill(j Job, p pace, now time.Time) bool {
	return (j.State == stateActive || j.State == stateReporting) && !p.moved.IsZero() && now.Sub(p.moved) >= stalled
}

// late tells whether a job's work takes longer than it has.
func late(j Job, p pace, now time.Time) bool {
	if j.Deadline.IsZero() || j.State == stateDraining {
		return false
	}
	left := j.Deadline.Sub(now)
	if left < surelySoon {
		return true
	}
	work := float64(j.Total - min(j.Position, j.Total))
	return j.State == stateActive && p.known && p.rate > 0 && work/p.rate > left.Seconds()
}

func (v *view) figures(m *memory) []figure {
	if !v.Known {
		return nil
	}
	lag := m.last.Lag
	figures := []figure{
		{Name: "Items waiting", Value: count(lag.Items), Tone: toneQuiet},
		{Name: "Jobs in hand", Value: count(lag.JobsActive), Tone: toneQuiet},
		{Name: "Jobs waiting", Value: count(lag.JobsWaiting), Tone: toneQuiet},
		{Name: "Oldest job", Value: "–", Tone: toneQuiet},
		{Name: "Parked", Value: count(v.parked), Tone: toneQuiet},
	}
	if v.rate > 0 {
		figures[0].Note = rate(v.rate) + " booked"
	}
	if lag.OldestJobAge > 0 {
		figures[3].Value = shortSpan(lag.OldestJobAge)
	}
	if v.parked > 0 {
		figures[4].Tone, figures[4].Note = toneBad, needs(v.parked)+" you"
	}
	return figures
}

func (v *view) parkedRow(i int, p Parked, j Job, now time.Time) row {
	r := row{Key: "parked-" + p.JobID, ID: p.JobID, Company: j.Company, Event: p.Event, Label: "Parked", Tone: toneBad, Reason: clip(p.Reason)}
	if p.Event {
		r.Key = fmt.Sprintf("event-%d-%s", i, p.JobID)
		r.Label = "Event not understood"
	}
	if !p.At.IsZero() {
		r.At, r.AtText = machine(p.At), ago(now.Sub(p.At))
	}
	if p.JobID != "" {
		r.Actions = actionsFor(stateParked, "")
	}
	if j.ID != "" && j.Total > 0 {
		r.measure(j)
		r.Bar = true
	}
	return r
}

var labels = map[string]string{
	stateDraining: "Fetching", stateSealed: "Waiting", stateWaiting: "Waiting", stateActive: "Running", statePaused: "Paused",
	stateReporting: "Reporting", stateCompleted: "Completed", stateWithFault: "Completed with errors", stateFailed: "Failed",
	stateCancelled: "Cancelled",
}

var tones = map[string]tone{
	stateDraining: toneBusy, stateSealed: toneQuiet, stateWaiting: toneQuiet, stateActive: toneBusy, statePaused: toneWarn,
	stateReporting: toneBusy, stateCompleted: toneGood, stateWithFault: toneWarn, stateFailed: toneBad, stateCancelled: toneQuiet,
}

func (v *view) row(j Job, m *memory, now time.Time) row {
	r := row{
		Key: "job-" + j.ID, ID: j.ID, Company: j.Company, Label: labels[j.State], Tone: tones[j.State], Worker: j.Worker,
		Reason: clip(j.Reason), Actions: actionsFor(j.State, j.Asked),
	}
	if r.Label == "" {
		r.Label, r.Tone = j.State, toneQuiet // of a newer version
	}
	switch {
	case j.State == stateDraining && j.Pages > 0:
		r.Done = countOf(j.Pages, "page") + " read"
	case j.State == stateDraining:
	case j.Position == 0 && v.waits(j):
		r.Done = countOf(j.Total, "item")
	default:
		r.measure(j)
		r.Bar = !ended(j.State)
	}
	p := m.paces[j.ID]
	if left := j.Total - min(j.Position, j.Total); j.State == stateActive && p.known && p.rate > 0 && left > 0 {
		r.Pace = rate(p.rate) + ", " + span(time.Duration(float64(left)/p.rate*float64(time.Second))) + " left"
	}
	if standsStill(j, p, now) {
		r.Pace, r.Tone, r.Label = "no item settled for "+span(now.Sub(p.moved)), toneBad, "Stands still"
	}
	if ended(j.State) {
		r.Company = ""
		if !j.Ended.IsZero() {
			r.At, r.AtText = machine(j.Ended), ago(now.Sub(j.Ended))
		}
		return r
	}
	if !j.Deadline.IsZero() {
		r.DeadlineAt, r.DeadlineTone = machine(j.Deadline), toneQuiet
		switch left := j.Deadline.Sub(now); {
		case left <= 0:
			r.Deadline, r.DeadlineTone = "deadline passed", toneBad
		case late(j, p, now):
			r.Deadline, r.DeadlineTone = span(left)+" to the deadline: too short", toneBad
		case left < soon:
			r.Deadline, r.DeadlineTone = span(left)+" to the deadline", toneWarn
		default:
			r.Deadline = span(left) + " to the deadline"
		}
	}
	return r
}

func (r *row) measure(j Job) {
	r.Measured = true
	r.Total, r.Position = j.Total, min(j.Position, j.Total)
	r.Percent = 100
	if j.Total > 0 {
		r.Percent = int(uint64(r.Position) * 100 / uint64(j.Total))
	}
	r.Done = fmt.Sprintf("%s of %s", count(r.Position), count(j.Total))
}
