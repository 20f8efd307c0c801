package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// TestMain sees that no test leaves a goroutine behind, nor a payload file.
func TestMain(m *testing.M) {
	if url := os.Getenv(actAsSink); url != "" {
		os.Exit(serveAsSink(url))
	}
	dir, err := os.MkdirTemp("", "ledgerline-endtoend-*")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	// These tests mostly wait, for leases and for one another's answers: more of
	// them at a time than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
		panic(err)
	}
	code := m.Run()
	if left, err := os.ReadDir(dir); code == 0 && (err != nil || len(left) > 0) {
		fmt.Fprintln(os.Stderr, "temporary files are left:", left, err)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

const (
	// patience bounds a wait for something that must come.
	patience = slowness * 45 * time.Second
	// testLease is that of the workers under test: short, so that takeovers are
	// quick.
	testLease = slowness * 2 * time.Second
)

// installation is a whole one: NATS, the simulated upstream, and as many workers
// as a test starts.
type installation struct {
	t        *testing.T
	upstream *simulator.Simulator
	front    *front
	url      string
	server   *embedded.Server
	patience time.Duration // longer than the usual one, for what waits a lot
	dir      string        // of the server's store
	addr     string        // that the server listens on; empty: connections inside the process
	conn     *nats.Conn
	js       jetstream.JetStream
	log      *logtest.Recorder

	mu    sync.Mutex
	gates []*gate
}

func install(t *testing.T, upstream simulator.Config) *installation {
	t.Helper()
	return installIn(t, upstream, t.TempDir(), "")
}

// installIn is install with its store in dir; where listen is not empty, clients
// connect to the server there, and find it again when it was restarted.
func installIn(t *testing.T, upstream simulator.Config, dir, listen string) *installation {
	t.Helper()
	log := logtest.New(t)
	server, err := embedded.Start(embedded.Options{DataDir: dir, Listen: listen, Monitor: "127.0.0.1:0", Logger: log.Logger().Level(zerolog.InfoLevel)})
	if err != nil {
		t.Fatal(err)
	}
	sim, err := simulator.New(upstream)
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{
		t: t, upstream: sim, front: &front{next: sim.Handler()}, server: server, dir: dir, addr: server.Addr(), log: log,
	}
	web := httptest.NewServer(in.front)
	in.url = web.URL
	in.conn = in.connect()
	t.Cleanup(func() {
		in.openGates()
		in.conn.Close()
		web.Close()
		sim.Close()
		if err := in.server.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(in.log.Text())
		}
	})
	in.js, err = jetstream.New(in.conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx := in.bounded("the streams were not created")
	if err := topology.Ensure(ctx, in.js, in.topology(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return in
}

// bounded is a context for one wait; message is what a test says when it is over.
func (in *installation) bounded(message string) context.Context {
	// Without a deadline: a request that is under way when a server stops is never
	// answered, and the client waits for it until the deadline of its context, or for
	// its own time-out where there is none.
	ctx, cancel := context.WithCancelCause(context.Background())
	limit := time.AfterFunc(max(patience, in.patience), func() { cancel(errors.New(message)) })
	in.t.Cleanup(func() {
		limit.Stop()
		cancel(nil)
	})
	return ctx
}

// answered asks NATS until it answers, or ctx ends.
func answered[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		got, err := ask()
		if !natsconn.Unanswered(err) {
			return got, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return got, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (in *installation) logger() zerolog.Logger { return in.log.Logger().Level(zerolog.InfoLevel) }

func (in *installation) connect(options ...nats.Option) *nats.Conn {
	in.t.Helper()
	to := ""
	if in.addr == "" {
		options = append([]nats.Option{in.server.InProcess()}, options...)
	} else {
		to = "nats://" + in.addr
	}
	options = append(options, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	conn, err := nats.Connect(to, options...)
	if err != nil {
		in.t.Fatal(err)
	}
	return conn
}

func (in *installation) client(change ...func(*pleo.Config)) *pleo.Client {
	in.t.Helper()
	config := pleo.Config{
		BaseURL: in.url, Auth: pleo.BearerToken(pleo.StaticSecret(simulator.DefaultToken)),
		Timeout: 5 * time.Second, PageSize: 100, Logger: in.logger(),
	}
	for _, c := range change {
		c(&config)
	}
	client, err := pleo.New(config)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(client.CloseIdleConnections)
	return client
}

func (in *installation) topology() topology.Options {
	return topology.Options{Replicas: 1, Lease: testLease}
}

// worker is a running fetcher or consumer.
type worker struct {
	wire *wire
	conn *nats.Conn
	// stop ends it gracefully and waits.
	stop func()
}

// die takes the worker's NATS connection away for good: to all others it looks
// dead, whatever it still does.
func (w *worker) die() { w.conn.Close() }

// run starts a worker.
func (in *installation) run(build func(*nats.Conn) (func(context.Context) error, error)) *worker {
	in.t.Helper()
	wire := &wire{}
	var options []nats.Option
	if in.addr == "" {
		options = append(options, wire.option())
	}
	w := &worker{wire: wire, conn: in.connect(options...)}
	in.t.Cleanup(w.conn.Close)
	work, err := build(w.conn)
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := start(ctx, work)
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			in.t.Errorf("worker: %v", err)
		}
	})
	in.t.Cleanup(func() {
		in.openGates()
		wire.resume()
		w.stop()
	})
	return w
}

func start(ctx context.Context, work func(context.Context) error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	return done
}

func (in *installation) fetcher(change ...func(*fetcher.Config)) *worker {
	in.t.Helper()
	return in.run(func(conn *nats.Conn) (func(context.Context) error, error) {
		config := fetcher.Config{
			Conn: conn, Pleo: in.client(), Logger: in.logger(), Topology: in.topology(),
			Order: fetcher.OrderDate, StartJobs: true, APITimeout: topology.APITimeout(testLease),
		}
		for _, c := range change {
			c(&config)
		}
		f, err := fetcher.New(config)
		if err != nil {
			return nil, err
		}
		return f.Run, nil
	})
}

func (in *installation) consumer(to sink.Sink, change ...func(*consumer.Config)) *worker {
	in.t.Helper()
	return in.run(func(conn *nats.Conn) (func(context.Context) error, error) {
		config := consumer.Config{
			Conn: conn, Pleo: in.client(), Sink: to, Logger: in.logger(), Topology: in.topology(),
			Worker: "consumer-" + uuid.NewString()[:8], ConcurrentJobs: 64,
			Payload: consumer.PayloadFull, OnFailure: consumer.OnFailureContinue, Report: true,
			APITimeout: topology.APITimeout(testLease),
		}
		for _, c := range change {
			c(&config)
		}
		c, err := consumer.New(config)
		if err != nil {
			return nil, err
		}
		return c.Run, nil
	})
}

func orderEntry(c *fetcher.Config)    { c.Order = fetcher.OrderEntry }
func payloadNone(c *consumer.Config)  { c.Payload = consumer.PayloadNone }
func silently(c *consumer.Config)     { c.Report = false }
func failureStops(c *consumer.Config) { c.OnFailure = consumer.OnFailureStop }

func named(name string) func(*consumer.Config) {
	return func(c *consumer.Config) { c.Worker = name }
}

// add adds a job to the upstream, already in progress there.
func (in *installation) add(spec simulator.JobSpec) uuid.UUID {
	in.t.Helper()
	if spec.Status == "" {
		spec.Status = simulator.JobInProgress
	}
	id, err := in.upstream.AddJob(spec)
	if err != nil {
		in.t.Fatal(err)
	}
	return id
}

// items is a number of items for a JobSpec.
func items(n int) *int { return &n }

// entries are n entries with ids that rise.
func entries(n int) []simulator.EntrySpec {
	specs := make([]simulator.EntrySpec, n)
	for i := range specs {
		specs[i].ID = entryID(i + 1)
	}
	return specs
}

// entryID is a valid id that sorts as n does.
func entryID(n int) uuid.UUID {
	id := uuid.MustParse("00000000-0000-4000-8000-000000000000")
	id[0], id[1] = byte(n>>8), byte(n)
	return id
}

// publish publishes the job-started event of a job.
func (in *installation) publish(jobs ...uuid.UUID) {
	in.t.Helper()
	for _, job := range jobs {
		event, err := json.Marshal(map[string]string{"jobId": job.String()})
		if err != nil {
			in.t.Fatal(err)
		}
		in.publishRaw("", event)
	}
}

func (in *installation) publishRaw(contentType string, event []byte) {
	in.t.Helper()
	msg := nats.NewMsg(subject.JobStarted)
	msg.Data = event
	if contentType != "" {
		msg.Header.Set(subject.HeaderContentType, contentType)
	}
	if _, err := in.js.PublishMsg(in.bounded("an event was not stored"), msg); err != nil {
		in.t.Fatal(err)
	}
}

// until waits until a job's state is as wanted and returns it.
func (in *installation) until(job uuid.UUID, wanted string, is func(*ledgerlinev1.JobState) bool) (state *ledgerlinev1.JobState) {
	in.t.Helper()
	ctx := in.bounded("the job is not " + wanted)
	watching, enough := context.WithCancel(ctx)
	defer enough()
	_, err := answered(ctx, func() (none struct{}, err error) {
		store, err := jobstate.Open(ctx, in.js)
		if err != nil {
			return none, err
		}
		return none, store.Watch(watching, func(s *ledgerlinev1.JobState, _ time.Time, removed bool) {
			if !removed && s.GetJobId() == job.String() && is(s) && state == nil {
				state = s
				enough()
			}
		})
	})
	if err != nil || state == nil {
		in.t.Fatalf("job %s: %v %v", job, err, context.Cause(ctx))
	}
	return state
}

// ends waits until each job is in a final phase here and returns the states.
func (in *installation) ends(jobs ...uuid.UUID) map[uuid.UUID]*ledgerlinev1.JobState {
	in.t.Helper()
	ended := map[uuid.UUID]*ledgerlinev1.JobState{}
	for _, job := range jobs {
		ended[job] = in.until(job, "in a final phase", final)
	}
	return ended
}

func final(s *ledgerlinev1.JobState) bool { return ledger.Final(s.GetPhase()) }

// endsOrIsRefused waits until a job is in a final phase here, or its event is parked
// because it had ended at the upstream before anything of it was known here.
func (in *installation) endsOrIsRefused(job uuid.UUID) (state *ledgerlinev1.JobState, refused string) {
	in.t.Helper()
	ctx := in.bounded("neither the job has ended nor its event is parked")
	store, err := jobstate.Open(ctx, in.js)
	if err != nil {
		in.t.Fatal(err)
	}
	things, err := in.js.OrderedConsumer(ctx, subject.StreamParked, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject.AllParked}})
	if err != nil {
		in.t.Fatal(err)
	}
	watching, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	parked := make(chan string, 1)
	reading, err := things.Consume(func(msg jetstream.Msg) {
		p := new(ledgerlinev1.Parked)
		if err := proto.Unmarshal(msg.Data(), p); err != nil {
			enough(err)
			return
		}
		if p.GetJobId() == job.String() && p.GetKind() == ledgerlinev1.ParkedKind_PARKED_KIND_EVENT {
			select {
			case parked <- p.GetReason():
			default: // the event came twice
			}
			enough(nil)
		}
	})
	if err != nil {
		in.t.Fatal(err)
	}
	defer func() {
		reading.Stop()
		<-reading.Closed()
	}()
	err = store.Watch(watching, func(s *ledgerlinev1.JobState, _ time.Time, removed bool) {
		if !removed && s.GetJobId() == job.String() && final(s) && state == nil {
			state = s
			enough(nil)
		}
	})
	select {
	case refused = <-parked:
	default:
	}
	if state == nil && refused == "" {
		in.t.Fatalf("job %s: %v %v", job, err, context.Cause(watching))
	}
	return state, refused
}

// completes waits for the jobs' ends and insists that they are good, here and at
// the upstream.
func (in *installation) completes(jobs ...uuid.UUID) {
	in.t.Helper()
	for job, state := range in.ends(jobs...) {
		if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED {
			in.t.Errorf("job %s is %s: %s", job, state.GetPhase(), state.GetReason())
		}
		at := in.job(job)
		if at.Status != simulator.JobCompleted || at.OpenAtClose != 0 {
			in.t.Errorf("job %s at Pleo is %s with %d items open at its close; events %v", job, at.Status, at.OpenAtClose, at.Events)
		}
	}
}

// parks waits for a job's end and insists that it is parked with a reason that
// has the words.
func (in *installation) parks(job uuid.UUID, words ...string) *ledgerlinev1.JobState {
	in.t.Helper()
	state := in.ends(job)[job]
	if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		in.t.Fatalf("job %s is %s: %s", job, state.GetPhase(), state.GetReason())
	}
	for _, word := range words {
		if !strings.Contains(state.GetReason(), word) {
			in.t.Errorf("job %s is parked for %q, which does not say %q", job, state.GetReason(), word)
		}
	}
	p := in.parkedThing(func(p *ledgerlinev1.Parked) bool { return p.GetJobId() == job.String() })
	if p.GetKind() != ledgerlinev1.ParkedKind_PARKED_KIND_JOB {
		in.t.Errorf("job %s is parked as %s", job, p.GetKind())
	}
	return state
}

