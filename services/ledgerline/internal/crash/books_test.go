package crash

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/google/uuid"
)

// delivery is one item as the sink received it.
type delivery struct {
	JobID    uuid.UUID `json:"jobId"`
	EntryID  uuid.UUID `json:"accountingEntryId"`
	Position uint32    `json:"position"`
	Total    uint32    `json:"total"`
	Epoch    uint64    `json:"epoch"`
	Attempt  uint32    `json:"attempt"`
	status   int
}

// books is a sink that refuses stale epochs and knows an entry by its key, as
// docs/sinks.md asks. It outlives every kill, and its record is what is judged.
type books struct {
	// meet, if set, sees each item before it is booked; a status other than 0 is the
	// answer then, and nothing is booked.
	meet func(delivery) (status int)
	// away answers HEAD with 503.
	away func() bool

	mu       sync.Mutex
	received []delivery
	keys     map[string]bool
	epochs   map[uuid.UUID]uint64
}

func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		if b.away != nil && b.away() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	var d delivery
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if b.meet != nil {
		d.status = b.meet(d)
	}
	w.WriteHeader(b.book(r.Header.Get("Idempotency-Key"), d))
}

func (b *books) book(key string, d delivery) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		b.keys, b.epochs = map[string]bool{}, map[uuid.UUID]uint64{}
	}
	switch {
	case d.status != 0:
	case d.Epoch < b.epochs[d.JobID]:
		d.status = http.StatusPreconditionFailed
	case b.keys[key]:
		d.status = http.StatusConflict
	default:
		d.status = http.StatusCreated
		b.keys[key] = true
	}
	b.epochs[d.JobID] = max(b.epochs[d.JobID], d.Epoch)
	b.received = append(b.received, d)
	return d.status
}

func (b *books) of(job uuid.UUID) (received []delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.received {
		if d.JobID == job {
			received = append(received, d)
		}
	}
	return received
}
