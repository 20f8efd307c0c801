//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// What the sink does of itself, in parts of a thousand of an entry's hash.
const (
	failShare = 30 // fails for good, in one job
	busyShare = 20 // busy at the first attempt
)

const (
	// leastWork and mostWork are how long the sink takes for an item: some
	// seconds a job, so that every fault meets jobs in the middle.
	leastWork = 10 * time.Millisecond
	mostWork  = 110 * time.Millisecond
	// sinkHeader bounds the wait for a request's header; a troubled link is slow.
	sinkHeader = time.Minute
	// sinkEnd bounds the end of the sink.
	sinkEnd = 5 * time.Second
)

// outcome is what the sink answered.
type outcome string

const (
	booked outcome = "booked" // for the first time
	known  outcome = "known"  // booked before: 409
	failed outcome = "failed" // 422
	busy   outcome = "busy"   // 503
	stale  outcome = "stale"  // 412: refused by its epoch
)

// settles tells whether the sink's answer ended the item's sending, as far as the
// sink can know.
func (o outcome) settles() bool { return o == booked || o == known || o == failed }

// delivery is one request as the sink saw it, in the order of its decisions.
type delivery struct {
	Number     int        `json:"number"`
	Arrived    time.Time  `json:"arrived"`
	Decided    time.Time  `json:"decided"`
	Via        string     `json:"via"` // the process that sent it
	Company    string     `json:"company"`
	Job        string     `json:"job"`
	Entry      string     `json:"entry"`
	Position   uint32     `json:"position"`
	Total      uint32     `json:"total"`
	Epoch      uint64     `json:"epoch"`
	Attempt    uint32     `json:"attempt"`
	Date       *time.Time `json:"date"`
	Outcome    outcome    `json:"outcome"`
	ExternalID string     `json:"externalId,omitempty"`
}

type sinkOptions struct {
	Listen string `required:""`
	Record string `required:""`
}

// books is a sink as docs/sinks.md asks for: it refuses a stale epoch, also where
// the higher one came while the item was worked on, and it knows an entry by its
// key. Whether it had to, the judge sees in its record.
type books struct {
	mu       sync.Mutex
	epochs   map[string]uint64 // by job
	external map[string]string // by key
	number   int
	out      *bufio.Writer
}

// Run serves until a signal comes.
func (o *sinkOptions) Run(s *session) error {
	file, err := os.Create(o.Record)
	if err != nil {
		return fmt.Errorf("make the record: %w", err)
	}
	b := &books{epochs: map[string]uint64{}, external: map[string]string{}, out: bufio.NewWriter(file)}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: b, ReadHeaderTimeout: sinkHeader}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-s.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(s), sinkEnd)
	defer cancel()
	err = server.Shutdown(ending)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // connections that a troubled link never ended
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(err, b.out.Flush(), file.Close())
}

func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	d := delivery{Arrived: time.Now(), Via: strings.Trim(r.URL.Path, "/")}
	body, err := io.ReadAll(r.Body)
	var said struct {
		CompanyID         string     `json:"companyId"`
		JobID             string     `json:"jobId"`
		AccountingEntryID string     `json:"accountingEntryId"`
		Position          uint32     `json:"position"`
		Total             uint32     `json:"total"`
		Epoch             uint64     `json:"epoch"`
		Attempt           uint32     `json:"attempt"`
		Date              *time.Time `json:"date"`
	}
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil {
		// A link cut it off: nothing arrived that could be booked.
		http.Error(w, err.Error(), http.StatusRequestTimeout)
		return
	}
	d.Company, d.Job, d.Entry, d.Date = said.CompanyID, said.JobID, said.AccountingEntryID, said.Date
	d.Position, d.Total, d.Epoch, d.Attempt = said.Position, said.Total, said.Epoch, said.Attempt
	if ok := b.arrive(&d); ok {
		dice := roll(d.Entry, d.Job, "work")
		lasting(context.WithoutCancel(r.Context()), leastWork+time.Duration(dice)*(mostWork-leastWork)/dies)
		b.decide(&d)
	}
	if err := b.keep(&d); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, d)
}

// arrive is the fence at the door.
func (b *books) arrive(d *delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.Epoch < b.epochs[d.Job] {
		d.Outcome = stale
		d.number(b)
		return false
	}
	b.epochs[d.Job] = d.Epoch
	return true
}

// decide books, or not. It and the fence are one step.
func (b *books) decide(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := d.Company + ":" + d.Entry
	external, have := b.external[key]
	switch {
	case d.Epoch < b.epochs[d.Job]:
		d.Outcome = stale
	case have:
		d.Outcome, d.ExternalID = known, external
	case d.Attempt == 1 && roll(d.Entry, d.Job, "busy") < busyShare:
		d.Outcome = busy
	case roll(d.Entry, d.Job, "fail") < failShare:
		d.Outcome = failed
	default:
		d.Outcome, d.ExternalID = booked, fmt.Sprintf("B-%d", len(b.external)+1)
		b.external[key] = d.ExternalID
	}
	d.number(b)
}

func (d *delivery) number(b *books) {
	b.number++
	d.Number, d.Decided = b.number, time.Now()
}

func (b *books) keep(d *delivery) error {
	line, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a delivery: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err = b.out.Write(append(line, '\n'))
	return err
}

// dies is the number of faces of a roll.
const dies = 1_000

// roll is a die that always falls the same way for the same words.
func roll(words ...string) int {
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	return int(binary.BigEndian.Uint32(sum[:]) % dies)
}

func answer(w http.ResponseWriter, d delivery) {
	status := map[outcome]int{
		booked: http.StatusCreated, known: http.StatusConflict, failed: http.StatusUnprocessableEntity,
		busy: http.StatusServiceUnavailable, stale: http.StatusPreconditionFailed,
	}[d.Outcome]
	body := map[string]string{}
	if d.ExternalID != "" {
		body["externalId"] = d.ExternalID
	}
	if d.Outcome == failed {
		body["failureReason"], body["failureReasonType"] = "made to fail", "tag_unknown"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A worker that is gone misses its answer: that is what the run is about.
	_ = json.NewEncoder(w).Encode(body)
}

// readRecord reads what a sink process wrote.
func readRecord(path string) ([]delivery, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the sink's record: %w", err)
	}
	defer func() { _ = file.Close() }()
	var deliveries []delivery
	decoder := json.NewDecoder(bufio.NewReader(file))
	for {
		var d delivery
		err := decoder.Decode(&d)
		if errors.Is(err, io.EOF) {
			return deliveries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the sink's record: %w", err)
		}
		deliveries = append(deliveries, d)
	}
}
