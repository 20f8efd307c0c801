package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// testLease is short, so that a takeover is quick.
	testLease = time.Second
	// patience bounds a wait for something that must come.
	patience = 30 * time.Second
)

// bench is a NATS server, an upstream written for these tests, and the gateways
// that a test starts.
type bench struct {
	t      *testing.T
	server *embedded.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	jobs   *jobstate.Store
	pleo   *fakePleo
	log    *logtest.Recorder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server, err := embedded.Start(embedded.Options{DataDir: t.TempDir(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, server: server, pleo: newFakePleo(t), log: logtest.New(t)}
	b.conn = b.connect()
	t.Cleanup(func() {
		b.conn.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(b.log.Text())
		}
	})
	if b.js, err = jetstream.New(b.conn); err != nil {
		t.Fatal(err)
	}
	ctx := b.ctx()
	if err := topology.Ensure(ctx, b.js, topology.Options{Replicas: 1, Lease: testLease}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if b.jobs, err = jobstate.Open(ctx, b.js); err != nil {
		t.Fatal(err)
	}
	return b
}

// ctx ends when a test has waited long enough.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("waited for %s", patience))
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) connect() *nats.Conn {
	b.t.Helper()
	conn, err := nats.Connect("", b.server.InProcess(), nats.MaxReconnects(-1))
	if err != nil {
		b.t.Fatal(err)
	}
	return conn
}

// running is a gateway under test.
type running struct {
	*Gateway
	conn *nats.Conn
	// stop ends it gracefully and waits.
	stop func()
}

// gateway makes a gateway that is not started: it answers webhooks only.
func (b *bench) gateway(change ...func(*Config)) *running {
	b.t.Helper()
	conn := b.connect()
	b.t.Cleanup(conn.Close)
	client, err := pleo.New(pleo.Config{
		BaseURL: b.pleo.url, Auth: pleo.BearerToken(pleo.StaticSecret("t")), Timeout: 5 * time.Second, PageSize: 2,
		Logger: b.log.Logger(), // a page of two: everything is paged
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.CloseIdleConnections)
	config := Config{
		Conn: conn, Pleo: client, Logger: b.log.Logger(), Name: "gateway-" + uuid.NewString()[:8],
		Topology:    topology.Options{Replicas: 1, Lease: testLease},
		SigningKeys: func() ([][]byte, error) { return [][]byte{keyA}, nil },
		APITimeout:  testLease * 3 / 4,
	}
	for _, c := range change {
		c(&config)
	}
	g, err := New(config)
	if err != nil {
		b.t.Fatal(err)
	}
	return &running{Gateway: g, conn: conn, stop: func() {}}
}

// start makes a gateway and runs it.
func (b *bench) start(change ...func(*Config)) *running {
	b.t.Helper()
	r := b.gateway(change...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !r.conn.IsClosed() {
			b.t.Errorf("gateway: %v", err)
		}
	})
	b.t.Cleanup(r.stop)
	return r
}

// event is the next job-started event, which is acked.
func (b *bench) event() uuid.UUID {
	b.t.Helper()
	ctx := b.ctx()
	events, err := b.js.Consumer(ctx, subject.StreamEvents, subject.DurableFetcher)
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		batch, err := events.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			b.t.Fatal(err)
		}
		for msg := range batch.Messages() {
			var event struct{ JobID, CompanyID string }
			if err := json.Unmarshal(msg.Data(), &event); err != nil {
				b.t.Fatal(err)
			}
			if err := msg.DoubleAck(ctx); err != nil {
				b.t.Fatal(err)
			}
			if b.pleo.company(event.JobID) != event.CompanyID {
				b.t.Errorf("the event of job %s names company %s", event.JobID, event.CompanyID)
			}
			return uuid.MustParse(event.JobID)
		}
		if ctx.Err() != nil {
			b.t.Fatalf("no event came: %v; queue %v", context.Cause(ctx), b.queued())
		}
	}
}

// wantEvent waits for the next event and wants it to be the job's.
func (b *bench) wantEvent(job uuid.UUID) {
	b.t.Helper()
	if got := b.event(); got != job {
		b.t.Fatalf("the event of job %s came, want %s", got, job)
	}
}

