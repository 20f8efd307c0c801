package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

const (
	// hostileTimeout is the time of one attempt: on a busy machine an answer that was
	// given must not come too late, since it would be no verdict then.
	hostileTimeout = slowness * 5 * time.Second
	// actAsSink makes this test's own binary the command of an exec: sink: it hands
	// each line to the address that the variable names.
	actAsSink = "LEDGERLINE_TEST_ACT_AS_SINK"
)

func openHostile(in *installation, spec string) sink.Sink {
	in.t.Helper()
	to, err := sink.Open(spec, sink.Options{Timeout: hostileTimeout, NATS: in.conn, Logger: in.logger()})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() {
		if err := to.Close(); err != nil {
			in.t.Error(err)
		}
	})
	return to
}

func readDelivered(body io.Reader) (d deliveredItem, err error) {
	var item struct {
		AccountingEntryID string `json:"accountingEntryId"`
		Position          uint32 `json:"position"`
		Epoch             uint64 `json:"epoch"`
		Attempt           uint32 `json:"attempt"`
	}
	err = json.NewDecoder(body).Decode(&item)
	return deliveredItem{item.AccountingEntryID, item.Position, item.Attempt, item.Epoch}, err
}

// hostileHTTP answers over HTTP; redirects point at itself, where nothing may come.
func hostileHTTP(in *installation, seed uint64, record *hostileRecord) sink.Sink {
	in.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { in.t.Error("a redirect was followed") })
	mux.HandleFunc("/book", func(w http.ResponseWriter, r *http.Request) {
		d, err := readDelivered(r.Body)
		if err != nil {
			if r.Context().Err() == nil { // the asker has not given up
				in.t.Error(err)
			}
			return
		}
		a := hostileScript(seed, d)
		record.add(d, a)
		switch a.how {
		case noAnswer:
			<-r.Context().Done()
			return
		case resetBefore:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				in.t.Error(err)
				return
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
			return
		}
		w.Header().Set("Location", "/elsewhere")
		if a.retry != "" {
			w.Header().Set("Retry-After", a.retry)
		}
		if a.how == cutBody {
			w.Header().Set("Content-Length", fmt.Sprint(len(a.body)+100))
		}
		w.WriteHeader(a.status)
		if a.status != http.StatusNoContent {
			_, _ = io.WriteString(w, a.body)
		}
		if a.how == cutBody {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	server := httptest.NewServer(mux)
	in.t.Cleanup(server.Close)
	return openHostile(in, server.URL+"/book")
}

// line is an answer as exec: and nats: sinks give it, or text that is none.
func (a hostileAnswer) line() string {
	body := map[string]any{}
	if json.Unmarshal([]byte(a.body), &body) != nil || body == nil {
		body = map[string]any{}
	}
	switch {
	case a.outcome == sink.Refused && a.status%2 == 0:
		return "Traceback: " + strings.NewReplacer("\n", " ", "\x00", " ").Replace(a.body[:min(len(a.body), 100)])
	case a.outcome == sink.Refused && a.status%3 == 0:
		body["outcome"] = "perhaps"
	default:
		body["outcome"] = a.outcome.String()
	}
	if a.retry != "" {
		body["retryAfterSeconds"] = 0.1
	}
	text, err := json.Marshal(body)
	if err != nil {
		return ""
	}
	return string(text)
}

// hostileNATS answers over request and reply.
func hostileNATS(in *installation, seed uint64, record *hostileRecord) sink.Sink {
	in.t.Helper()
	conn := in.connect()
	in.t.Cleanup(conn.Close)
	if _, err := conn.Subscribe("erp.book", func(msg *nats.Msg) {
		d, err := readDelivered(bytes.NewReader(msg.Data))
		if err != nil {
			in.t.Error(err)
			return
		}
		a := hostileScript(seed, d)
		record.add(d, a)
		if a.how == noAnswer || a.how == resetBefore {
			return
		}
		if err := msg.Respond([]byte(a.line())); err != nil {
			in.t.Error(err)
		}
	}); err != nil {
		in.t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		in.t.Fatal(err)
	}
	return openHostile(in, "nats:erp.book")
}

// hostileExec answers through a command: this binary, which asks back over HTTP what
// to say. Without an answer it says nothing, or ends.
func hostileExec(in *installation, seed uint64, record *hostileRecord) sink.Sink {
	in.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := readDelivered(r.Body)
		if err != nil {
			if r.Context().Err() == nil { // the asker has not given up
				in.t.Error(err)
			}
			return
		}
		a := hostileScript(seed, d)
		record.add(d, a)
		switch a.how {
		case noAnswer:
			w.WriteHeader(http.StatusAccepted)
		case resetBefore:
			w.WriteHeader(http.StatusGone)
		default:
			_, _ = io.WriteString(w, a.line())
		}
	}))
	in.t.Cleanup(server.Close)
	return openHostile(in, fmt.Sprintf("exec:%s=%s exec '%s'", actAsSink, server.URL, os.Args[0]))
}

// serveAsSink is the command.
func serveAsSink(url string) int {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return 0
		}
		response, err := http.Post(url, "application/json", bytes.NewReader(line))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		switch {
		case err != nil || response.StatusCode == http.StatusGone:
			return 3
		case response.StatusCode == http.StatusAccepted:
			continue
		}
		fmt.Println(string(text))
	}
}
