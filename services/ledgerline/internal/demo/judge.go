package demo

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// report is what the two ends recorded.
type report struct {
	Jobs      int           `json:"jobs"`
	Completed int           `json:"completed"`
	Webhooks  int           `json:"webhooks"`
	Items     int           `json:"items"`
	Pages     int64         `json:"pages"`
	Requests  int64         `json:"requests"`
	Retried   int64         `json:"retriedRequests"`
	SentAgain int           `json:"itemsSentAgain"`
	Takeovers int           `json:"takeovers"`
	Took      time.Duration `json:"tookNanoseconds"`
	PerSecond float64       `json:"itemsPerSecond"`
	Faults    int64         `json:"faultsShown"`
	Problems  []string      `json:"problems"`
}

// judge compares the simulated Pleo's final state with the sink's own record.
func (st *stage) judge() report {
	r := report{Jobs: st.command.Jobs, Took: st.took, Problems: []string{}}
	snapshot := st.upstream.Snapshot()
	byJob := map[uuid.UUID][]booking{}
	st.books.mu.Lock()
	for _, b := range st.books.received {
		byJob[b.JobID] = append(byJob[b.JobID], b)
		r.Items++
		if b.Repeated || b.Attempt > 1 {
			r.SentAgain++
		}
		if b.Repeated {
			r.Items--
		}
	}
	for _, epoch := range st.books.epochs {
		r.Takeovers += int(epoch) - 1
	}
	st.books.mu.Unlock()
	for _, job := range snapshot.Jobs {
		r.judgeJob(job, byJob[job.ID])
	}
	r.Problems = append(r.Problems, snapshot.Problems()...)
	for _, d := range st.upstream.WebhookDeliveries() {
		if d.Code/100 == 2 {
			r.Webhooks++
		}
	}
	counters := st.upstream.Counters()
	for operation, codes := range counters.Requests {
		for code, n := range codes {
			r.Requests += n
			switch {
			case code < 200 || code >= 429:
				r.Retried += n
			case code == 200 && (operation == simulator.OpListItems || operation == simulator.OpListExportItems):
				r.Pages += n
			}
		}
	}
	for _, n := range counters.Faults {
		r.Faults += n
	}
	r.PerSecond = float64(r.Items) / st.took.Seconds()
	return r
}

func (r *report) judgeJob(job simulator.JobSnapshot, received []booking) {
	problem := func(format string, args ...any) {
		r.Problems = append(r.Problems, fmt.Sprintf("job %s: ", job.ID)+fmt.Sprintf(format, args...))
	}
	if job.Status == "completed" {
		r.Completed++
	} else {
		problem("is %s at Pleo, not completed (%s)", job.Status, job.FailureReason)
	}
	if job.OpenAtClose > 0 {
		problem("was closed with %d open items", job.OpenAtClose)
	}
	booked := map[uuid.UUID]int{}
	var last booking
	for _, b := range received {
		if b.Repeated {
			continue
		}
		booked[b.EntryID]++
		if b.Position <= last.Position {
			problem("position %d came after position %d", b.Position, last.Position)
		}
		if outOfOrder(last, b) {
			problem("entry %s came before entry %s, its date is later", last.EntryID, b.EntryID)
		}
		last = b
	}
	for _, item := range job.Items {
		if n := booked[item.AccountingEntryID]; n != 1 {
			problem("entry %s was booked %d times", item.AccountingEntryID, n)
		}
		if item.Status != "successful" {
			problem("entry %s is %s at Pleo", item.AccountingEntryID, item.Status)
		}
		delete(booked, item.AccountingEntryID)
	}
	for id := range booked {
		problem("entry %s was booked and is not the job's", id)
	}
}

// outOfOrder compares two bookings by date, then entry id; without a date an
// entry comes last.
func outOfOrder(a, b booking) bool {
	switch {
	case a.Position == 0:
		return false
	case a.Date == nil && b.Date == nil:
	case a.Date == nil || b.Date == nil:
		return a.Date == nil
	case !a.Date.Equal(*b.Date):
		return a.Date.After(*b.Date)
	}
	return bytes.Compare(a.EntryID[:], b.EntryID[:]) > 0
}

// tick is how far the run is.
type tick struct {
	started, booked, ended int
}

func (st *stage) tick() tick {
	t := tick{booked: st.books.count()}
	for _, job := range st.upstream.Snapshot().Jobs {
		switch {
		case slices.Contains([]string{"completed", "completed_with_errors", "failed"}, job.Status):
			t.ended++
			t.started++
		case job.Status == "in_progress":
			t.started++
		}
	}
	return t
}
