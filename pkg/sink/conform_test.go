package sink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

// natsStart bounds the start of a NATS server, which takes a tenth of a second.
const natsStart = 30 * time.Second

func TestHTTPConforms(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Target{
		Headers: true,
		Open: func(t *testing.T, far *sinktest.Far, o sink.Options) sink.Sink {
			srv := httptest.NewServer(farHandler(t, far))
			t.Cleanup(srv.Close)
			return open(t, srv.URL+"/book?as=json", o)
		},
	})
}

func TestExecConforms(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Target{
		Lines: true,
		Open: func(t *testing.T, far *sinktest.Far, o sink.Options) sink.Sink {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				line, err := io.ReadAll(r.Body)
				if err != nil {
					t.Errorf("read what the child read: %v", err)
				}
				switch reply := far.Receive(sinktest.Received{Body: line}); {
				case reply.Silent:
					w.WriteHeader(statusSilent)
				case reply.Broken:
					w.WriteHeader(statusBroken)
				default:
					_, _ = w.Write(reply.JSON())
				}
			}))
			t.Cleanup(srv.Close)
			return open(t, "exec:"+childCommand("relay", "SINK_TEST_FAR="+srv.URL), o)
		},
	})
}

func TestNATSConforms(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Target{
		Headers: true,
		Open: func(t *testing.T, far *sinktest.Far, o sink.Options) sink.Sink {
			srv := startNATS(t)
			respond(t, srv, func(m *nats.Msg) {
				header := map[string]string{}
				for name := range m.Header {
					header[strings.ToLower(name)] = m.Header.Get(name)
				}
				reply := far.Receive(sinktest.Received{Header: header, Body: m.Data})
				if reply.Silent || reply.Broken {
					return
				}
				if err := m.Respond(reply.JSON()); err != nil {
					t.Errorf("respond: %v", err)
				}
			})
			o.NATS = connect(t, srv)
			return open(t, "nats:erp.book", o)
		},
	})
}

func TestFileConforms(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Target{
		Lines:      true,
		BookedOnly: true,
		Open: func(t *testing.T, far *sinktest.Far, o sink.Options) sink.Sink {
			path := filepath.Join(t.TempDir(), "bookings.jsonl")
			far.Kept = func() []sinktest.Received { return fileLines(t, path) }
			return open(t, "file:"+path, o)
		},
	})
}

func TestLogConforms(t *testing.T) {
	t.Parallel()
	sinktest.Run(t, sinktest.Target{
		BookedOnly: true,
		NoBody:     true,
		Open: func(t *testing.T, far *sinktest.Far, o sink.Options) sink.Sink {
			log, logger := recordLog()
			far.Kept = func() []sinktest.Received {
				var received []sinktest.Received
				for _, line := range log.lines() {
					received = append(received, sinktest.Received{Body: []byte(line)})
				}
				return received
			}
			o.Logger = logger
			return open(t, "log:", o)
		},
	})
}

// farHandler is a sink over HTTP that does as far says.
func farHandler(t *testing.T, far *sinktest.Far) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/book?as=json" {
			t.Errorf("request %s %s, want POST /book?as=json", r.Method, r.URL.RequestURI())
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			t.Errorf("body of %d bytes (%v), Content-Length %d", len(body), err, r.ContentLength)
		}
		header := map[string]string{}
		for name := range r.Header {
			header[strings.ToLower(name)] = r.Header.Get(name)
		}
		reply := far.Receive(sinktest.Received{Header: header, Body: body})
		switch {
		case reply.Silent:
			<-r.Context().Done()
			return
		case reply.Broken:
			panic(http.ErrAbortHandler)
		case reply.RetryAfterSeconds != 0:
			w.Header().Set("Retry-After", strconv.Itoa(reply.RetryAfterSeconds))
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(map[sink.Outcome]int{
			sink.Booked: http.StatusCreated, sink.Failed: http.StatusUnprocessableEntity, sink.Stale: http.StatusPreconditionFailed,
			sink.Retry: http.StatusServiceUnavailable, sink.Refused: http.StatusForbidden,
		}[reply.Outcome])
		_, _ = w.Write(reply.Fields())
	})
}

func open(t *testing.T, spec string, o sink.Options) sink.Sink {
	t.Helper()
	s, err := sink.Open(spec, o)
	if err != nil {
		t.Fatalf("open %s: %v", spec, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close %s: %v", spec, err)
		}
	})
	return s
}

func startNATS(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatalf("make a NATS server: %v", err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(natsStart) {
		t.Fatal("the NATS server did not start")
	}
	return srv
}

func connect(t *testing.T, srv *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatalf("connect to NATS: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// respond answers erp.book, each message in its own goroutine.
func respond(t *testing.T, srv *server.Server, handle func(*nats.Msg)) {
	t.Helper()
	nc := connect(t, srv)
	if _, err := nc.Subscribe("erp.book", func(m *nats.Msg) { go handle(m) }); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatalf("flush the subscription: %v", err)
	}
}

func childCommand(kind string, env ...string) string {
	return childVariable + "=" + kind + " " + strings.Join(env, " ") + " exec '" + os.Args[0] + "'"
}

func fileLines(t *testing.T, path string) []sinktest.Received {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var lines []sinktest.Received
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return lines
		}
		if err != nil {
			t.Fatalf("%s ends in %q: %v", path, line, err)
		}
		lines = append(lines, sinktest.Received{Body: line})
	}
}

func contextWithin(t *testing.T, limit time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), limit)
}

func entry(t *testing.T, line []byte) string {
	t.Helper()
	var b struct {
		AccountingEntryID string `json:"accountingEntryId"`
	}
	if err := json.Unmarshal(line, &b); err != nil {
		t.Fatalf("read line %q: %v", line, err)
	}
	return b.AccountingEntryID
}
