package sinktest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// habits are what box does badly. Without any it is a good sink.
type habits struct {
	headRefused      bool // answers HEAD by 503
	forgetsKeys      bool
	keyWithJob       bool // recognises an entry in its own job only
	racy             bool // looks a key up and books it in two steps
	noFence          bool
	oneFence         bool // one epoch for all jobs
	keepsStale       bool // remembers a 412 with the key
	booksHalf        bool // does not look whether the body is whole
	keyBeforeBody    bool // notes the key before it has read the body
	keepsFailures    bool // remembers a failure with the key
	crashesOnBad     bool // 500 for what it does not understand
	booksAnything    bool
	crashesOnNull    bool // 500 for a null item
	needsDate        bool // 422 without a date
	strict           bool // 400 for fields it does not know
	latinOnly        bool
	floats           bool // 500 for a number that no float holds
	sameID           bool // one externalId for all
	noID             bool
	oneAtATime       bool // 503 to a first attempt while it is at work
	forgetsDropped   bool // books, and forgets the key when the client has gone
	forgetsAtRestart bool
	forgetsEpochs    bool          // at a restart
	slow             time.Duration // at each request
	slowOnce         time.Duration // at the first one
}

// box is a sink with habits: what it keeps is its accounting system.
type box struct {
	habits habits
	busy   chan struct{} // holds one while a request is handled
	once   sync.Once

	mu       sync.Mutex
	bookings map[string]int    // number of bookings by idempotency key
	booked   map[string]string // externalId by key
	replies  map[string]int    // remembered refusals by key
	epochs   map[string]uint64
	number   int
	meeting  map[string]chan struct{} // racy: closed when a second request came
}

func newBox(h habits) *box {
	return &box{
		habits: h, busy: make(chan struct{}, 1),
		bookings: map[string]int{}, booked: map[string]string{}, replies: map[string]int{}, epochs: map[string]uint64{},
		meeting: map[string]chan struct{}{},
	}
}

// delivered is what box reads of a body.
type delivered struct {
	JobID             string          `json:"jobId"`
	CompanyID         string          `json:"companyId"`
	AccountingEntryID string          `json:"accountingEntryId"`
	Position          uint32          `json:"position"`
	Total             uint32          `json:"total"`
	Epoch             uint64          `json:"epoch"`
	Attempt           uint32          `json:"attempt"`
	Date              *time.Time      `json:"date"`
	Item              json.RawMessage `json:"item"`
}

