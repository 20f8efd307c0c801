//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// items of the made-up job.
const madeItems = 5

// made is a run that kept every promise: one job, taken over once after a kill,
// with the item in doubt sent again.
type made struct {
	evidence
	company, job uuid.UUID
	began        time.Time
}

func (m *made) at(tick int) time.Time { return m.began.Add(time.Duration(tick) * time.Second) }

// send adds a delivery that arrives at tick.
func (m *made) send(tick int, position uint32, epoch uint64, attempt uint32, via string, o outcome) *delivery {
	d := delivery{
		Number: len(m.Deliveries) + 1, Arrived: m.at(tick), Decided: m.at(tick).Add(500 * time.Millisecond), Via: via,
		Company: m.company.String(), Job: m.job.String(), Entry: entryOf(position).String(), Position: position,
		Total: madeItems, Epoch: epoch, Attempt: attempt, Outcome: o,
	}
	date := m.began.AddDate(0, 0, int(position))
	d.Date = &date
	if o == booked || o == known {
		d.ExternalID = fmt.Sprintf("B-%d", position)
	}
	m.Deliveries = append(m.Deliveries, d)
	return &m.Deliveries[len(m.Deliveries)-1]
}

func entryOf(position uint32) uuid.UUID { return uuid.UUID{15: byte(position)} }

