package natstest

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Network lies between clients and a server.
type Network struct {
	listener net.Listener
	target   string
	muted    atomic.Bool
	cut      atomic.Bool
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// StartNetwork leads to the server at url.
func StartNetwork(t testing.TB, url string) *Network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{listener: listener, target: strings.TrimPrefix(url, "nats://"), conns: map[net.Conn]struct{}{}}
	n.running.Go(n.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		n.Cut()
		n.running.Wait()
	})
	return n
}

// URL is where clients connect instead of the server's.
func (n *Network) URL() string { return "nats://" + n.listener.Addr().String() }

// Mute loses what the server says from now on; what clients say arrives.
func (n *Network) Mute() { n.muted.Store(true) }

// Cut ends every connection and refuses new ones until Mend.
func (n *Network) Cut() {
	n.cut.Store(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		_ = conn.Close()
	}
}

// Mend lets clients connect again, and hear.
func (n *Network) Mend() {
	n.muted.Store(false)
	n.cut.Store(false)
}

func (n *Network) accept() {
	for {
		client, err := n.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", n.target)
		if err != nil || !n.keep(client, server) {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		n.running.Go(func() { n.pipe(server, client, func() bool { return false }) })
		n.running.Go(func() { n.pipe(client, server, n.muted.Load) })
	}
}

func (n *Network) keep(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut.Load() {
		return false
	}
	for _, conn := range conns {
		n.conns[conn] = struct{}{}
	}
	return true
}

func (n *Network) pipe(to, from net.Conn, lose func() bool) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, to)
		delete(n.conns, from)
	}()
	buffer := make([]byte, 32<<10)
	for {
		read, err := from.Read(buffer)
		if read > 0 && !lose() {
			if _, err := to.Write(buffer[:read]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
