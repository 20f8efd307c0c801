package natstest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// nodes of a cluster: the smallest that goes on without one of them.
const nodes = 3

// Cluster is three nodes.
type Cluster struct {
	nodes map[string]*server.Server
}

// StartCluster runs three nodes with JetStream until the test ends.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	ports := freePorts(t)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	c := &Cluster{nodes: map[string]*server.Server{}}
	for i, port := range ports {
		opts := options(t)
		opts.ServerName = fmt.Sprintf("node-%d", i+1)
		opts.Cluster = server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: port}
		opts.Routes = routes
		srv, err := server.NewServer(&opts)
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		c.nodes[opts.ServerName] = srv
		t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
	}
	for _, srv := range c.nodes {
		if !srv.ReadyForConnections(startLimit) {
			t.Fatal("a NATS server does not start")
		}
	}
	until(t, "the cluster has a leader that knows all nodes", func() bool {
		for _, srv := range c.nodes {
			if srv.JetStreamIsLeader() {
				return len(srv.JetStreamClusterPeers()) == nodes
			}
		}
		return false
	})
	return c
}

// CreateStream makes a stream. A request that reaches a new cluster in the wrong
// moment is never answered, so it is asked again.
func CreateStream(t testing.TB, js jetstream.JetStream, config jetstream.StreamConfig) (stream jetstream.Stream) {
	t.Helper()
	until(t, "stream "+config.Name+" is made", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), apiTimeout)
		defer cancel()
		var err error
		stream, err = js.CreateStream(ctx, config)
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		return err == nil
	})
	return stream
}

// URL names all nodes.
func (c *Cluster) URL() string {
	var urls []string
	for _, srv := range c.nodes {
		urls = append(urls, srv.ClientURL())
	}
	return strings.Join(urls, ",")
}

// StopLeader ends the node that leads a stream, for good.
func (c *Cluster) StopLeader(t testing.TB, js jetstream.JetStream, stream string) {
	t.Helper()
	var leader string
	until(t, "stream "+stream+" has a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), apiTimeout)
		defer cancel()
		handle, err := js.Stream(ctx, stream)
		if err == nil {
			leader = handle.CachedInfo().Cluster.Leader
		}
		return leader != ""
	})
	c.nodes[leader].Shutdown()
	c.nodes[leader].WaitForShutdown()
}

func freePorts(t testing.TB) []int {
	t.Helper()
	var ports []int
	for range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// until asks again and again, for what no event tells.
func until(t testing.TB, what string, good func() bool) {
	t.Helper()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(reconnectWait)
	defer tick.Stop()
	for !good() {
		select {
		case <-limit.C:
			t.Fatalf("waited %s in vain: %s", startLimit, what)
		case <-tick.C:
		}
	}
}
