package sink_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/sink/sinktest"
)

func TestNATSWithoutResponder(t *testing.T) {
	t.Parallel()
	srv := startNATS(t)
	s := open(t, "nats:erp.book", sink.Options{NATS: connect(t, srv), Timeout: time.Minute})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Retry || !strings.Contains(a.Detail, "erp.book") {
		t.Errorf("answer = %+v, want Retry at once that names the subject", a)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v, want nil: whether somebody listens cannot be asked without an item", err)
	}
}

func TestNATSAnswersOutOfTheTable(t *testing.T) {
	t.Parallel()
	srv := startNATS(t)
	answer := make(chan string, 1)
	respond(t, srv, func(m *nats.Msg) {
		if err := m.Respond([]byte(<-answer)); err != nil {
			t.Errorf("respond: %v", err)
		}
	})
	s := open(t, "nats:erp.book", sink.Options{NATS: connect(t, srv)})
	for reply, detail := range map[string]string{
		"":                           "no JSON object",
		"booked":                     "no JSON object",
		`{"outcome":"done"}`:         "no outcome",
		`{"outcome":["booked"]}`:     "no outcome",
		`{"outcome":"booked"} again`: "no JSON object",
		`{"outcome":"booked","x":"` + strings.Repeat("x", 64<<10) + `"}`: "over 65536",
	} {
		answer <- reply
		if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Refused || !strings.Contains(a.Detail, detail) {
			t.Errorf("%.40q: %+v, want Refused with %q", reply, a, detail)
		}
	}
}

// Two mistakes that are easily made, and that the Detail must name.
func TestNATSAnswersOfOthers(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(natsStart) {
		t.Fatal("the NATS server did not start")
	}
	nc := connect(t, srv)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ERP", Subjects: []string{"erp.stored"}}); err != nil {
		t.Fatal(err)
	}
	s := open(t, "nats:erp.stored", sink.Options{NATS: nc})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Refused || !strings.Contains(a.Detail, "a stream stores the subject erp.stored") {
		t.Errorf("a stream's answer: %+v, want Refused that says so", a)
	}

	service, err := micro.AddService(nc, micro.Config{Name: "erp", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	if err := service.AddEndpoint("book", micro.HandlerFunc(func(r micro.Request) { _ = r.Error("500", "no period is open", nil) }), micro.WithEndpointSubject("erp.micro")); err != nil {
		t.Fatal(err)
	}
	s = open(t, "nats:erp.micro", sink.Options{NATS: nc})
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Refused || !strings.Contains(a.Detail, "500 no period is open") {
		t.Errorf("a service error: %+v, want Refused that names it", a)
	}
}

func TestNATSItemOverTheServersLimit(t *testing.T) {
	t.Parallel()
	srv := startNATS(t)
	var transmissions atomic.Int32
	respond(t, srv, func(*nats.Msg) { transmissions.Add(1) })
	s := open(t, "nats:erp.book", sink.Options{NATS: connect(t, srv)})
	d := sinktest.Delivery(1)
	d.Item = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
	if a := s.Deliver(t.Context(), d); a.Outcome != sink.Refused || !strings.Contains(a.Detail, "max_payload of 1048576") {
		t.Errorf("answer = %+v, want Refused that names the limit", a)
	}
	if n := transmissions.Load(); n != 0 {
		t.Errorf("%d transmissions, want 0", n)
	}
}

// What is published while the client reconnects would be sent later: after the
// attempt was given up, and perhaps by a worker that has lost the job.
func TestNATSSendsNothingWhileDisconnected(t *testing.T) {
	t.Parallel()
	srv := startNATS(t)
	disconnected := make(chan struct{})
	nc, err := nats.Connect(srv.ClientURL(), nats.MaxReconnects(-1), nats.DisconnectErrHandler(func(*nats.Conn, error) { close(disconnected) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s := open(t, "nats:erp.book", sink.Options{NATS: nc, Timeout: time.Second})
	srv.Shutdown()
	<-disconnected
	if a := s.Deliver(t.Context(), sinktest.Delivery(1)); a.Outcome != sink.Retry || !strings.Contains(a.Detail, "not sent") {
		t.Errorf("answer = %+v, want Retry, not sent", a)
	}
	if n, err := nc.Buffered(); err != nil || n != 0 {
		t.Errorf("%d bytes (%v) wait to be sent later, want 0", n, err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, sink.ErrNotReady) {
		t.Errorf("Ready = %v, want ErrNotReady", err)
	}
}
