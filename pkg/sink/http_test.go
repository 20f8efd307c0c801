package sink_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

// A connection that breaks after the request was read, and before its answer,
// is what makes Go's transport send a request with an Idempotency-Key again.
func TestBrokenKeptAliveConnectionRepeatsNothing(t *testing.T) {
	t.Parallel()
	var transmissions atomic.Int32
	var broken sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("read the request: %v", err)
		}
		transmissions.Add(1)
		attempt := r.Header.Get("Ledgerline-Attempt")
		if _, before := broken.LoadOrStore(attempt, true); attempt != "1" && !before {
			breakConnection(t, w, attempt == "3")
		}
	}))
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{})
	for i, c := range []struct {
		what string
		want sink.Outcome
	}{
		{"on a new connection", sink.Booked},
		{"on the kept connection, closed before the answer", sink.Retry},
		{"on a new connection, reset before the answer", sink.Retry},
	} {
		d := sinktest.Delivery(1)
		d.Attempt = uint32(i + 1)
		before := transmissions.Load()
		if a := s.Deliver(t.Context(), d); a.Outcome != c.want {
			t.Errorf("%s: %+v, want %s", c.what, a, c.want)
		}
		if n := transmissions.Load() - before; n != 1 {
			t.Errorf("%s: %d transmissions, want 1", c.what, n)
		}
	}
}

func breakConnection(t *testing.T, w http.ResponseWriter, reset bool) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Errorf("take over the connection: %v", err)
		return
	}
	if reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	_ = conn.Close()
}

func TestHTTPStatusTable(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code := int(status.Load())
		if code >= 300 && code <= 399 {
			w.Header().Set("Location", "/elsewhere") // a second transmission, if it were followed
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(srv.Close)
	var transmissions atomic.Int32
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		transmissions.Add(1)
		srv.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(counted.Close)
	s := open(t, counted.URL, sink.Options{})

	// The contract's table, written down a second time.
	table := map[int]sink.Outcome{
		409: sink.Booked,
		400: sink.Failed, 404: sink.Failed, 410: sink.Failed, 413: sink.Failed, 415: sink.Failed, 422: sink.Failed,
		412: sink.Stale,
		408: sink.Retry, 425: sink.Retry, 429: sink.Retry,
	}
	sent := 0
	for code := 200; code <= 999; code++ {
		want, listed := table[code]
		switch {
		case listed:
		case code < 300:
			want = sink.Booked
		case code >= 500 && code < 600:
			want = sink.Retry
		default:
			want = sink.Refused
		}
		status.Store(int32(code))
		a := s.Deliver(t.Context(), sinktest.Delivery(code))
		sent++
		if a.Outcome != want {
			t.Errorf("HTTP %d is %s, want %s", code, a.Outcome, want)
		}
		if named := strings.Contains(a.Detail+a.FailureReason, fmt.Sprintf("HTTP %d", code)); named != (want != sink.Booked) {
			t.Errorf("HTTP %d without a body: %+v; want the status named where it is no booking", code, a)
		}
	}
	if n := int(transmissions.Load()); n != sent {
		t.Errorf("%d transmissions of %d deliveries", n, sent)
	}
}

func TestHTTPAnswersAtTheEdge(t *testing.T) {
	t.Parallel()
	const jsonHead = "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
	for _, c := range []struct {
		name, answer string
		want         sink.Outcome
		detail       string
		externalID   string
	}{
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: erp\r\n\r\n", sink.Refused, "HTTP 101", ""},
		{"informational, then booked", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + fmt.Sprintf(jsonHead, "200 OK", 21, `{"externalId":"JE-1"}`), sink.Booked, "", "JE-1"},
		{"redirect to nowhere", "HTTP/1.1 302 Found\r\nLocation: http://%zz/\r\nContent-Length: 0\r\n\r\n", sink.Refused, "HTTP 302", ""},
		{"redirect without location", "HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n", sink.Refused, "HTTP 307", ""},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", sink.Booked, "", ""},
		{"blank body", fmt.Sprintf(jsonHead, "200 OK", 3, " \r\n"), sink.Booked, "", ""},
		{"HTML for a booking", fmt.Sprintf(jsonHead, "200 OK", 15, "<html>ok</html>"), sink.Booked, "no JSON object", ""},
		{"an array for a booking", fmt.Sprintf(jsonHead, "200 OK", 2, "[]"), sink.Booked, "no JSON object", ""},
		{"a number as id", fmt.Sprintf(jsonHead, "200 OK", 40, `{"externalId":12345678901234567890.0100}`), sink.Booked, "", "12345678901234567890.0100"},
		{"an object as id", fmt.Sprintf(jsonHead, "200 OK", 39, `{"externalId":{"a":1},"externalUrl":[]}`), sink.Booked, "externalUrl is neither", ""},
		{"booked earlier", fmt.Sprintf(jsonHead, "409 Conflict", 21, `{"externalId":"JE-1"}`), sink.Booked, "", "JE-1"},
		{"body cut off", fmt.Sprintf(jsonHead, "200 OK", 99, `{"externalId":"JE-1"}`), sink.Booked, "broke off", ""},
		{"no HTTP", "220 mail.example ESMTP\r\n", sink.Retry, "malformed", ""},
		{"headers without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", sink.Retry, "header", ""},
		{"nothing", "", sink.Retry, "EOF", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "http://"+rawServer(t, c.answer), sink.Options{Timeout: time.Minute})
			a := s.Deliver(t.Context(), sinktest.Delivery(1))
			if a.Outcome != c.want || a.ExternalID != c.externalID || !strings.Contains(a.Detail, c.detail) || (c.detail == "") != (a.Detail == "") {
				t.Errorf("answer = %+v, want %s, externalId %q, Detail with %q", a, c.want, c.externalID, c.detail)
			}
		})
	}
}

