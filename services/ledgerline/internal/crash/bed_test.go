package crash

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// patience bounds a wait for something that must come: it costs nothing where
	// it comes.
	patience = 2 * time.Minute
	// look is how often a condition is looked at that nothing announces.
	look = 50 * time.Millisecond
	// lease is the shortest of the contract.
	lease = 2 * time.Second
	// pageSize makes several pages of a small job.
	pageSize = 3
)

// bed is one small installation: a NATS server with a file store, the simulated
// Pleo, a sink, and the services that do not die, all in the test's process. The
// service that dies is a process of its own.
type bed struct {
	t    *testing.T
	life life

	sim   *simulator.Simulator
	front *front
	pleo  string
	url   string // NATS
	conn  *nats.Conn
	js    jetstream.JetStream
	sink  *books
	shop  string // the sink's URL
	door  *door
	proc  *process
	dead  bool // the process has died at its point
	mend  bool // Pleo is to be put right in the end
	log   zerolog.Logger

	mu sync.Mutex
}

// front stands before the simulator and lets a life change an answer.
type front struct {
	next http.Handler
	mu   sync.Mutex
	hook func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook == nil {
		f.next.ServeHTTP(w, r)
		return
	}
	hook(w, r, f.next)
}

func (f *front) intercept(hook func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// door is one address for webhooks, wherever the gateway listens now.
type door struct {
	mu     sync.Mutex
	target *url.URL
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	target := d.target
	d.mu.Unlock()
	if target == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ServeHTTP(w, r)
}

func (d *door) lead(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = &url.URL{Scheme: "http", Host: addr}
}

var signingSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a signing key for these tests only"))

func newBed(t *testing.T, l life) *bed {
	t.Helper()
	b := &bed{t: t, life: l, sink: &books{}, door: &door{}, log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	b.url = natstest.Start(t).URL()
	door := httptest.NewServer(b.door)
	sim, err := simulator.New(simulator.Config{
		Seed: 7, Webhook: simulator.WebhookConfig{URL: door.URL + "/webhooks/pleo", Secret: signingSecret, RetryBase: look, Attempts: 1_000},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.sim, b.front = sim, &front{next: sim.Handler()}
	web, shop := httptest.NewServer(b.front), httptest.NewServer(b.sink)
	b.pleo, b.shop = web.URL, shop.URL
	t.Cleanup(func() {
		sim.Close()
		door.Close()
		web.Close()
		shop.Close()
	})
	b.js = natstest.JetStream(t, b.url)
	b.conn = b.js.Conn()
	if err := topology.Ensure(b.ctx(), b.js, b.topology(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) topology() topology.Options { return topology.Options{Replicas: 1, Lease: lease} }

// ctx ends a wait that takes too long.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	return ctx
}

// until waits for something that nothing announces.
func (b *bed) until(what string, is func() bool) {
	b.t.Helper()
	ctx, ticker := b.ctx(), time.NewTicker(look)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: not in %s", what, patience)
		case <-ticker.C:
		}
	}
}

// environ is that of the service that dies.
func (b *bed) environ() []string {
	return append([]string{
		"NATS_URL=" + b.url, "LEDGERLINE_PLEO_URL=" + b.pleo, "LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken, "LEDGERLINE_PLEO_RATE=0",
		"LEDGERLINE_LISTEN=127.0.0.1:0", "LEDGERLINE_LEASE=" + lease.String(), "LEDGERLINE_SINK=" + b.shop, "LEDGERLINE_PAGE_SIZE=" + strconv.Itoa(pageSize),
		"LEDGERLINE_START_JOBS=true", "LEDGERLINE_POLL_INTERVAL=0", "LEDGERLINE_WEBHOOK_SECRET=" + signingSecret, "TMPDIR=" + b.t.TempDir(),
	}, b.life.environ...)
}

// process is the service under test.
type process struct {
	cmd   *exec.Cmd
	up    chan struct{} // closed once it listens, and handles signals
	ended chan struct{}
	err   error // of Wait, once ended is closed
}

// start runs the service; more is added to its environment.
func (b *bed) start(binary string, more ...string) {
	b.t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(b.environ(), more...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	log, err := os.Create(filepath.Join(b.t.TempDir(), "log"))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	p := &process{cmd: cmd, up: make(chan struct{}), ended: make(chan struct{})}
	b.proc = p
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var event struct{ Message, Addr string }
			if json.Unmarshal(lines.Bytes(), &event) == nil && event.Message == logevent.HTTPListening {
				b.door.lead(event.Addr)
				close(p.up)
			}
			_, _ = log.Write(append(lines.Bytes(), '\n')) // only looked at after a failure
		}
		p.err = cmd.Wait()
	}()
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-p.ended
		if text, err := os.ReadFile(log.Name()); b.t.Failed() && err == nil {
			b.t.Logf("%s wrote:\n%s", filepath.Base(binary), text)
		}
		if err := log.Close(); err != nil {
			b.t.Error(err)
		}
	})
}