func makeRun() *made {
	m := &made{company: uuid.New(), job: uuid.New(), began: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	m.Lease = 2 * time.Second
	m.send(10, 1, 1, 1, "consumer-1", booked)
	m.send(11, 2, 1, 1, "consumer-1", booked)
	m.send(14, 2, 2, 2, "consumer-2", known)
	m.send(15, 3, 2, 1, "consumer-2", booked)
	m.send(16, 4, 2, 1, "consumer-2", booked)
	m.send(17, 5, 2, 1, "consumer-2", booked)
	m.Faults = []fault{{Kind: killed, Targets: []string{"consumer-1"}, From: m.at(12), Until: m.at(13)}}
	job := simulator.JobSnapshot{ID: m.job, CompanyID: m.company, Status: simulator.JobCompleted, StartedAt: m.at(1), CompletedAt: m.at(20)}
	for position := uint32(1); position <= madeItems; position++ {
		job.Items = append(job.Items, simulator.ItemSnapshot{
			AccountingEntryID: entryOf(position), Status: simulator.ItemSuccessful, ExternalID: fmt.Sprintf("B-%d", position),
		})
	}
	job.Events = []simulator.JobEvent{
		{At: m.at(1), Event: simulator.EventStarted, By: simulator.ByClient},
		{At: m.at(20), Event: simulator.EventCompleted, By: simulator.ByClient},
	}
	m.Pleo = &pleoState{Snapshot: simulator.Snapshot{Jobs: []simulator.JobSnapshot{job}}}
	return m
}

func (m *made) pleo() *simulator.JobSnapshot { return &m.Pleo.Jobs[0] }

// drop forgets a delivery.
func (m *made) drop(n int) { m.Deliveries = slices.Delete(m.Deliveries, n, n+1) }

// second adds a job of the same company with one entry, booked at tick.
func (m *made) second(tick int, entry uuid.UUID) {
	other := simulator.JobSnapshot{
		ID: uuid.New(), CompanyID: m.company, Status: simulator.JobCompleted, StartedAt: m.at(21), CompletedAt: m.at(40),
		Events: m.pleo().Events, Items: []simulator.ItemSnapshot{{AccountingEntryID: entry, Status: simulator.ItemSuccessful, ExternalID: "B-99"}},
	}
	d := m.send(tick, 1, 1, 1, "consumer-3", booked)
	d.Job, d.Entry, d.ExternalID = other.ID.String(), entry.String(), "B-99"
	m.Pleo.Jobs = append(m.Pleo.Jobs, other)
}

// What a run may show without breaking a promise.
func TestTheJudgeAllowsWhatIsPromised(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*made){
		"a takeover with the item in doubt": func(*made) {},
		"a takeover without one":            func(m *made) { m.drop(2) },
		"a frozen worker that wakes up": func(m *made) {
			m.Faults[0].Kind = frozen
			m.send(18, 3, 1, 1, "consumer-1", stale)
		},
		"a repetition in place behind a cut": func(m *made) {
			m.send(18, 5, 2, 2, "consumer-2", known)
			m.Faults = append(m.Faults, fault{Kind: spoiled, Targets: []string{"consumer-2"}, From: m.at(16), Until: m.at(19)})
		},
		"an attempt that a link held up": func(m *made) {
			m.Deliveries[5].Attempt = 2
			m.send(19, 5, 2, 1, "consumer-2", known)
			m.Faults = append(m.Faults, fault{Kind: spoiled, Targets: []string{"consumer-2"}, From: m.at(16), Until: m.at(18)})
		},
		"a busy sink": func(m *made) {
			m.Deliveries[5].Outcome, m.Deliveries[5].ExternalID = busy, ""
			m.send(18, 5, 2, 2, "consumer-2", booked)
		},
		"a failed item, booked in a later job": func(m *made) {
			m.Deliveries[5].Outcome, m.Deliveries[5].ExternalID = failed, ""
			m.pleo().Items[4].Status, m.pleo().Items[4].ExternalID, m.pleo().Status = simulator.ItemFailed, "", simulator.JobCompletedWithErrors
			m.second(30, entryOf(5))
		},
		"an entry that an earlier job booked": func(m *made) {
			m.second(30, uuid.New())
			m.Pleo.Jobs[1].Items = append(m.Pleo.Jobs[1].Items, m.pleo().Items[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := makeRun()
			change(m)
			if v := judge(m.evidence); !v.OK() {
				t.Errorf("found %v", v.Problems)
			}
		})
	}
}

// Each way to break a promise is found, and only that one.
func TestTheJudgeFindsEachFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		want   class
		change func(*made)
	}{
		{"an item that never came", lost, func(m *made) { m.drop(5) }},
		{"a job that has not ended", lost, func(m *made) { m.pleo().Events = m.pleo().Events[:1] }},
		{"a job that expired", lost, func(m *made) { m.pleo().Events[1].By = simulator.ByPleo }},
		{"the item in doubt without a fault", doubled, func(m *made) { m.Faults = nil }},
		{"a fault of another worker", doubled, func(m *made) { m.Faults[0].Targets = []string{"consumer-3"} }},
		{"a fault long after", doubled, func(m *made) {
			m.Faults[0].From, m.Faults[0].Until = m.at(60), m.at(61)
		}},
		{"two repetitions for one kill", doubled, func(m *made) {
			m.Deliveries = m.Deliveries[:2]
			m.send(14, 2, 2, 2, "consumer-1", known)
			m.send(15, 2, 3, 3, "consumer-2", known)
			for position := uint32(3); position <= madeItems; position++ {
				m.send(13+int(position), position, 3, 1, "consumer-2", booked)
			}
		}},
		{"an item before the last one", doubled, func(m *made) {
			m.send(18, 1, 2, 2, "consumer-2", known)
		}},
		{"in place without a cut", doubled, func(m *made) { m.send(18, 5, 2, 2, "consumer-2", known) }},
		{"one attempt twice", doubled, func(m *made) {
			m.send(18, 5, 2, 1, "consumer-2", known)
			m.Faults = append(m.Faults, fault{Kind: spoiled, Targets: []string{"consumer-2"}, From: m.at(16), Until: m.at(19)})
		}},
		{"an entry that an earlier job had booked", doubled, func(m *made) {
			m.second(30, uuid.New())
			again := m.Pleo.Jobs[1].ID.String()
			m.Pleo.Jobs[1].Items = append(m.Pleo.Jobs[1].Items, m.pleo().Items[0])
			d := m.send(31, 2, 1, 1, "consumer-3", known)
			d.Job, d.Entry, d.ExternalID = again, entryOf(1).String(), "B-1"
		}},
		{"a job that Pleo does not know", doubled, func(m *made) {
			d := m.send(30, 1, 1, 1, "consumer-1", booked)
			d.Job, d.Entry, d.Company = uuid.NewString(), uuid.NewString(), uuid.NewString()
		}},
		{"two workers at one job", overlapping, func(m *made) {
			m.Deliveries[3].Epoch, m.Deliveries[3].Via = 1, "consumer-1"
		}},
		{"two workers at one moment", overlapping, func(m *made) {
			m.Deliveries[1].Decided = m.at(15)
		}},
		{"two jobs of one company", overlapping, func(m *made) { m.second(16, uuid.New()) }},
		{"a job started before the one before it had ended", overlapping, func(m *made) {
			m.Pleo.Problems = []string{"company 1: job 2 was started before job 1 had ended"}
		}},
		{"an item before its turn", disordered, func(m *made) {
			for _, n := range []int{3, 4} {
				m.Deliveries[n].Position = 7 - m.Deliveries[n].Position
				m.Deliveries[n].Entry = entryOf(m.Deliveries[n].Position).String()
				m.Deliveries[n].ExternalID = fmt.Sprintf("B-%d", m.Deliveries[n].Position)
			}
		}},
		{"an item of an earlier date", disordered, func(m *made) {
			date := m.began
			m.Deliveries[4].Date = &date
		}},
		{"a refusal that nothing explains", disordered, func(m *made) { m.send(18, 5, 3, 1, "consumer-2", stale) }},
		{"a booking that Pleo was not told of", unreported, func(m *made) {
			m.pleo().Items[1].Status, m.pleo().Items[1].ExternalID = simulator.ItemFailed, ""
			m.pleo().Status = simulator.JobCompletedWithErrors
		}},
		{"another's booking number", unreported, func(m *made) { m.pleo().Items[1].ExternalID = "B-1" }},
		{"a failure that was told as a success", unreported, func(m *made) {
			m.Deliveries[5].Outcome, m.Deliveries[5].ExternalID = failed, ""
		}},
		{"an ending that its items do not have", unreported, func(m *made) { m.pleo().Status = simulator.JobCompletedWithErrors }},
		{"closed before the last item", early, func(m *made) { m.pleo().CompletedAt = m.at(15) }},
		{"closed with open items", early, func(m *made) { m.pleo().OpenAtClose = 1 }},
		{"Pleo says so", early, func(m *made) { m.Pleo.Problems = []string{"job 1: completed with 1 open items"} }},
		{"started twice", twice, func(m *made) { m.pleo().Events = append(m.pleo().Events, m.pleo().Events[0]) }},
		{"closed twice", twice, func(m *made) { m.pleo().Events = append(m.pleo().Events, m.pleo().Events[1]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := makeRun()
			c.change(m)
			v := judge(m.evidence)
			if v.Broken[c.want] == 0 || len(v.Broken) != 1 {
				t.Errorf("found %v, want %s alone: %v", v.Broken, c.want, v.Problems)
			}
			var text strings.Builder
			v.print(&text)
			if !strings.Contains(text.String(), v.Problems[c.want][0]) {
				t.Errorf("not told:\n%s", text.String())
			}
		})
	}
}

