package natstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// startLimit ends a test whose server does not come up; it is far above what
	// that takes on a busy machine.
	startLimit = 30 * time.Second
	// apiTimeout of the clients: above what a busy machine needs, far below the
	// limit of a test that loses replies on purpose.
	apiTimeout = 2 * time.Second
	// reconnectWait is short, so that a test with a cut network goes on at once.
	reconnectWait = 20 * time.Millisecond
)

// Server is one node.
type Server struct {
	srv  *server.Server
	opts server.Options
}

// Start runs one node with JetStream until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{opts: options(t)}
	s.Restart(t)
	t.Cleanup(s.Stop)
	return s
}

func options(t testing.TB) server.Options {
	return server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), DisableJetStreamBanner: true,
	}
}

// Restart runs the node again after Stop, at the same address with the same store.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	s.srv = srv
	if !srv.ReadyForConnections(startLimit) {
		t.Fatal("the NATS server does not start")
	}
	s.opts.Port = opts.Port
}

// Stop ends the node and waits for its end.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Damage changes a byte of the message with that content, of one stream, while the
// node is down.
func (s *Server) Damage(t testing.TB, stream string, message []byte) {
	t.Helper()
	block := filepath.Join(s.opts.StoreDir, "jetstream", "$G", "streams", stream, "msgs", "1.blk")
	content, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, message)
	if at < 0 {
		t.Fatalf("%q is not in %s", message, block)
	}
	content[at] ^= 0xff
	if err := os.WriteFile(block, content, 0o600); err != nil { //nolint:gosec // a file of the test's own store
		t.Fatal(err)
	}
}

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port) }

// JetStream connects a client of its own.
func (s *Server) JetStream(t testing.TB) jetstream.JetStream { return JetStream(t, s.URL()) }

// JetStream connects a client to url, which may name several nodes.
func JetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	closed := make(chan struct{})
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(0, 0), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		<-closed
	})
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		t.Fatal(err)
	}
	return js
}