// dies waits until the process has killed itself.
func (b *bed) dies() {
	b.t.Helper()
	select {
	case <-b.proc.ended:
	case <-b.ctx().Done():
		b.t.Fatalf("the point was not reached in %s", patience)
	}
	var exit *exec.ExitError
	if !errors.As(b.proc.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		b.t.Fatalf("the point was not reached, the process ended by itself: %v", b.proc.err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = true
}

// ended tells whether the process has ended, whether or not that was noticed.
func (b *bed) ended() bool {
	select {
	case <-b.proc.ended:
		return true
	default:
		return false
	}
}

// died tells whether the process was killed already.
func (b *bed) died() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

// terminate asks the process to stop.
func (b *bed) terminate() {
	b.t.Helper()
	select {
	case <-b.proc.up:
	case <-b.proc.ended:
	case <-b.ctx().Done():
		b.t.Error("the process does not come up")
	}
	if err := b.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Error(err)
	}
}

// stops ends the process well.
func (b *bed) stops() {
	b.t.Helper()
	b.terminate()
	select {
	case <-b.proc.ended:
	case <-b.ctx().Done():
		b.t.Fatal("the process does not stop")
	}
	if b.proc.err != nil {
		b.t.Errorf("the process ended badly: %v", b.proc.err)
	}
}

func (b *bed) client() *pleo.Client {
	b.t.Helper()
	client, err := pleo.New(pleo.Config{
		BaseURL: b.pleo, Auth: pleo.BearerToken(pleo.StaticSecret(simulator.DefaultToken)), Timeout: 5 * time.Second, PageSize: pageSize, Logger: b.log,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.CloseIdleConnections)
	return client
}

// run runs a service that lives through the test; stop ends it.
func (b *bed) run(work func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bed) fetcher(order fetcher.Order) (stop func()) {
	b.t.Helper()
	f, err := fetcher.New(fetcher.Config{
		Conn: b.conn, Pleo: b.client(), Logger: b.log, Topology: b.topology(), Order: order, StartJobs: true, APITimeout: topology.APITimeout(lease), TendInterval: time.Second,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.run(f.Run)
}

func (b *bed) consumer() (stop func()) {
	b.t.Helper()
	to, err := sink.Open(b.shop, sink.Options{Timeout: 10 * time.Second, Logger: b.log, MaxConcurrent: 8})
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := consumer.New(consumer.Config{
		Conn: b.conn, Pleo: b.client(), Sink: to, Logger: b.log, Topology: b.topology(), Worker: "lives", ConcurrentJobs: 8,
		Payload: consumer.PayloadFull, OnFailure: consumer.OnFailureContinue, Report: true, APITimeout: topology.APITimeout(lease),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := to.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return b.run(c.Run)
}

func (b *bed) add(spec simulator.JobSpec) uuid.UUID {
	b.t.Helper()
	id, err := b.sim.AddJob(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *bed) publish(subj string, data []byte) {
	b.t.Helper()
	if _, err := b.js.Publish(b.ctx(), subj, data); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) event(job uuid.UUID) {
	b.publish(subject.JobStarted, []byte(`{"jobId":"`+job.String()+`"}`))
}

func (b *bed) stream(name string) jetstream.Stream {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return stream
}

// empty waits until a stream holds nothing any more.
func (b *bed) empty(name string) {
	b.t.Helper()
	b.until(name+" is empty", func() bool {
		info, err := b.stream(name).Info(b.ctx())
		return err == nil && info.State.Msgs == 0
	})
}

// ends waits until each job of the simulator is in a final phase here, and returns
// the states.
func (b *bed) ends() map[uuid.UUID]*ledgerlinev1.JobState {
	b.t.Helper()
	states, err := jobstate.Open(b.ctx(), b.js)
	if err != nil {
		b.t.Fatal(err)
	}
	ended := map[uuid.UUID]*ledgerlinev1.JobState{}
	b.until("every job has ended", func() bool {
		for _, job := range b.sim.Snapshot().Jobs {
			state, _, err := states.Get(b.ctx(), job.ID)
			if err != nil || !ledger.Final(state.GetPhase()) {
				return false
			}
			ended[job.ID] = state
		}
		return true
	})
	return ended
}

// parked is what is parked.
func (b *bed) parked() (all []*ledgerlinev1.Parked) {
	b.t.Helper()
	store, err := parked.Open(b.ctx(), b.js)
	if err == nil {
		err = store.List(b.ctx(), func(_ string, p *ledgerlinev1.Parked) { all = append(all, p) })
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}
