package endtoend

import (
	"net"
	"sync"

	"github.com/nats-io/nats.go"
)

// wire is a worker's connection to NATS that can be cut without anybody being
// told, as by a switch that drops packets or by a process that is stopped, and
// healed again: what was written meanwhile then arrives late.
type wire struct {
	mu      sync.Mutex
	cut     chan struct{} // nil: not cut; closed when it is healed
	waiting []byte
	conn    net.Conn
	closed  chan struct{}
	close   func()
}

func (w *wire) option() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer = &wiredServer{wire: w, server: o.InProcessServer}
		return nil
	}
}

type wiredServer struct {
	wire   *wire
	server nats.InProcessConnProvider
}

func (s *wiredServer) InProcessConn() (net.Conn, error) {
	conn, err := s.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.wire.conn, s.wire.closed = conn, make(chan struct{})
	closed := s.wire.closed
	s.wire.close = sync.OnceFunc(func() { close(closed) })
	return &wiredConn{Conn: conn, wire: s.wire}, nil
}

// stall cuts the wire.
func (w *wire) stall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut == nil {
		w.cut = make(chan struct{})
	}
}

// resume heals it.
func (w *wire) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut == nil {
		return
	}
	// A connection that was closed meanwhile takes nothing more.
	_, _ = w.conn.Write(w.waiting)
	w.waiting = nil
	close(w.cut)
	w.cut = nil
}

type wiredConn struct {
	net.Conn
	wire *wire
}

func (c *wiredConn) Write(p []byte) (int, error) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if c.wire.cut != nil {
		c.wire.waiting = append(c.wire.waiting, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *wiredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.mu.Lock()
	cut, closed := c.wire.cut, c.wire.closed
	c.wire.mu.Unlock()
	if cut != nil {
		select {
		case <-cut:
		case <-closed:
		}
	}
	return n, err
}

func (c *wiredConn) Close() error {
	c.wire.close()
	return c.Conn.Close()
}