// rawServer answers each connection's first request with the bytes given. After
// a 101 it stays, as a server would that waits for the other protocol; otherwise
// it closes.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		connections.Wait()
	})
	connections.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer func() { _ = conn.Close() }()
				r := bufio.NewReader(conn)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, answer)
				if strings.Contains(answer, " 101 ") {
					_, _ = io.Copy(io.Discard, r)
				}
			})
		}
	})
	return l.Addr().String()
}

func TestHTTPAnswerBodyIsBoundedAndTheConnectionUsedAgain(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	var size atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"externalId":"JE-1","note":"%s"}`, strings.Repeat("x", int(size.Load())))
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{})
	for i := range 10 {
		size.Store(int64(i) * 6000) // below the bound: read to its end
		if a := s.Deliver(t.Context(), sinktest.Delivery(i)); a != (sink.Answer{Outcome: sink.Booked, ExternalID: "JE-1"}) {
			t.Errorf("answer = %+v, want booked as JE-1", a)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("10 deliveries took %d connections, want 1", n)
	}
}

func TestHTTPAnswerBodyOverTheBoundIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"externalId":"`+strings.Repeat("x", 2*sink.MaxAnswerBytes))
		w.(http.Flusher).Flush()
		<-r.Context().Done() // there is no end
	}))
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{Timeout: 5 * time.Second})
	a := s.Deliver(t.Context(), sinktest.Delivery(1))
	if a.Outcome != sink.Booked || a.ExternalID != "" || !strings.Contains(a.Detail, "65536") {
		t.Errorf("a body over the bound: %+v, want booked, with the bound in Detail", a)
	}
}

func TestHTTPPoolHoldsAConnectionForEachJob(t *testing.T) {
	t.Parallel()
	const jobs = 24 // over the transport's own default of 2 a host
	var connections atomic.Int32
	together := make(chan struct{})
	var waiting atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Ledgerline-Attempt") == "1" {
			if waiting.Add(1) == jobs {
				close(together)
			}
			<-together
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{MaxConcurrent: jobs})
	for attempt := range 5 {
		var running sync.WaitGroup
		for job := range jobs {
			running.Go(func() {
				d := sinktest.Delivery(job)
				d.Attempt = uint32(attempt + 1)
				if a := s.Deliver(t.Context(), d); a.Outcome != sink.Booked {
					t.Errorf("job %d: %+v", job, a)
				}
			})
		}
		running.Wait()
	}
	if n := connections.Load(); n > jobs {
		t.Errorf("%d jobs took %d connections, want one each", jobs, n)
	}
}

func TestHTTPRetryAfterAsDate(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait := time.Minute
		if r.Header.Get("Ledgerline-Position") == "2" {
			wait = -time.Minute
		}
		w.Header().Set("Retry-After", time.Now().Add(wait).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{})
	if a := s.Deliver(t.Context(), sinktest.Delivery(0)); a.RetryAfter <= 30*time.Second || a.RetryAfter > time.Minute {
		t.Errorf("a date in a minute: %+v, want a wait of up to a minute", a)
	}
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Retry || a.RetryAfter != 0 {
		t.Errorf("a date in the past: %+v, want Retry without a wait", a)
	}
}

