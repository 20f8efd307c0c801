package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/uuid"
)

const (
	// maxRequestBytes bounds one item: a simulated one has about 2 KB.
	maxRequestBytes = 1 << 20
	// failsEvery and busyEvery: of so many deliveries one is refused for good, one
	// is asked to come again.
	failsEvery, busyEvery = 97, 53
)

// books is the accounting system: it counts what it books of each job, refuses
// some items and is busy now and then. It forgets a job when that was judged, so
// that it does not grow itself.
type books struct {
	mu        sync.Mutex
	delivered int
	jobs      map[uuid.UUID]*bookings
}

// bookings are what a job's deliveries came to.
type bookings struct {
	booked, failed, doubled, disordered int
	last                                uint32
	entries                             map[uuid.UUID]struct{}
}

func newBooks() *books { return &books{jobs: map[uuid.UUID]*bookings{}} }

func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	var item struct {
		JobID    uuid.UUID `json:"jobId"`
		EntryID  uuid.UUID `json:"accountingEntryId"`
		Position uint32    `json:"position"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes)).Decode(&item); err != nil {
		http.Error(w, "unreadable: "+err.Error(), http.StatusInternalServerError)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delivered++
	if b.delivered%busyEvery == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	job := b.jobs[item.JobID]
	if job == nil {
		job = &bookings{entries: map[uuid.UUID]struct{}{}}
		b.jobs[item.JobID] = job
	}
	if item.Position <= job.last {
		job.disordered++
	}
	job.last = item.Position
	if _, known := job.entries[item.EntryID]; known {
		job.doubled++
	}
	job.entries[item.EntryID] = struct{}{}
	w.Header().Set("Content-Type", "application/json")
	if b.delivered%failsEvery == 0 {
		job.failed++
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"failureReason":"the vendor is blocked","failureReasonType":"vendor_unknown"}`)
		return
	}
	job.booked++
	fmt.Fprintf(w, `{"externalId":"S-%d"}`, b.delivered)
}

// take gives what is known of a job, and forgets it.
func (b *books) take(job uuid.UUID) bookings {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.jobs[job]
	delete(b.jobs, job)
	if known == nil {
		return bookings{}
	}
	return *known
}
