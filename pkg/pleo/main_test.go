package pleo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	jobID     = "8eb648ab-464b-42a0-ba17-eda703657e33"
	otherJob  = "11111111-464b-42a0-ba17-eda703657e33"
	companyID = "c0ffee00-0000-4000-8000-000000000001"
	entryA    = "59540ed2-0d68-4e36-9e31-58223975d9e9"
	entryB    = "6678bcee-c6a4-4b49-bb1e-8f9fd653d16c"
	token     = "tok-SECRET-123"
)

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// events returns the lines with this message.
func (l *logs) events(t *testing.T, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if e["message"] == message {
			found = append(found, e)
		}
	}
	return found
}

// calls collects what Observe saw.
type calls struct {
	mu   sync.Mutex
	list []Call
}

func (c *calls) add(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, call)
}

func (c *calls) codes() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var codes []string
	for _, call := range c.list {
		codes = append(codes, call.Code)
	}
	return strings.Join(codes, " ")
}

// upstream is a server written by hand for one case, the client that talks to
// it, and what the client logged and counted.
type upstream struct {
	*Client
	logs  *logs
	calls *calls
}

func newUpstream(t testing.TB, cfg Config) upstream {
	t.Helper()
	u := upstream{logs: &logs{}, calls: &calls{}}
	cfg.Logger = zerolog.New(u.logs)
	cfg.Observe = u.calls.add
	if cfg.Auth == nil {
		cfg.Auth = BearerToken(StaticSecret(token))
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.Client = c
	return u
}

// serve runs handler on a real port.
func serve(t testing.TB, handler http.HandlerFunc, opts ...func(*Config)) upstream {
	t.Helper()
	server := httptest.NewServer(handler)
	cfg := Config{BaseURL: server.URL}
	for _, opt := range opts {
		opt(&cfg)
	}
	u := newUpstream(t, cfg)
	t.Cleanup(func() {
		u.CloseIdleConnections()
		server.Close()
	})
	return u
}

// pipes is a listener whose connections stay in memory, so that a real HTTP
// server and a real transport run on synctest's clock.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	dialed func(net.Conn) net.Conn // wraps the client's end; may be nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accept <- theirs:
		if p.dialed != nil {
			return p.dialed(ours), nil
		}
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// onFakeClock runs the case in a bubble: waits take no time and are exact.
func onFakeClock(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, u upstream), opts ...func(*Config)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u, stop := bubbleUpstream(t, &pipes{}, handler, opts...)
		defer stop()
		test(t, u)
	})
}

func bubbleUpstream(t *testing.T, p *pipes, handler http.HandlerFunc, opts ...func(*Config)) (upstream, func()) {
	t.Helper()
	p.accept, p.closed = make(chan net.Conn), make(chan struct{})
	server := &http.Server{Handler: handler, ErrorLog: nil}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	transport := newTransport()
	transport.Proxy = nil
	transport.DialContext = p.dial
	cfg := Config{BaseURL: "http://pleo.example", Transport: transport}
	for _, opt := range opts {
		opt(&cfg)
	}
	u := newUpstream(t, cfg)
	return u, func() {
		u.CloseIdleConnections()
		_ = server.Close()
		<-done
	}
}

// answer writes a JSON answer with a request-Id.
func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("request-Id", "req-1")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func jobJSON(fields string) string {
	return fmt.Sprintf(`{"data":{"id":%q,"companyId":%q,"status":"pending","numberOfItems":4,"expiresIn":3600,
		"isInteractive":true,"vendorBasedBookkeeping":false,"createdAt":"2026-04-22T10:00:00Z"%s}}`, jobID, companyID, fields)
}

func jobItemJSON(entry string) string {
	return fmt.Sprintf(`{"exportJobId":%q,"accountingEntryId":%q,"status":"pending"}`, jobID, entry)
}

// pageJSON is a page of rows; next "" is the last page.
func pageJSON(next string, rows ...string) string {
	end := ""
	if next != "" {
		end = fmt.Sprintf(`,"endCursor":%q`, next)
	}
	return fmt.Sprintf(`{"data":[%s],"pagination":{"hasNextPage":%t,"hasPreviousPage":false,"currentRequestPagination":{"parameters":{}}%s}}`,
		strings.Join(rows, ","), next != "", end)
}

// nthEntry makes distinct entry ids.
func nthEntry(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// nthCursor makes distinct cursors in the upstream's alphabet.
func nthCursor(n int) string {
	s := ""
	for {
		s = string("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[n%32]) + s
		if n /= 32; n == 0 {
			return "AAA=" + s + "~"
		}
	}
}

func drainItems(ctx context.Context, u upstream) ([]JobItem, PageStats, error) {
	var all []JobItem
	stats, err := u.EachJobItem(ctx, jobID, func(items []JobItem) error {
		all = append(all, items...)
		return nil
	})
	return all, stats, err
}

func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %s, want %s…%s", what, got, low, high)
	}
}
