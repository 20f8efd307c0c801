package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// maxRequestBytes bounds one item: a simulated one has about 2 KB.
const maxRequestBytes = 1 << 20

// booking is one item as the local accounting system received it.
type booking struct {
	JobID    uuid.UUID  `json:"jobId"`
	EntryID  uuid.UUID  `json:"accountingEntryId"`
	Position uint32     `json:"position"`
	Total    uint32     `json:"total"`
	Epoch    uint64     `json:"epoch"`
	Attempt  uint32     `json:"attempt"`
	Date     *time.Time `json:"date"`
	// Repeated is true when the idempotency key was booked before: answered 409,
	// not booked again.
	Repeated bool `json:"repeated"`
}

// books is a small accounting system behind HTTP, as docs for sink authors ask:
// it refuses stale epochs and knows an entry by its idempotency key. Its record is
// what the run is judged by.
type books struct {
	mu       sync.Mutex
	file     *os.File
	out      *bufio.Writer
	received []booking
	keys     map[string]string // idempotency key to external id
	epochs   map[uuid.UUID]uint64
}

func openBooks(path string) (*books, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the sink's record: %w", err)
	}
	return &books{file: file, out: bufio.NewWriter(file), keys: map[string]string{}, epochs: map[uuid.UUID]uint64{}}, nil
}

func (b *books) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.out.Flush(), b.file.Close())
}

// run serves until ctx ends.
func (b *books) run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: b, ReadHeaderTimeout: stopTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the sink: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(limit)
	<-served //nolint:errcheck // says no more than that it was closed
	return err
}

// ServeHTTP books one item.
func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	var item booking
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes)).Decode(&item); err != nil {
		http.Error(w, "unreadable: "+err.Error(), http.StatusBadRequest)
		return
	}
	status, external, err := b.book(r.Header.Get("Idempotency-Key"), item)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if external != "" {
		_, _ = fmt.Fprintf(w, `{"externalId":%q}`, external) // the asker may have gone
	}
}

func (b *books) book(key string, item booking) (status int, external string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if item.Epoch < b.epochs[item.JobID] {
		return http.StatusPreconditionFailed, "", nil
	}
	b.epochs[item.JobID] = item.Epoch
	external, item.Repeated = b.keys[key]
	if !item.Repeated {
		external = "DEMO-" + strconv.Itoa(len(b.keys)+1)
		b.keys[key] = external
	}
	b.received = append(b.received, item)
	if err := json.NewEncoder(b.out).Encode(item); err != nil {
		return 0, "", fmt.Errorf("write the record: %w", err)
	}
	if item.Repeated {
		return http.StatusConflict, external, nil
	}
	return http.StatusCreated, external, nil
}

// count is how many items were received.
func (b *books) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.keys)
}
