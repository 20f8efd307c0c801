package fetcher

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// leaderless answers the second look-up of each stream as servers do that are
// electing a leader. The first is the one that finds all streams there.
type leaderless struct {
	jetstream.JetStream
	mu    sync.Mutex
	looks map[string]int
}

func (l *leaderless) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	l.mu.Lock()
	l.looks[name]++
	look := l.looks[name]
	l.mu.Unlock()
	if look == 2 {
		return nil, context.DeadlineExceeded
	}
	return l.JetStream.Stream(ctx, name)
}

// A leader that is lost while a worker starts is waited for: the worker does not
// end.
func TestAStartWaitsForALeader(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	options := topology.Options{Replicas: 1, Lease: time.Minute}
	if err := topology.Ensure(ctx, js, options, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{
		Conn: js.Conn(), Logger: zerolog.Nop(), Order: OrderEntry,
		Topology: options, APITimeout: topology.APITimeout(options.Lease),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.js = &leaderless{JetStream: f.js, looks: map[string]int{}}
	if err := f.open(ctx); err != nil {
		t.Fatal(err)
	}
	if looks := f.js.(*leaderless).looks[subject.StreamLedger]; looks < 3 {
		t.Errorf("the ledger was looked up %d times", looks)
	}
}
