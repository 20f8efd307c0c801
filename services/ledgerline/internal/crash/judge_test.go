package crash

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// judge compares what the sink received with what Pleo shows in the end, and knows
// nothing else. status is how each job must end at Pleo.
func judge(snapshot simulator.Snapshot, sink *books, status string) (problems []string) {
	problems = snapshot.Problems()
	for _, job := range snapshot.Jobs {
		for _, p := range judgeJob(job, sink.of(job.ID), status) {
			problems = append(problems, fmt.Sprintf("job %s: %s", job.ID, p))
		}
	}
	return problems
}

func judgeJob(job simulator.JobSnapshot, received []delivery, status string) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if job.Status != status {
		problem("is %s at Pleo, must be %s (%s)", job.Status, status, job.FailureReason)
	}
	// In order, each once; at a takeover the one in doubt again, with a higher epoch
	// and attempt.
	var last delivery
	for _, d := range received {
		switch {
		case d.status == http.StatusPreconditionFailed:
			continue
		case last.JobID == uuid.Nil || d.Position > last.Position:
		case d.Position == last.Position && d.EntryID == last.EntryID && d.Epoch > last.Epoch && d.Attempt > last.Attempt:
		case d.Position == 1 && d.Epoch > last.Epoch && d.status == http.StatusCreated:
			// A further run of the same job, for items that appeared late.
		default:
			problem("position %d (epoch %d, attempt %d) came after position %d (epoch %d, attempt %d)",
				d.Position, d.Epoch, d.Attempt, last.Position, last.Epoch, last.Attempt)
		}
		if d.Epoch < last.Epoch {
			problem("epoch %d was taken after epoch %d", d.Epoch, last.Epoch)
		}
		last = d
	}
	booked := map[uuid.UUID]int{}
	for _, d := range received {
		if d.status == http.StatusCreated {
			booked[d.EntryID]++
		}
	}
	for _, item := range job.Items {
		n := booked[item.AccountingEntryID]
		delete(booked, item.AccountingEntryID)
		switch {
		case n > 1:
			problem("entry %s was booked %d times", item.AccountingEntryID, n)
		case status == simulator.JobCompleted && (n != 1 || item.Status != simulator.ItemSuccessful):
			problem("entry %s was booked %d times and is %s at Pleo", item.AccountingEntryID, n, item.Status)
		case n == 0 && item.Status == simulator.ItemSuccessful:
			problem("entry %s is successful at Pleo and was never booked", item.AccountingEntryID)
		}
	}
	for id := range booked {
		problem("entry %s was booked and is not the job's", id)
	}
	events := map[string]int{}
	for _, e := range job.Events {
		events[e.Event]++
	}
	for event, n := range events {
		if n > 1 {
			problem("%q was accepted %d times", event, n)
		}
	}
	if status == simulator.JobCompleted && (events[simulator.EventCompleted] != 1 || job.OpenAtClose != 0) {
		problem("was closed with %d open items; events %v", job.OpenAtClose, events)
	}
	return problems
}

// The judge sees each thing that it is there to see.
func TestJudgeSees(t *testing.T) {
	t.Parallel()
	id, entries := uuid.New(), []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	received := func(change func([]delivery) []delivery) (all []delivery) {
		for i, entry := range entries {
			all = append(all, delivery{JobID: id, EntryID: entry, Position: uint32(i + 1), Epoch: 1, Attempt: 1, status: http.StatusCreated})
		}
		return change(all)
	}
	same := func(d []delivery) []delivery { return d }
	again := func(d delivery, epoch uint64, attempt uint32) delivery {
		d.Epoch, d.Attempt, d.status = epoch, attempt, http.StatusConflict
		return d
	}
	for name, c := range map[string]struct {
		received []delivery
		job      func(*simulator.JobSnapshot)
		good     bool
	}{
		"good": {received: received(same), good: true},
		"the item in doubt again": {good: true, received: received(func(d []delivery) []delivery {
			last := d[2]
			last.Epoch = 2
			return []delivery{d[0], d[1], again(d[1], 2, 2), last}
		})},
		"again in the same epoch": {received: received(func(d []delivery) []delivery { return []delivery{d[0], d[1], again(d[1], 1, 2), d[2]} })},
		"again as the same attempt": {received: received(func(d []delivery) []delivery {
			last := d[2]
			last.Epoch = 2
			return []delivery{d[0], d[1], again(d[1], 2, 1), last}
		})},
		"an earlier item again": {received: received(func(d []delivery) []delivery { return append(d, again(d[1], 2, 2)) })},
		"booked twice":          {received: received(func(d []delivery) []delivery { return append(d, d[2]) })},
		"lost":                  {received: received(func(d []delivery) []delivery { return d[:2] })},
		"out of order":          {received: received(func(d []delivery) []delivery { return []delivery{d[0], d[2], d[1]} })},
		"not the job's":         {received: received(func(d []delivery) []delivery { d[2].EntryID = uuid.New(); return d })},
		"an older epoch":        {received: received(func(d []delivery) []delivery { d[1].Epoch = 3; return d })},
		"not reported":          {received: received(same), job: func(j *simulator.JobSnapshot) { j.Items[0].Status = simulator.ItemPending }},
		"not closed":            {received: received(same), job: func(j *simulator.JobSnapshot) { j.Status = simulator.JobInProgress }},
		"closed early":          {received: received(same), job: func(j *simulator.JobSnapshot) { j.OpenAtClose = 1 }},
		"closed twice":          {received: received(same), job: func(j *simulator.JobSnapshot) { j.Events = append(j.Events, j.Events[0]) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := simulator.JobSnapshot{ID: id, Status: simulator.JobCompleted, Events: []simulator.JobEvent{{Event: simulator.EventCompleted}}}
			for _, entry := range entries {
				job.Items = append(job.Items, simulator.ItemSnapshot{AccountingEntryID: entry, Status: simulator.ItemSuccessful})
			}
			if c.job != nil {
				c.job(&job)
			}
			if problems := judgeJob(job, c.received, simulator.JobCompleted); (len(problems) == 0) != c.good {
				t.Errorf("problems: %q", problems)
			}
		})
	}
}