// The figures of a run.
func TestTheJudgeCounts(t *testing.T) {
	t.Parallel()
	m := makeRun()
	m.send(18, 3, 1, 1, "consumer-1", stale)
	v := judge(m.evidence)
	if v.Takeovers != 1 || v.SentAgain != 1 || v.Refused != 1 || v.Unexplained != 0 || v.Settled != madeItems || v.Items != madeItems {
		t.Errorf("counted %+v", v)
	}
	// Killed at 12, item 2 came again at 14.
	if len(v.Resumed) != 1 || v.Resumed[0] != 2*time.Second {
		t.Errorf("resumed after %s", v.Resumed)
	}
	if got := (tally)(m.Faults).String(); got != "1 × kill" {
		t.Errorf("faults are %q", got)
	}
}

// A seed draws the same faults again, in about the wanted shares.
func TestASeedDrawsTheSameFaults(t *testing.T) {
	t.Parallel()
	const many = 5_000
	draws := func(seed uint64) (all []draw) {
		p := newPlan(&runOptions{Seed: seed})
		for range many {
			all = append(all, p.draw())
		}
		return all
	}
	first := draws(7)
	if !slices.Equal(first, draws(7)) || slices.Equal(first, draws(8)) {
		t.Error("a seed does not decide the faults")
	}
	counts := map[faultKind]int{}
	for _, d := range first {
		counts[d.kind]++
	}
	for kind, share := range singleShares {
		if n := counts[kind] * 100 / many; n < share-3 || n > share+3 {
			t.Errorf("%d %% of the faults are %s, want %d", n, kind, share)
		}
	}
}

// What a failure prints.
func TestTheCommandRepeatsTheRun(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]runOptions{
		"scripts/chaos --short":                                                {Short: true, Seed: 3, Upstream: "some"},
		"scripts/chaos --seed 7 --kills 300":                                   {Seed: 7, Kills: 300, Upstream: "some"},
		"scripts/chaos --seed 7 --kills 300 --cluster":                         {Seed: 7, Kills: 300, Cluster: true, Upstream: "some"},
		"scripts/chaos --seed 18446744073709551615 --kills 1 --upstream storm": {Seed: 1<<64 - 1, Kills: 1, Upstream: "storm"},
	} {
		if got := o.command(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
