//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// companies and openJobs make that many jobs run at a time, and others wait
	// for their company's turn.
	companies = 12
	openJobs  = 3
	// handedShare of the companies, one in so many, have their jobs started elsewhere
	// and handed to the fetchers at once: only there several jobs of a company are
	// here at a time. A job may be older than those that came before it, by at most
	// mostOlder.
	handedShare = 3
	mostOlder   = time.Minute
	// leastItems and mostItems make a job of some seconds.
	leastItems = 10
	mostItems  = 70
	// againShare of a job's entries, in a hundred, stood in an earlier job of the
	// company: booked there, they are not to be sent.
	againShare = 10
	// remembered bounds the entries of a company from which those are taken.
	remembered = 200
	// workRecheck is how often the jobs are looked at.
	workRecheck = 500 * time.Millisecond
	// standstill is how long nothing may happen at the end before the run is given
	// up: above the longest wait of the engine's (30 s, twice), and the time in
	// which a lost manifest is offered again.
	standstill = 4 * time.Minute
	// finishLimit bounds the end of a run.
	finishLimit = 15 * time.Minute
	// maxListed bounds the jobs that a failure names.
	maxListed = 8
	// controlLimit bounds one call to the simulated Pleo.
	controlLimit = 20 * time.Second
)

// control is the simulated Pleo's control plane.
type control struct {
	url    string
	client *http.Client
}

func newControl(url string) *control {
	return &control{url: url + "/_simulator/", client: &http.Client{Timeout: controlLimit}}
}

func (c *control) call(ctx context.Context, method, path string, body, into any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		sent = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return fmt.Errorf("ask the simulated Pleo for %s: %w", path, err)
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the simulated Pleo for %s: %w", path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	read, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(read))
	}
	if err == nil && into != nil {
		err = json.Unmarshal(read, into)
	}
	if err != nil {
		return fmt.Errorf("ask the simulated Pleo for %s: %w", path, err)
	}
	return nil
}

func (c *control) ping(ctx context.Context) error { return c.call(ctx, http.MethodGet, "", nil, nil) }

// pleoState is the simulated Pleo's final state.
type pleoState struct {
	simulator.Snapshot
	Problems []string `json:"problems"`
}

func (b *bed) snapshot(ctx context.Context) (*pleoState, error) {
	state := new(pleoState)
	return state, b.control.call(ctx, http.MethodGet, "snapshot", nil, state)
}

// work keeps the companies in jobs.
type work struct {
	b      *bed
	random *rand.Rand
	// entries are some that a company's jobs had.
	entries map[uuid.UUID][]uuid.UUID
	open    map[uuid.UUID]*simulator.JobSnapshot // by job
	jobs    int
	// unhanded are jobs whose events are not known to be published.
	js       jetstream.JetStream
	unhanded []simulator.JobSpec
	handed   map[uuid.UUID]bool // companies
}

func newWork(b *bed, seed uint64, js jetstream.JetStream) *work {
	return &work{
		b: b, random: rand.New(rand.NewPCG(seed, workStream)), js: js, handed: map[uuid.UUID]bool{},
		entries: map[uuid.UUID][]uuid.UUID{}, open: map[uuid.UUID]*simulator.JobSnapshot{},
	}
}

func (w *work) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(w.random.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return id
}