func (b *box) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		if b.habits.headRefused {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	if b.habits.oneAtATime {
		select {
		case b.busy <- struct{}{}:
			defer func() { <-b.busy }()
			<-time.After(5 * time.Millisecond)
		default:
			if r.Header.Get("Ledgerline-Attempt") == "1" {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
	}
	if b.habits.slow > 0 {
		<-time.After(b.habits.slow)
	}
	if b.habits.slowOnce > 0 {
		b.once.Do(func() { <-time.After(b.habits.slowOnce) })
	}
	key := r.Header.Get("Idempotency-Key")
	if b.habits.keyBeforeBody {
		b.mu.Lock()
		_, known := b.booked[key]
		b.booked[key] = "JE-" + key
		b.bookings[key] = 1
		b.mu.Unlock()
		if known {
			reply(w, http.StatusConflict, "JE-"+key)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if b.habits.keyBeforeBody {
		if err == nil {
			reply(w, http.StatusCreated, "JE-"+key)
		}
		return
	}
	if err != nil && !b.habits.booksHalf {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status, id := b.decide(body, key, r.Header.Get("Ledgerline-Job-Id"), r.Header.Get("Ledgerline-Epoch"), err != nil)
	if b.habits.forgetsDropped {
		// What a transaction around the key alone does when the client goes away
		// while the booking is being made.
		select {
		case <-r.Context().Done():
			b.mu.Lock()
			delete(b.booked, key)
			b.mu.Unlock()
		case <-time.After(20 * time.Millisecond):
		}
	}
	reply(w, status, id)
}

func reply(w http.ResponseWriter, status int, externalID string) {
	w.WriteHeader(status)
	if externalID != "" {
		fmt.Fprintf(w, `{"externalId":%q}`, externalID)
	}
}

// decide is the whole sink. half tells that the body is not whole.
func (b *box) decide(body []byte, key, job, epochText string, half bool) (status int, externalID string) {
	var d delivered
	decoder := json.NewDecoder(bytes.NewReader(body))
	if b.habits.strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(&d); err != nil && !half {
		return http.StatusBadRequest, ""
	}
	epoch, err := strconv.ParseUint(epochText, 10, 64)
	if err != nil {
		return http.StatusBadRequest, ""
	}
	if b.habits.keyWithJob {
		key = job + key
	}
	if b.habits.oneFence {
		job = "every job"
	}
	if b.habits.racy {
		if id, known := b.lookUp(key); known {
			return http.StatusOK, id
		}
		b.meet(key)
		id, _ := b.book(key, true)
		return http.StatusCreated, id
	}
	b.mu.Lock()
	if status, kept := b.replies[key]; kept {
		b.mu.Unlock()
		return status, ""
	}
	if epoch < b.epochs[job] && !b.habits.noFence {
		if b.habits.keepsStale {
			b.replies[key] = http.StatusPreconditionFailed
		}
		b.mu.Unlock()
		return http.StatusPreconditionFailed, ""
	}
	b.epochs[job] = epoch
	b.mu.Unlock()
	if !half {
		if status := b.check(d); status != 0 {
			if b.habits.keepsFailures && status < http.StatusInternalServerError {
				b.mu.Lock()
				b.replies[key] = status
				b.mu.Unlock()
			}
			return status, ""
		}
	}
	id, again := b.book(key, b.habits.forgetsKeys)
	if again {
		return http.StatusConflict, id
	}
	return http.StatusCreated, id
}

// check is 0 for an item that can be booked.
func (b *box) check(d delivered) int {
	null := len(d.Item) == 0 || string(d.Item) == "null"
	switch {
	case b.habits.crashesOnNull && null:
		return http.StatusInternalServerError
	case b.habits.needsDate && d.Date == nil:
		return http.StatusUnprocessableEntity
	case null || b.habits.booksAnything:
		return 0
	}
	var item struct {
		ID     string          `json:"accountingEntryId"`
		Note   string          `json:"note"`
		Amount json.RawMessage `json:"amount"`
	}
	if json.Unmarshal(d.Item, &item) != nil || item.ID != d.AccountingEntryID || item.Amount == nil {
		if b.habits.crashesOnBad {
			return http.StatusInternalServerError
		}
		return http.StatusUnprocessableEntity
	}
	if b.habits.latinOnly && utf8.RuneCountInString(item.Note) != len(item.Note) {
		return http.StatusUnprocessableEntity
	}
	if b.habits.floats && strings.Contains(string(item.Amount), bigNumber) {
		return http.StatusInternalServerError
	}
	if b.habits.strict && strings.Contains(string(d.Item), "sinkTestField") {
		return http.StatusUnprocessableEntity
	}
	return 0
}

func (b *box) lookUp(key string) (externalID string, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	externalID, known = b.booked[key]
	return externalID, known
}

func (b *box) book(key string, blindly bool) (externalID string, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id, known := b.booked[key]; known && !blindly {
		return id, true
	}
	b.number++
	b.bookings[key]++
	b.booked[key] = "JE-" + strconv.Itoa(b.number)
	if b.habits.sameID {
		b.booked[key] = "JE-1"
	}
	if b.habits.noID {
		b.booked[key] = ""
	}
	return b.booked[key], false
}

// meet waits a moment for a second request for the key.
func (b *box) meet(key string) {
	b.mu.Lock()
	met, waits := b.meeting[key]
	if waits {
		delete(b.meeting, key)
		close(met)
		b.mu.Unlock()
		return
	}
	met = make(chan struct{})
	b.meeting[key] = met
	b.mu.Unlock()
	select {
	case <-met:
	case <-time.After(100 * time.Millisecond):
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.meeting[key] == met {
		delete(b.meeting, key)
	}
}

// restart is what is lost when the box's process ends.
func (b *box) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.habits.forgetsAtRestart {
		b.booked = map[string]string{}
	}
	if b.habits.forgetsEpochs {
		b.epochs = map[string]uint64{}
	}
}

func (b *box) count(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bookings[key]
}

// line answers one JSON line or message, as exec: and nats: sinks do.
func (b *box) line(body []byte) []byte {
	var d delivered
	if err := json.Unmarshal(body, &d); err != nil {
		return []byte(`{"outcome":"refused"}`)
	}
	status, id := b.decide(body, d.CompanyID+":"+d.AccountingEntryID, d.JobID, strconv.FormatUint(d.Epoch, 10), false)
	outcome := map[int]string{
		http.StatusCreated: "booked", http.StatusOK: "booked", http.StatusConflict: "booked",
		http.StatusPreconditionFailed: "stale", http.StatusUnprocessableEntity: "failed", http.StatusBadRequest: "failed",
	}[status]
	if outcome == "" {
		outcome = "retry"
	}
	return fmt.Appendf(nil, `{"outcome":%q,"externalId":%q}`, outcome, id)
}

// childFile names the file in which the exec: sink of these tests keeps its box.
const childFile = "SINKTEST_CHILD_FILE"

// kept is a box on disk.
type kept struct {
	Booked map[string]string
	Epochs map[string]uint64
	Number int
}

// answerLines is the exec: sink: one answer a line, kept before it is given. The
// file is shared by all children, under a lock.
func answerLines(path string) {
	lines := bufio.NewReader(os.Stdin)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		answer := locked(path, func(b *box) []byte { return b.line(text) })
		if _, err := os.Stdout.Write(append(answer, '\n')); err != nil {
			return
		}
	}
}

// locked lends the box in the file.
func locked(path string, use func(*box) []byte) []byte {
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return []byte(`{"outcome":"retry"}`)
	}
	defer unlock()
	b := newBox(habits{})
	if content, err := os.ReadFile(path); err == nil {
		var k kept
		if json.Unmarshal(content, &k) == nil {
			maps.Copy(b.booked, k.Booked)
			maps.Copy(b.epochs, k.Epochs)
			b.number = k.Number
		}
	}
	answer := use(b)
	content, err := json.Marshal(kept{b.booked, b.epochs, b.number})
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return []byte(`{"outcome":"retry"}`)
	}
	return answer
}

// results is a report's checks by name.
func results(t *testing.T, r *Report) map[string]Result {
	t.Helper()
	got := map[string]Result{}
	for _, c := range r.Checks {
		if c.Found == "" || c.Cost == "" || c.Asks == "" {
			t.Errorf("the check %s tells too little: %+v", c.Name, c)
		}
		got[c.Name] = c.Result
	}
	if len(got) != len(checks) {
		t.Errorf("%d checks, %d expected", len(got), len(checks))
	}
	return got
}
