package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// processItems is the size of each job; the figure of the documents is 500.
var processItems = flag.Int("process.items", 40, "items of each of the 40 jobs in TestProcessesSideBySide")

const processCompanies = 40

// Two fetchers and three consumers as processes of their own on a NATS server of
// its own. One consumer is killed in the middle: its jobs go on elsewhere, at most
// the item in hand of each is sent again, and what the ledger proves is what the
// sink saw.
func TestProcessesSideBySide(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/ledgerline/ledgerline/services/fetcher/cmd/fetcher",
		"github.com/ledgerline/ledgerline/services/consumer/cmd/consumer",
		"github.com/ledgerline/ledgerline/services/gateway/cmd/gateway",
		"github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	natsURL := natsProcess(t, bin)
	sim, err := simulator.New(simulator.Config{Seed: 5, Companies: processCompanies})
	if err != nil {
		t.Fatal(err)
	}
	pleo := httptest.NewServer(sim.Handler())
	books := &httpBook{}
	sinkServer := httptest.NewServer(books)
	t.Cleanup(func() {
		sinkServer.Close()
		pleo.Close()
		sim.Close()
	})
	// The test's own view of the installation.
	in := &installation{t: t, upstream: sim}
	in.conn, err = nats.Connect(natsURL, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.conn.Close)
	if in.js, err = jetstream.New(in.conn); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(in.bounded("the streams were not created"), in.js, in.topology(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	environ := []string{
		"NATS_URL=" + natsURL, "LEDGERLINE_PLEO_URL=" + pleo.URL, "LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken,
		"LEDGERLINE_PLEO_RATE=0", "LEDGERLINE_START_JOBS=true", "LEDGERLINE_LISTEN=127.0.0.1:0",
		"LEDGERLINE_LEASE=" + testLease.String(), "LEDGERLINE_SINK=" + sinkServer.URL, "TMPDIR=" + scratch,
	}
	gateway := process(t, append(environ, "LEDGERLINE_POLL_INTERVAL=0"), filepath.Join(bin, "gateway"))
	fetchers := []*exec.Cmd{process(t, environ, filepath.Join(bin, "fetcher")), process(t, environ, filepath.Join(bin, "fetcher"))}
	var consumers []*exec.Cmd
	for range 3 {
		consumers = append(consumers, process(t, environ, filepath.Join(bin, "consumer")))
	}
	for program, of := range map[string]*exec.Cmd{"gateway": gateway, "fetcher": fetchers[0], "consumer": consumers[1]} {
		showsMetrics(in, program, of)
	}
	var jobs []uuid.UUID
	for n := range processCompanies {
		jobs = append(jobs, in.add(simulator.JobSpec{CompanyID: sim.Company(n), Items: processItems, Status: simulator.JobPending}))
	}
	in.publish(jobs...)
	books.wait(in, processCompanies**processItems/4)
	if err := consumers[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	in.completes(jobs...)

	workers := map[string]int{}
	book, err := ledger.Open(in.bounded("the ledger was not opened"), in.js)
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, job := range jobs {
		proof, err := book.Verify(in.bounded("the ledger was not read"), job)
		if err != nil {
			t.Fatal(err)
		}
		if !proof.OK() || proof.Booked != *processItems {
			t.Errorf("job %s: the ledger proves %+v", job, proof)
		}
		for _, e := range in.records(job) {
			if e.Record.GetClaim() != nil {
				workers[e.Record.GetWorker()]++
			}
		}
		again += books.inOrder(t, job, *processItems)
	}
	if len(workers) != 3 {
		t.Errorf("%d workers had jobs, want 3: %v", len(workers), workers)
	}
	// A payload file has no name from its first moment: a kill leaves none behind.
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	t.Logf("claims by worker: %v; %d items were sent again after the kill", workers, again)
}

// natsProcess runs a NATS server of its own and returns its URL.
func natsProcess(t *testing.T, bin string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, sync_interval: always }\n", addr, t.TempDir())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	process(t, nil, filepath.Join(bin, "nats-server"), "-c", config)
	return "nats://" + addr
}

// process runs a program until the test ends, and insists that it then ends well
// unless it was killed.
func process(t *testing.T, environ []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = environ
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It may have been killed; then there is nobody to tell.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !killed && filepath.Base(program) != "nats-server" {
			t.Errorf("%s ended badly: %v", program, err)
		}
		if text, readErr := os.ReadFile(log.Name()); t.Failed() && readErr == nil {
			t.Logf("%s wrote:\n%s", program, text)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return cmd
}

// showsMetrics insists on the standard metrics and on our own under the address that
// the process logged.
func showsMetrics(in *installation, program string, of *exec.Cmd) {
	in.t.Helper()
	ctx := in.bounded("")
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		text, err := os.ReadFile(of.Stdout.(*os.File).Name())
		if err != nil {
			in.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var event struct{ Message, Addr string }
			if json.Unmarshal(line, &event) != nil || event.Message != logevent.HTTPListening {
				continue
			}
			page := get(in, "http://"+event.Addr+"/metrics")
			for _, want := range []string{`ledgerline_build_info{`, `program="` + program + `"`, "ledgerline_items_total{", "go_goroutines", "process_open_fds"} {
				if !strings.Contains(page, want) {
					in.t.Errorf("%s does not show %s", program, want)
				}
			}
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			in.t.Fatalf("%s does not listen:\n%s", program, text)
		}
	}
}

// get reads a page.
func get(in *installation, url string) string {
	in.t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	req, err := http.NewRequestWithContext(in.bounded("no answer from "+url), http.MethodGet, url, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		in.t.Fatalf("%s: %s %v %s", url, answer.Status, err, body)
	}
	return string(body)
}

// httpBook is a sink over HTTP that refuses stale epochs and knows an entry by its
// key, as docs/sinks.md asks.
type httpBook struct {
	book
	mu     sync.Mutex
	keys   map[string]bool
	epochs map[string]uint64
}

func (b *httpBook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	var d sink.Delivery
	var body struct {
		JobID             string `json:"jobId"`
		AccountingEntryID string `json:"accountingEntryId"`
		Position          uint32 `json:"position"`
		Epoch             uint64 `json:"epoch"`
		Attempt           uint32 `json:"attempt"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.JobID, d.AccountingEntryID = body.JobID, body.AccountingEntryID
	d.Position, d.Epoch, d.Attempt = body.Position, body.Epoch, body.Attempt
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		b.keys, b.epochs = map[string]bool{}, map[string]uint64{}
	}
	if d.Epoch < b.epochs[d.JobID] {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	b.epochs[d.JobID] = d.Epoch
	b.Deliver(context.WithoutCancel(r.Context()), d)
	if b.keys[r.Header.Get("Idempotency-Key")] {
		w.WriteHeader(http.StatusConflict)
		return
	}
	b.keys[r.Header.Get("Idempotency-Key")] = true
	w.WriteHeader(http.StatusCreated)
}

// inOrder insists that the job's items came in order, each one once but for one
// repetition at each takeover, and returns the repetitions.
func (b *httpBook) inOrder(t *testing.T, job uuid.UUID, total int) (again int) {
	t.Helper()
	var last sink.Delivery
	for _, d := range b.deliveries() {
		if d.JobID != job.String() {
			continue
		}
		switch {
		case d.Position == last.Position+1:
		case d.Position == last.Position && d.Epoch > last.Epoch && d.Attempt > last.Attempt:
			again++
		default:
			t.Errorf("job %s: position %d (epoch %d, attempt %d) came after position %d (epoch %d, attempt %d)",
				job, d.Position, d.Epoch, d.Attempt, last.Position, last.Epoch, last.Attempt)
		}
		last = d
	}
	if int(last.Position) != total {
		t.Errorf("job %s: the last position was %d of %d", job, last.Position, total)
	}
	return again
}