// parkedThing waits until a thing is parked.
func (in *installation) parkedThing(is func(*ledgerlinev1.Parked) bool) *ledgerlinev1.Parked {
	in.t.Helper()
	ctx := in.bounded("it was not parked")
	stream, err := in.js.Stream(ctx, subject.StreamParked)
	if err != nil {
		in.t.Fatal(err)
	}
	reader, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject.AllParked}})
	if err != nil {
		in.t.Fatal(err)
	}
	messages, err := reader.Messages()
	if err != nil {
		in.t.Fatal(err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			in.t.Fatal(context.Cause(ctx), err)
		}
		p := new(ledgerlinev1.Parked)
		if err := proto.Unmarshal(msg.Data(), p); err != nil {
			in.t.Fatal(err)
		}
		if is(p) {
			return p
		}
	}
}

func (in *installation) job(id uuid.UUID) simulator.JobSnapshot {
	in.t.Helper()
	j, err := in.upstream.Job(id)
	if err != nil {
		in.t.Fatal(err)
	}
	return j
}

// eventsOf are the names of a job's events at the upstream.
func eventsOf(j simulator.JobSnapshot) []string {
	var names []string
	for _, e := range j.Events {
		names = append(names, e.Event)
	}
	return names
}

// records reads a job's ledger and checks what every ledger must be: a chain in
// which neither epoch nor position falls and each position of a run is settled
// once, in order.
func (in *installation) records(job uuid.UUID) []*ledger.Entry {
	in.t.Helper()
	ctx := in.bounded("the ledger was not read")
	stream, err := in.js.Stream(ctx, subject.StreamLedger)
	if err != nil {
		in.t.Fatal(err)
	}
	var records []*ledger.Entry
	err = history.Snapshot(ctx, stream, []string{subject.LedgerOfJob(job)}, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		e, err := ledger.Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		records = append(records, e)
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
	var hash []byte
	var epoch uint64
	var run, position uint32
	for _, e := range records {
		r := e.Record
		if !bytes.Equal(r.GetPreviousHash(), hash) {
			in.t.Errorf("ledger of job %s: record %d does not follow the one before it", job, e.Sequence)
		}
		if r.GetEpoch() < epoch {
			in.t.Errorf("ledger of job %s: record %d falls from epoch %d to %d", job, e.Sequence, epoch, r.GetEpoch())
		}
		if r.GetRun() != run {
			position = 0
		}
		for _, s := range r.GetSettled() {
			if s.GetPosition() != position+1 {
				in.t.Errorf("ledger of job %s: record %d settles position %d after %d", job, e.Sequence, s.GetPosition(), position)
			}
			position = s.GetPosition()
		}
		hash, epoch, run = e.Hash, r.GetEpoch(), r.GetRun()
	}
	return records
}

// nothingLeft insists, once the workers are stopped, that ended jobs left nothing
// behind that only a running job needs.
func (in *installation) nothingLeft() {
	in.t.Helper()
	ctx := in.bounded("the streams could not be looked up")
	pipe, err := in.js.Stream(ctx, subject.StreamPipe)
	if err != nil {
		in.t.Fatal(err)
	}
	info, err := pipe.Info(ctx, jetstream.WithSubjectFilter("ledgerline.>"))
	if err != nil {
		in.t.Fatal(err)
	}
	if info.State.Msgs != 0 {
		in.t.Errorf("%d messages are left in the pipe: %v", info.State.Msgs, info.State.Subjects)
	}
	if names := natstest.Consumers(ctx, in.t, in.js, subject.StreamPipe); !slices.Equal(names, []string{subject.DurableConsumer}) {
		in.t.Errorf("the pipe has the consumers %v, want %s alone", names, subject.DurableConsumer)
	}
	events, err := in.js.Stream(ctx, subject.StreamEvents)
	if err != nil {
		in.t.Fatal(err)
	}
	if n := events.CachedInfo().State.Msgs; n != 0 {
		in.t.Errorf("%d events are left", n)
	}
}

// front stands before the simulator, where a test may hold requests back.
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

func (in *installation) intercept(hook func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	in.front.mu.Lock()
	defer in.front.mu.Unlock()
	in.front.hook = hook
}

func readsItems(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/items")
}
func readsPayload(r *http.Request) bool { return r.URL.Path == "/v3/export-items" }
func reportsItems(r *http.Request) bool { return r.Method == http.MethodPut }
func postsEvent(r *http.Request) bool   { return r.Method == http.MethodPost }
func isLastPage(answer []byte) bool     { return bytes.Contains(answer, []byte(`"hasNextPage":false`)) }
func recorded(next http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	next.ServeHTTP(w, r)
	return w
}

func replay(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// gate holds whoever passes until it is opened.
type gate struct {
	arrived, opened chan struct{}
	arrive, open    func()
}

// gate makes a closed gate; the end of the test opens it.
func (in *installation) gate() *gate {
	g := &gate{arrived: make(chan struct{}), opened: make(chan struct{})}
	g.arrive = sync.OnceFunc(func() { close(g.arrived) })
	g.open = sync.OnceFunc(func() { close(g.opened) })
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gates = append(in.gates, g)
	return g
}

func (in *installation) openGates() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, g := range in.gates {
		g.open()
	}
}

func (g *gate) pass(ctx context.Context) {
	g.arrive()
	select {
	case <-g.opened:
	case <-ctx.Done():
	}
}

// wait waits until somebody stands at the gate.
func (in *installation) wait(g *gate, what string) {
	in.t.Helper()
	select {
	case <-g.arrived:
	case <-in.bounded("").Done():
		in.t.Fatalf("nothing came to the gate: %s", what)
	}
}

// book is a sink that keeps what it was given, and answers by a script.
type book struct {
	answer func(ctx context.Context, d sink.Delivery) sink.Answer

	mu   sync.Mutex
	sent []sink.Delivery
	// grown is closed and replaced when something was sent.
	grown chan struct{}
}

func (b *book) Deliver(ctx context.Context, d sink.Delivery) sink.Answer {
	b.mu.Lock()
	b.sent = append(b.sent, d)
	if b.grown != nil {
		close(b.grown)
	}
	b.grown = make(chan struct{})
	b.mu.Unlock()
	if b.answer != nil {
		return b.answer(ctx, d)
	}
	return bookedAs(d)
}

func bookedAs(d sink.Delivery) sink.Answer {
	return sink.Answer{Outcome: sink.Booked, ExternalID: "E-" + d.AccountingEntryID}
}

func (b *book) Ready(context.Context) error { return nil }
func (b *book) Close() error                { return nil }

func (b *book) deliveries() []sink.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// wait waits until n items were sent.
func (b *book) wait(in *installation, n int) {
	in.t.Helper()
	ctx := in.bounded("")
	for {
		b.mu.Lock()
		if b.grown == nil {
			b.grown = make(chan struct{})
		}
		have, grown := len(b.sent), b.grown
		b.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			in.t.Fatalf("%d items were sent, want %d", have, n)
		}
	}
}

