package fetcher

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

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
	servers := natstest.NewLeaderless(f.js)
	f.js = servers
	if err := f.open(ctx); err != nil {
		t.Fatal(err)
	}
	if looks := servers.Looks(subject.StreamLedger); looks < 3 {
		t.Errorf("the ledger was looked up %d times", looks)
	}
}