// noEvents wants no event to wait.
func (b *bench) noEvents() {
	b.t.Helper()
	info, err := b.stream(subject.StreamEvents).Info(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	if info.State.Msgs != 0 {
		b.t.Errorf("%d events wait, want none", info.State.Msgs)
	}
}

func (b *bench) stream(name string) jetstream.Stream {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return stream
}

// queued are the subjects of the detections that wait, polls left out.
func (b *bench) queued() []string {
	b.t.Helper()
	info, err := b.stream(subject.StreamDetected).Info(b.ctx(), jetstream.WithSubjectFilter(subject.AllDetected))
	if err != nil {
		b.t.Fatal(err)
	}
	var subjects []string
	for s := range info.State.Subjects {
		if kind, _, _ := subject.ParseDetected(s); kind != subject.DetectedPoll && kind != subject.DetectedStart {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// settled waits until the queue holds no detection but the polls' clock.
func (b *bench) settled() {
	b.t.Helper()
	ctx := b.ctx()
	for {
		info, err := b.stream(subject.StreamDetected).Info(ctx, jetstream.WithSubjectFilter(subject.AllDetected))
		if err != nil {
			b.t.Fatal(err)
		}
		busy := false
		for s := range info.State.Subjects {
			if kind, _, _ := subject.ParseDetected(s); kind != subject.DetectedPoll {
				busy = true
			}
		}
		if !busy {
			return
		}
		if !pause(ctx, 10*time.Millisecond) {
			b.t.Fatalf("detections are left: %v", info.State.Subjects)
		}
	}
}

// end ends a job at Pleo and here.
func (b *bench) end(job uuid.UUID) {
	b.t.Helper()
	b.pleo.end(job, "completed", "")
	b.endHere(job, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED)
}

func (b *bench) endHere(job uuid.UUID, phase ledgerlinev1.JobPhase) {
	b.t.Helper()
	_, err := b.jobs.Update(b.ctx(), job, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.CompanyId, s.Worker = phase, b.pleo.company(job.String()), ""
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) state(job uuid.UUID) *ledgerlinev1.JobState {
	b.t.Helper()
	state, _, err := b.jobs.Get(b.ctx(), job)
	if errors.Is(err, jobstate.ErrNotFound) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return state
}

// waitState waits until a job's state is as wanted.
func (b *bench) waitState(job uuid.UUID, want func(*ledgerlinev1.JobState) bool) *ledgerlinev1.JobState {
	b.t.Helper()
	ctx, enough := context.WithCancel(b.ctx())
	defer enough()
	var got *ledgerlinev1.JobState
	found := false
	err := b.jobs.Watch(ctx, func(s *ledgerlinev1.JobState, _ time.Time, _ bool) {
		if s.GetJobId() == job.String() && !found {
			got = s
			if found = want(s); found {
				enough()
			}
		}
	})
	if err != nil || !found {
		b.t.Fatalf("job %s is %v: %v", job, got, err)
	}
	return got
}

// The keys of webhooks.
var (
	keyA = []byte("the first of the keys of webhooks")
	keyB = []byte("another one, after the rotation..")
)

// hook is a webhook to be sent.
type hook struct {
	body []byte
	key  []byte
	id   string
	at   time.Time
	// change is made after the signing.
	change func(*http.Request)
}

func createdHook(job, company uuid.UUID) hook {
	return hook{body: fmt.Appendf(nil, `{"data":{"id":%q,"companyId":%q,"status":"pending"},"eventType":"v1.export-job.created","eventId":%q}`,
		job, company, uuid.New())}
}

// send gives a webhook to a gateway and returns its status.
func (r *running) send(t *testing.T, h hook) int {
	t.Helper()
	if h.key == nil {
		h.key = keyA
	}
	if h.id == "" {
		h.id = "msg_" + uuid.NewString()
	}
	if h.at.IsZero() {
		h.at = time.Now()
	}
	signer, err := standardwebhooks.NewWebhookRaw(h.key)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(h.id, h.at, h.body)
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, WebhookPath, bytes.NewReader(h.body))
	request.Header.Set(standardwebhooks.HeaderWebhookID, h.id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(h.at.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	if h.change != nil {
		h.change(request)
	}
	answer := httptest.NewRecorder()
	r.Handler().ServeHTTP(answer, request)
	return answer.Code
}

// announce gives a webhook to a gateway that does nothing else.
func (b *bench) announce(h hook) {
	b.t.Helper()
	if code := b.gateway().send(b.t, h); code != http.StatusNoContent {
		b.t.Fatalf("the webhook was answered %d", code)
	}
}

// announce sends the webhook of a job until it is stored, as Pleo does.
func (r *running) announce(t *testing.T, job uuid.UUID, p *fakePleo) {
	t.Helper()
	h := createdHook(job, uuid.MustParse(p.company(job.String())))
	code := r.send(t, h)
	for range 10 {
		if code != http.StatusServiceUnavailable { // a busy machine: NATS took its time
			break
		}
		code = r.send(t, h)
	}
	if code != http.StatusNoContent {
		t.Fatalf("the webhook of job %s was answered %d", job, code)
	}
}

// fakePleo is the part of the upstream that a gateway talks to, written from the
// reference and not from the client.
type fakePleo struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	jobs   []*fakeJob // newest first, as the upstream lists them
	called chan struct{}
	calls  []string // method, path, query
	wrong  []string // what an integration must not do
	// owners, if set, are the companies that a token may ask about; "" is a token
	// for all that no other one owns.
	owners map[string]string
	// posting, if set, is called for each "started" before it takes effect, and
	// may answer instead (true).
	posting func(w http.ResponseWriter, job *fakeJob) bool
	// posted is called after it took effect; true means that it answered.
	posted func(w http.ResponseWriter, job *fakeJob) bool
	// reading may answer a read of a job.
	reading func(w http.ResponseWriter, job *fakeJob) bool
	// exporting may answer a read of a job's payload.
	exporting func(w http.ResponseWriter, job *fakeJob) bool
	// listing may answer a listing.
	listing func(w http.ResponseWriter, r *http.Request) bool
}

type fakeJob struct {
	id, company        string
	status, reasonType string
	created            time.Time
	started            int // accepted
	refused            int
	stale              int  // reads that still show pending
	passed             bool // a younger job may be started before it
}

func newFakePleo(t *testing.T) *fakePleo {
	p := &fakePleo{t: t, called: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v3/export-jobs", p.list)
	mux.HandleFunc("GET /v3/export-jobs/{id}", p.read)
	mux.HandleFunc("POST /v3/export-job-events", p.post)
	mux.HandleFunc("GET /v3/export-items", p.payload)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	p.url = web.URL
	t.Cleanup(func() {
		for _, wrong := range p.wrong {
			t.Error(wrong)
		}
	})
	return p
}

// add adds a job, younger than those before it.
func (p *fakePleo) add(company uuid.UUID, status string) uuid.UUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := uuid.New()
	p.jobs = slices.Insert(p.jobs, 0, &fakeJob{
		id: id.String(), company: company.String(), status: status,
		created: time.Now().Add(-time.Minute).Truncate(time.Second).Add(time.Duration(len(p.jobs)) * time.Millisecond),
	})
	return id
}

func (p *fakePleo) find(id string) *fakeJob {
	for _, job := range p.jobs {
		if job.id == strings.ToLower(id) {
			return job
		}
	}
	return nil
}

func (p *fakePleo) company(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if job := p.find(id); job != nil {
		return job.company
	}
	return ""
}

// job copies what is known of a job.
func (p *fakePleo) job(id uuid.UUID) fakeJob {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.find(id.String())
}

func (p *fakePleo) end(id uuid.UUID, status, reasonType string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	job := p.find(id.String())
	job.status, job.reasonType = status, reasonType
}

func (p *fakePleo) set(change func(*fakePleo)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// count is how many calls began with text.
func (p *fakePleo) count(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, call := range p.calls {
		if strings.HasPrefix(call, text) {
			n++
		}
	}
	return n
}

// wait waits until count calls began with text.
func (p *fakePleo) wait(text string, count int) {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		called := p.called
		p.mu.Unlock()
		if p.count(text) >= count {
			return
		}
		select {
		case <-called:
		case <-limit.C:
			p.t.Fatalf("%d of %d calls %q came: %v", p.count(text), count, text, p.calls)
		}
	}
}

// owned notes a call about a company with another one's token.
func (p *fakePleo) owned(r *http.Request, company string) {
	if p.owners == nil {
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	own, known := p.owners[token]
	ok := known && strings.EqualFold(own, company)
	if own == "" && company != "" {
		ok = known
		for _, other := range p.owners {
			ok = ok && !strings.EqualFold(other, company)
		}
	}
	if !ok {
		p.wrong = append(p.wrong, fmt.Sprintf("%s %s with the token %q", r.Method, r.URL.RequestURI(), token))
	}
}

// note keeps a call; the caller holds mu.
func (p *fakePleo) note(r *http.Request, more string) {
	p.calls = append(p.calls, r.Method+" "+r.URL.RequestURI()+more)
	close(p.called)
	p.called = make(chan struct{})
}

func (j *fakeJob) view() map[string]any {
	status := j.status
	if j.stale > 0 {
		j.stale--
		status = "pending"
	}
	view := map[string]any{
		// Upper case: ids are compared in any (trap 20).
		"id": strings.ToUpper(j.id), "companyId": strings.ToUpper(j.company), "status": status, "numberOfItems": 1,
		"expiresIn": 3600, "createdAt": j.created.Format(time.RFC3339Nano), "lastUpdatedAt": j.created.Format(time.RFC3339Nano),
	}
	if j.reasonType != "" {
		view["failureReasonType"] = j.reasonType
	}
	return view
}

func (p *fakePleo) list(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.note(r, "")
	if p.listing != nil && p.listing(w, r) {
		p.mu.Unlock()
		return
	}
	query := r.URL.Query()
	p.owned(r, query.Get("company_id"))
	var rows []map[string]any
	for _, job := range p.jobs {
		if c := query.Get("company_id"); c != "" && !strings.EqualFold(c, job.company) {
			continue
		}
		if slices.Contains(query["statuses"], job.status) {
			rows = append(rows, job.view())
		}
	}
	p.mu.Unlock()
	// Cursors are base32 letters of the reference's pattern: here the row's number
	// in letters.
	from := 0
	if after := query.Get("after"); after != "" {
		from = len(after)
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil {
		http.Error(w, "limit", http.StatusBadRequest)
		return
	}
	from = min(from, len(rows))
	to := min(from+limit, len(rows))
	page := map[string]any{
		"data": append([]map[string]any{}, rows[from:to]...),
		"pagination": map[string]any{
			"hasNextPage": to < len(rows), "hasPreviousPage": from > 0, "endCursor": strings.Repeat("A", to),
			"currentRequestPagination": map[string]any{"parameters": map[string]any{}},
		},
	}
	writeJSON(w, http.StatusOK, page)
}

func (p *fakePleo) read(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(r, "")
	job := p.find(r.PathValue("id"))
	if job == nil {
		refuse(w, http.StatusNotFound, "EXPORT_NOT_FOUND")
		return
	}
	p.owned(r, job.company)
	if p.reading != nil && p.reading(w, job) {
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"data": job.view()})
}

func (p *fakePleo) payload(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(r, "")
	job := p.find(r.URL.Query().Get("job_id"))
	if job == nil {
		refuse(w, http.StatusNotFound, "EXPORT_NOT_FOUND")
		return
	}
	p.owned(r, job.company)
	if p.exporting != nil && p.exporting(w, job) {
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"data": []any{}, "pagination": map[string]any{"hasNextPage": false, "hasPreviousPage": false},
	})
}

func (p *fakePleo) post(w http.ResponseWriter, r *http.Request) {
	var event struct{ JobID, Event string }
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		refuse(w, http.StatusBadRequest, "BAD_REQUEST")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(r, " "+event.Event)
	job := p.find(event.JobID)
	if job == nil || event.Event != "started" {
		p.wrong = append(p.wrong, "event "+event.Event+" of job "+event.JobID)
		refuse(w, http.StatusNotFound, "EXPORT_NOT_FOUND")
		return
	}
	p.owned(r, job.company)
	if p.posting != nil && p.posting(w, job) {
		return
	}
	if job.status != "pending" {
		job.refused++
		refuse(w, http.StatusUnprocessableEntity, "INVALID_EXPORT_JOB_STATUS_CHANGE")
		return
	}
	for _, other := range p.jobs {
		if other.company != job.company || other == job {
			continue
		}
		if other.status == "in_progress" {
			p.wrong = append(p.wrong, fmt.Sprintf("job %s was started while %s of the same company is in progress", job.id, other.id))
		}
		if other.status == "pending" && !other.passed && other.created.Before(job.created) {
			p.wrong = append(p.wrong, fmt.Sprintf("job %s was started before the older %s", job.id, other.id))
		}
	}
	job.status = "in_progress"
	job.started++
	if p.posted != nil && p.posted(w, job) {
		return
	}
	writeJSON(w, http.StatusAccepted, "Export Job Event created successfully.")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

func refuse(w http.ResponseWriter, status int, kind string) {
	writeJSON(w, status, map[string]string{"type": kind, "message": "refused"})
}

// cut breaks the connection of an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// sinkSwitch is a sink that is ready or not.
type sinkSwitch struct {
	mu    sync.Mutex
	err   error
	asked chan struct{} // one for each question, while there is room
}

func (s *sinkSwitch) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.asked <- struct{}{}:
	default:
	}
	return s.err
}

func (s *sinkSwitch) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}