func TestHTTPCredentials(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		if agent := r.Header.Get("User-Agent"); !strings.HasPrefix(agent, "ledgerline/") || r.ProtoMajor != 1 {
			t.Errorf("User-Agent %q over HTTP/%d, want ledgerline/… over HTTP/1.1", agent, r.ProtoMajor)
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"failureReason":"I do not know %s"}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	token := func(texts ...string) func() (string, error) {
		return func() (string, error) {
			text := texts[0]
			if len(texts) > 1 {
				texts = texts[1:]
			}
			return text, nil
		}
	}
	for _, c := range []struct {
		name, spec string
		token      func() (string, error)
		want       []string // Authorization of each delivery in turn
	}{
		{"none", "http://" + host, nil, []string{""}},
		{"empty token", "http://" + host, token(""), []string{""}},
		{"token that changes", "http://" + host, token("tok-one\n", "tok-two"), []string{"Bearer tok-one", "Bearer tok-two"}},
		{"user in the address", "http://erp:s3cr3t%20@" + host, nil, []string{"Basic ZXJwOnMzY3IzdCA="}},
		{"both", "http://erp:s3cr3t@" + host, token("tok-one"), []string{"Bearer tok-one"}},
	} {
		s := open(t, c.spec, sink.Options{Token: c.token})
		for _, want := range c.want {
			a := s.Deliver(t.Context(), sinktest.Delivery(1))
			if got := seen.Load(); got != want {
				t.Errorf("%s: Authorization %q, want %q", c.name, got, want)
			}
			if a.Outcome != sink.Refused || !strings.Contains(a.Detail, "HTTP 401") {
				t.Errorf("%s: %+v, want Refused that names HTTP 401", c.name, a)
			}
			for _, secret := range []string{"tok-", "s3cr3t", "ZXJw"} {
				if strings.Contains(a.Detail, secret) {
					t.Errorf("%s: the Detail tells a secret: %s", c.name, a.Detail)
				}
			}
		}
	}
	seen.Store("nothing sent")
	for name, token := range map[string]func() (string, error){
		"unreadable": func() (string, error) { return "", errors.New("open /run/secrets/sink: permission denied") },
		"line break": token("tok\nX-Other: 1"),
	} {
		s := open(t, srv.URL, sink.Options{Token: token})
		if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Refused || !strings.Contains(a.Detail, "not sent: read the sink's token") || strings.Contains(a.Detail, "X-Other") {
			t.Errorf("%s: %+v, want Refused, not sent", name, a)
		}
	}
	if got := seen.Load(); got != "nothing sent" {
		t.Errorf("a request was sent without a usable token")
	}
}

func TestHTTPConnectionErrorTellsNoCredentials(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := open(t, "http://erp:s3cr3t@"+address+"/hook/s3cr3t?key=s3cr3t", sink.Options{})
	a := s.Deliver(t.Context(), sinktest.Delivery(1))
	if a.Outcome != sink.Retry || !strings.Contains(a.Detail, "refused") || strings.Contains(a.Detail, "s3cr3t") {
		t.Errorf("nobody listens: %+v, want Retry that says so", a)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, sink.ErrNotReady) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("Ready = %v, want ErrNotReady without credentials", err)
	}
}

func TestHTTPReady(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s with %q, want HEAD with the token", r.Method, r.Header.Get("Authorization"))
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{Token: func() (string, error) { return "tok", nil }})
	for code := 200; code <= 999; code++ {
		status.Store(int32(code))
		err := s.Ready(t.Context())
		if notReady := code == 401 || code == 403 || code/100 == 5; notReady != (err != nil) {
			t.Errorf("HTTP %d: Ready = %v", code, err)
		}
		if err != nil && (!errors.Is(err, sink.ErrNotReady) || !strings.Contains(err.Error(), strconv.Itoa(code))) {
			t.Errorf("HTTP %d: Ready = %v, want ErrNotReady that names the status", code, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ready(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready with a context that has ended = %v", err)
	}
}

// A body that never ends must not hold the job beyond the attempt's time, and
// does not undo the booking its status told.
func TestHTTPStatusDecidesWhenTheBodyStalls(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"externalId":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	s := open(t, srv.URL, sink.Options{Timeout: time.Second})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Booked || !strings.Contains(a.Detail, "broke off") {
		t.Errorf("answer = %+v, want booked, and that the body broke off", a)
	}
}
