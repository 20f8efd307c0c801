// A small sink for Ledgerline in Go, standard library only. It books each item once
// and refuses stale workers, also after a restart:
//
//	go run docs/sinks/go/main.go -listen 127.0.0.1:8088 -data bookings.jsonl
//	LEDGERLINE_SINK=http://127.0.0.1:8088/ ledgerline up
//
// The "accounting system" is the file: one line a booking. Replace book by a call to
// yours, and read docs/sinks.md for what that must keep.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// maxBody is above any export item; a larger body is no item.
const maxBody = 32 << 20

// line is one line of the file: a booking, or a job's epoch that has risen.
type line struct {
	Job   string `json:"job"`
	Epoch uint64 `json:"epoch"`

	Key        string          `json:"key,omitempty"` // a booking has one
	ExternalID string          `json:"externalId,omitempty"`
	At         time.Time       `json:"at,omitzero"`
	Item       json.RawMessage `json:"item,omitempty"` // as received: no number is rounded
}

// books remembers what was booked and which worker may book.
type books struct {
	mu     sync.Mutex
	file   *os.File
	size   int64             // of the lines that are whole
	booked map[string]string // externalId by idempotency key
	epoch  map[string]uint64 // the highest seen, by job
}

// openBooks reads the file of an earlier run. A last line that a crash cut short was
// never answered for, and is removed.
func openBooks(path string) (*books, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	b := &books{file: file, size: int64(len(content)), booked: map[string]string{}, epoch: map[string]uint64{}}
	for text := range bytes.Lines(content) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		b.remember(l)
	}
	return b, file.Truncate(b.size)
}

func (b *books) remember(l line) {
	b.epoch[l.Job] = max(b.epoch[l.Job], l.Epoch)
	if l.Key != "" {
		b.booked[l.Key] = l.ExternalID
	}
}

// write puts a line on disk before it is remembered, and before it is answered for.
// Half a line that could not be finished is overwritten by the next one.
func (b *books) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if _, err := b.file.WriteAt(text, b.size); err != nil {
		return errors.Join(err, b.file.Truncate(b.size))
	}
	if err := b.file.Sync(); err != nil {
		return errors.Join(err, b.file.Truncate(b.size))
	}
	b.size += int64(len(text))
	b.remember(l)
	return nil
}

var errStale = errors.New("a newer worker has this job")

// book books the item once. The lock makes one step of it: fence, look-up, booking
// and key. With a database it is one transaction.
func (b *books) book(job string, epoch uint64, key string, item json.RawMessage) (externalID string, again bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if epoch < b.epoch[job] {
		return "", false, errStale
	}
	if id, known := b.booked[key]; known {
		if epoch > b.epoch[job] {
			err = b.write(line{Job: job, Epoch: epoch})
		}
		return id, true, err
	}
	externalID = fmt.Sprintf("JE-%d", len(b.booked)+1)
	err = b.write(line{Job: job, Epoch: epoch, Key: key, ExternalID: externalID, At: time.Now().UTC(), Item: item})
	return externalID, false, err
}

// check is what this sink asks of an item. Without a payload (LEDGERLINE_PAYLOAD=none)
// it books the entry by its id.
func check(item json.RawMessage) (problem string) {
	if item == nil || string(item) == "null" {
		return ""
	}
	var fields struct {
		AccountingEntryID string          `json:"accountingEntryId"`
		Amount            json.RawMessage `json:"amount"`
	}
	if json.Unmarshal(item, &fields) != nil || fields.AccountingEntryID == "" || fields.Amount == nil {
		return "The entry has no id or no amount"
	}
	return ""
}

func (b *books) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodHead: // "are you ready?"
		return
	case http.MethodPost:
	default:
		answer(w, http.StatusMethodNotAllowed, nil)
		return
	}
	// A body that was cut off is an error here: nothing is booked.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answer(w, http.StatusServiceUnavailable, nil)
		return
	}
	var sent struct {
		Item json.RawMessage `json:"item"`
	}
	epoch, epochErr := strconv.ParseUint(r.Header.Get("Ledgerline-Epoch"), 10, 64)
	key, job := r.Header.Get("Idempotency-Key"), r.Header.Get("Ledgerline-Job-Id")
	if err := errors.Join(json.Unmarshal(body, &sent), epochErr); err != nil || key == "" || job == "" {
		answer(w, http.StatusBadRequest, map[string]string{"failureReason": "This is no delivery of Ledgerline"})
		return
	}
	if problem := check(sent.Item); problem != "" {
		answer(w, http.StatusUnprocessableEntity, map[string]string{"failureReason": problem, "failureReasonType": "validation_failure"})
		return
	}
	externalID, again, err := b.book(job, epoch, key, sent.Item)
	switch {
	case errors.Is(err, errStale):
		log.Printf("refused %s of job %s: epoch %d is stale", key, job, epoch)
		answer(w, http.StatusPreconditionFailed, nil)
	case err != nil: // the disk, or your system, is away: the same item comes again
		log.Print(err)
		answer(w, http.StatusServiceUnavailable, nil)
	case again:
		log.Printf("not booked again: %s of job %s", key, job)
		answer(w, http.StatusConflict, map[string]string{"externalId": externalID})
	default:
		answer(w, http.StatusCreated, map[string]string{"externalId": externalID})
	}
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if body == nil {
		return
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err) // nobody listens any more; the item comes again
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8088", "address to listen on")
	data := flag.String("data", "bookings.jsonl", "file with the bookings")
	flag.Parse()
	b, err := openBooks(*data)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}
