//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

// askLimit bounds one question to a server.
const askLimit = 2 * time.Second

// server is one NATS server.
type server struct {
	*process
	address string
}

func urls(addresses []string) string {
	return "nats://" + strings.Join(addresses, ",nats://")
}

// addresses names all servers to a client that no link stands before.
func (b *bed) addresses() string {
	var addresses []string
	for _, s := range b.servers {
		addresses = append(addresses, s.address)
	}
	return urls(addresses)
}

// layOutServers makes one server, or a cluster whose nodes see each other through
// links too.
func (b *bed) layOutServers() ([]*server, error) {
	count := 1
	if b.o.Cluster {
		count = nodes
	}
	var addresses, routes, dial []string
	for n := range count {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
		if count == 1 {
			continue
		}
		route, err := freeAddress()
		if err != nil {
			return nil, err
		}
		link, err := b.network.connect(fmt.Sprintf("nats-%d-routes", n+1), []string{everybody}, route)
		if err != nil {
			return nil, err
		}
		routes, dial = append(routes, route), append(dial, link...)
	}
	var servers []*server
	for n := range count {
		name := fmt.Sprintf("nats-%d", n+1)
		// Every write synced: what is acknowledged is on the disk.
		text := fmt.Sprintf("server_name: %q\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\n",
			name, addresses[n], filepath.Join(b.dir, name))
		if count > 1 {
			var others []string
			for other, route := range dial {
				if other != n {
					others = append(others, fmt.Sprintf("%q", "nats-route://"+route))
				}
			}
			// Neither clients nor nodes are told of a way around the links.
			text += fmt.Sprintf("cluster { name: chaos, listen: %q, advertise: %q, no_advertise: true, routes: [%s] }\n",
				routes[n], dial[n], strings.Join(others, ", "))
		}
		config := filepath.Join(b.dir, name+".conf")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the configuration of %s: %w", name, err)
		}
		servers = append(servers, &server{process: b.process(name, "nats-server", nil, "-c", config), address: addresses[n]})
	}
	return servers, nil
}

// ready tells whether the server takes connections.
func (s *server) ready(ctx context.Context) error {
	dialer := net.Dialer{Timeout: askLimit}
	conn, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("reach %s: %w", s.name, err)
	}
	return conn.Close()
}

// ask talks to any server, past the links.
func (b *bed) ask(ctx context.Context, question func(context.Context, jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := nats.Connect(b.addresses(), nats.Timeout(askLimit), nats.MaxReconnects(0))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(askLimit))
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return question(ctx, js)
}

// ledStreams are those whose leader is killed, in turn.
var ledStreams = []string{
	subject.StreamPipe, subject.StreamLedger, subject.StreamEvents, subject.StreamDetected, "KV_" + subject.BucketJobs,
}

// whole tells whether every stream is there, with a leader and, in a cluster, with
// every node up to date.
func (b *bed) whole(ctx context.Context) error {
	return b.ask(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		for _, name := range ledStreams {
			stream, err := js.Stream(ctx, name)
			if err != nil {
				return fmt.Errorf("look up %s: %w", name, err)
			}
			if len(b.servers) == 1 {
				continue
			}
			cluster := stream.CachedInfo().Cluster
			if cluster == nil || cluster.Leader == "" {
				return fmt.Errorf("%s has no leader", name)
			}
			if n := len(cluster.Replicas); n != nodes-1 {
				return fmt.Errorf("%s has %d replicas besides its leader", name, n)
			}
			for _, replica := range cluster.Replicas {
				if replica.Offline || !replica.Current {
					return fmt.Errorf("%s is behind on %s", name, replica.Name)
				}
			}
		}
		return nil
	})
}

// leader finds the server that leads a stream.
func (b *bed) leader(ctx context.Context, name string) (*server, error) {
	var leader string
	err := b.ask(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		if cluster := stream.CachedInfo().Cluster; cluster != nil {
			leader = cluster.Leader
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range b.servers {
		if s.name == leader {
			return s, nil
		}
	}
	return nil, errors.New("stream " + name + " has no leader")
}