// stalls is how often the job changed hands because this machine stood still for so
// long that its heartbeats were missed.
func (in *installation) stalls(job uuid.UUID) int {
	missed, takenOver := false, 0
	for line := range strings.Lines(in.log.Text()) {
		if !strings.Contains(line, job.String()) {
			continue
		}
		missed = missed || strings.Contains(line, `"message":"`+logevent.HeartbeatMissed+`"`)
		if missed && strings.Contains(line, `"message":"`+logevent.JobTakenOver+`"`) {
			takenOver++
		}
	}
	return takenOver
}

// ids are the entries of a job in the order in which they were sent.
func (b *book) ids(job uuid.UUID) []string {
	var ids []string
	for _, d := range b.deliveries() {
		if d.JobID == job.String() {
			ids = append(ids, d.AccountingEntryID)
		}
	}
	return ids
}

// once insists that the items of the job were sent once each, in order of
// position, and all of them. Where the machine's stall made the job change hands,
// the item in hand may be sent with a higher attempt, as the promise says.
func (b *book) once(in *installation, job uuid.UUID, total int) {
	in.t.Helper()
	b.sentWith(in, job, total, in.stalls(job))
}

// sentWith is once for a test that stops heartbeats itself and knows how many items may
// be sent with a higher attempt.
func (b *book) sentWith(in *installation, job uuid.UUID, total, again int) {
	in.t.Helper()
	position := uint32(0)
	for _, d := range b.deliveries() {
		if d.JobID != job.String() {
			continue
		}
		if again > 0 && d.Attempt > 1 && d.Total == uint32(total) && (d.Position == position || d.Position == position+1) {
			again--
			position = d.Position
			continue
		}
		if d.Position != position+1 || d.Attempt != 1 || d.Total != uint32(total) {
			in.t.Errorf("job %s: position %d of %d, attempt %d, was sent after position %d", job, d.Position, d.Total, d.Attempt, position)
		}
		position = d.Position
	}
	if position != uint32(total) {
		in.t.Errorf("job %s: %d of %d items were sent", job, position, total)
	}
}