// feed adds jobs as others end, until ctx ends.
func (w *work) feed(ctx context.Context) error {
	owners := make([]uuid.UUID, companies)
	for i := range owners {
		owners[i] = w.id()
	}
	for {
		held := map[uuid.UUID]int{}
		for _, j := range w.open {
			held[j.CompanyID]++
		}
		for n, company := range owners {
			for range openJobs - held[company] {
				if err := w.add(ctx, company, n%handedShare == 0); err != nil {
					if ctx.Err() != nil {
						return nil //nolint:nilerr // the run is over
					}
					return err
				}
			}
		}
		if !lasting(ctx, workRecheck) {
			return nil
		}
		if _, err := w.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// add adds a job to a company, for a gateway to find or to be handed to a fetcher.
func (w *work) add(ctx context.Context, company uuid.UUID, handed bool) error {
	spec := simulator.JobSpec{ID: w.id(), CompanyID: company}
	if handed {
		w.handed[company] = true
		spec.Status, spec.Quiet = simulator.JobInProgress, true
		spec.CreatedAt = time.Now().Add(-time.Duration(w.random.Int64N(int64(mostOlder))))
	}
	taken := map[uuid.UUID]bool{}
	for range leastItems + w.random.IntN(mostItems-leastItems) {
		entry := w.id()
		if earlier := w.entries[company]; len(earlier) > 0 && w.random.IntN(100) < againShare {
			entry = earlier[w.random.IntN(len(earlier))]
		}
		if !taken[entry] {
			taken[entry] = true
			spec.Entries = append(spec.Entries, simulator.EntrySpec{ID: entry})
		}
	}
	for _, e := range spec.Entries {
		w.entries[company] = append(w.entries[company], e.ID)
	}
	if n := len(w.entries[company]); n > remembered {
		w.entries[company] = slices.Clone(w.entries[company][n-remembered:])
	}
	// Known before it is added: an answer that is lost leaves it there.
	w.open[spec.ID] = &simulator.JobSnapshot{ID: spec.ID, CompanyID: company, Status: simulator.JobPending}
	if err := w.b.control.call(ctx, http.MethodPost, "jobs", spec, nil); err != nil {
		if ctx.Err() != nil {
			delete(w.open, spec.ID) // it may be there all the same: the snapshot tells
		}
		return err
	}
	w.jobs++
	if handed {
		w.unhanded = append(w.unhanded, spec)
	}
	return nil
}

// hand publishes the events of the jobs that no gateway starts. What no server
// stores now comes again with the next look; an event that comes twice is known.
func (w *work) hand(ctx context.Context) {
	for len(w.unhanded) > 0 {
		job := w.unhanded[0]
		if _, err := steer.Publish(ctx, w.js, job.ID, job.CompanyID.String()); err != nil {
			return
		}
		w.unhanded = w.unhanded[1:]
	}
}

// look asks for every open job and tells whether anything has changed.
func (w *work) look(ctx context.Context) (changed bool, err error) {
	w.hand(ctx)
	for id, was := range w.open {
		now := new(simulator.JobSnapshot)
		if err := w.b.control.call(ctx, http.MethodGet, "jobs/"+id.String(), nil, now); err != nil {
			return changed, err
		}
		changed = changed || now.Status != was.Status || pending(now) != pending(was)
		w.open[id] = now
		if !now.CompletedAt.IsZero() || !now.ExpiredAt.IsZero() {
			delete(w.open, id)
		}
	}
	return changed, nil
}

// pending are the items of a job without a final state.
func pending(j *simulator.JobSnapshot) (n int) {
	for _, item := range j.Items {
		if item.Status == simulator.ItemPending || item.Status == simulator.ItemInProgress {
			n++
		}
	}
	return n
}

// finish waits until every job has ended.
func (w *work) finish(ctx context.Context, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, finishLimit)
	defer cancel()
	// A job whose addition was cut off by the end of the faults.
	state, err := w.b.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, j := range state.Jobs {
		if j.CompletedAt.IsZero() && j.ExpiredAt.IsZero() {
			w.open[j.ID] = &j
			if w.handed[j.CompanyID] { // whose event may never have been published
				w.unhanded = append(w.unhanded, simulator.JobSpec{ID: j.ID, CompanyID: j.CompanyID})
			}
		}
	}
	since, told := time.Now(), time.Now()
	for len(w.open) > 0 {
		if time.Since(told) > tellEvery {
			told = time.Now()
			say("%d jobs are open", len(w.open))
		}
		changed, err := w.look(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case changed:
			since = time.Now()
		case time.Since(since) > standstill:
			return w.waiting(fmt.Sprintf("nothing has happened for %s", standstill))
		}
		if !lasting(ctx, workRecheck) {
			return w.waiting("the end was not reached in " + finishLimit.String())
		}
	}
	return nil
}

// waiting tells which jobs wait and why, as Pleo has them and as we do.
func (w *work) waiting(why string) error {
	ctx, cancel := context.WithTimeout(context.Background(), controlLimit)
	defer cancel()
	var text strings.Builder
	fmt.Fprintf(&text, "%s and %d jobs are open:", why, len(w.open))
	listed := 0
	for id, j := range w.open {
		if listed++; listed > maxListed {
			text.WriteString("\n  …")
			break
		}
		fmt.Fprintf(&text, "\n  job %s of company %s is %s at Pleo with %d of %d items open", id, j.CompanyID, j.Status, pending(j), len(j.Items))
	}
	for _, command := range [][]string{{"jobs", "--output", "json"}, {"parked", "--output", "json"}, {"lag"}} {
		fmt.Fprintf(&text, "\nledgerline %s:\n%s", strings.Join(command, " "), w.b.told(ctx, command, w.open))
	}
	return fmt.Errorf("jobs are lost or stuck: %s", text.String())
}

// told is what an operator's command says of the open jobs.
func (b *bed) told(ctx context.Context, command []string, open map[uuid.UUID]*simulator.JobSnapshot) string {
	cmd := exec.CommandContext(ctx, filepath.Join(b.o.Programs, "ledgerline"), command...)
	cmd.Env = []string{"NATS_URL=" + b.addresses()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", out, err)
	}
	var entries []json.RawMessage
	if json.Unmarshal(out, &entries) != nil {
		return string(out)
	}
	var kept []string
	for _, e := range entries {
		var of struct {
			JobID string `json:"jobId"`
		}
		if json.Unmarshal(e, &of) != nil {
			continue
		}
		if id, err := uuid.Parse(of.JobID); err == nil && open[id] != nil && len(kept) < maxListed {
			kept = append(kept, "  "+string(bytes.Join(bytes.Fields(e), []byte(" "))))
		}
	}
	return strings.Join(kept, "\n")
}
