package natsauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const pageToken = "a token of twenty-odd bytes"

// deliveries is a sink that keeps each item in hand until it is let go, or until
// it is open.
type deliveries struct {
	of    chan uuid.UUID // the job of an item that is in hand now
	letGo chan struct{}
	open  chan struct{}
}

func (d *deliveries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost { // "are you ready?"
		return
	}
	job, err := uuid.Parse(r.Header.Get("Ledgerline-Job-Id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Only then does the server notice that who asked has gone.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	select {
	case d.of <- job:
		select {
		case <-d.letGo:
		case <-r.Context().Done():
			return
		}
	case <-d.open:
	case <-r.Context().Done():
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// browser asks the status page of a consumer.
type browser struct{ address string }

// ask is status and text of an answer; with a token as one who may steer.
func (b browser) ask(ctx context.Context, method, path, token string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+b.address+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// shows waits until the page has a text.
func (b browser) shows(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	wait(ctx, t, fmt.Sprintf("the page to show %q", text), func() bool {
		status, page, err := b.ask(ctx, http.MethodGet, "/", pageToken)
		return err == nil && status == http.StatusOK && strings.Contains(page, text)
	})
}

// act presses a button and sees that it is taken.
func (b browser) act(ctx context.Context, t *testing.T, job uuid.UUID, action string) {
	t.Helper()
	status, text, err := b.ask(ctx, http.MethodPost, "/status/jobs/"+job.String()+"/"+action, pageToken)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s job %s on the page: %d %q %v", action, job, status, text, err)
	}
}

// The status page of a consumer reads and, with the token, steers with nothing but
// what the consumer's user may do on NATS.
func TestTheStatusPageWorksWithLeastPrivilege(t *testing.T) {
	t.Parallel()
	programs := built(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), testLimit, errors.New("the test took too long"))
	defer cancel()
	b := passwords(t)
	sink := &deliveries{of: make(chan uuid.UUID), letGo: make(chan struct{}), open: make(chan struct{})}
	accounting := httptest.NewServer(sink)
	t.Cleanup(accounting.Close)
	const items = 3
	sim, pleoURL := pleo(t, simulator.Config{Seed: 12, Companies: 2, Jobs: 2, ItemsPerJob: items, Control: true})
	logs := b.run(t, programs, pleoURL, "LEDGERLINE_SINK="+accounting.URL, "LEDGERLINE_POLL_INTERVAL=0",
		"LEDGERLINE_STATUS_PAGE=true", "LEDGERLINE_STATUS_TOKEN="+pageToken, "LEDGERLINE_CONCURRENT_JOBS=1",
		"LEDGERLINE_LEASE=30s", "LEDGERLINE_SINK_TIMEOUT="+testLimit.String())
	page := browser{logs["consumer"].address(ctx, t)}
	inHand := func() (job uuid.UUID) {
		t.Helper()
		select {
		case job = <-sink.of:
		case <-ctx.Done():
			t.Fatalf("wait for an item: %v", context.Cause(ctx))
		}
		return job
	}
	letGo := func() {
		t.Helper()
		select {
		case sink.letGo <- struct{}{}:
		case <-ctx.Done():
			t.Fatalf("wait for an item to let go: %v", context.Cause(ctx))
		}
	}
	status := func(id uuid.UUID, want string) func() bool {
		return func() bool {
			for _, job := range sim.Snapshot().Jobs {
				if job.ID == id {
					return job.Status == want
				}
			}
			return false
		}
	}

	// The one slot is taken by one job; nobody has claimed the other one.
	running := inHand()
	var waiting uuid.UUID
	for _, job := range sim.Snapshot().Jobs {
		if job.ID != running {
			waiting = job.ID
		}
	}
	for _, text := range []string{running.String(), waiting.String(), "0 of 3", "/status/jobs/" + running.String() + "/pause"} {
		page.shows(ctx, t, text)
	}
	if code, text, err := page.ask(ctx, http.MethodPost, "/status/jobs/"+running.String()+"/pause", ""); err != nil || code != http.StatusUnauthorized {
		t.Errorf("pause without the token: %d %q %v", code, text, err)
	}
	page.act(ctx, t, waiting, "cancel")
	wait(ctx, t, "the job that nobody has to be cancelled", status(waiting, simulator.JobFailed))
	page.act(ctx, t, running, "pause")
	letGo()
	page.shows(ctx, t, "/status/jobs/"+running.String()+"/resume")
	page.shows(ctx, t, "1 of 3")
	select {
	case job := <-sink.of:
		t.Errorf("an item of job %s is sent while it is paused", job)
	default:
	}
	page.act(ctx, t, running, "resume")
	if job := inHand(); job != running {
		t.Errorf("an item of job %s is sent, not of the one that was resumed", job)
	}
	letGo()
	close(sink.open)
	wait(ctx, t, "the job to be completed", status(running, simulator.JobCompleted))

	// A job that is unknown at Pleo is parked; once it is known there, it is retried.
	parked := uuid.New()
	start := exec.CommandContext(ctx, filepath.Join(programs, "ledgerline"), "start", parked.String())
	start.Env = b.environ("operator")
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("start job %s: %v\n%s", parked, err, out)
	}
	page.shows(ctx, t, "/status/jobs/"+parked.String()+"/retry")
	if _, err := sim.AddJob(simulator.JobSpec{ID: parked, Status: simulator.JobInProgress, Items: new(1), Quiet: true}); err != nil {
		t.Fatal(err)
	}
	page.act(ctx, t, parked, "retry")
	wait(ctx, t, "the retried job to be completed", status(parked, simulator.JobCompleted))
}

// address is where a program serves HTTP, as it logs it.
func (l *log) address(ctx context.Context, t *testing.T) (address string) {
	t.Helper()
	wait(ctx, t, "a program to serve HTTP", func() bool {
		lines := bufio.NewScanner(strings.NewReader(l.String()))
		for lines.Scan() {
			var event struct{ Message, Addr string }
			// The last line may be in the middle of being written.
			if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &event) == nil && event.Message == logevent.HTTPListening {
				address = event.Addr
			}
		}
		return address != ""
	})
	return address
}
