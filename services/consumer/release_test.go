package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// The manifest of an ended run goes alone, acked first: an earlier run's that is
// still in a worker's hand stays, and the durable's ack floor stays behind every
// manifest that is held.
func TestReleaseRemovesItsOwnManifestOnly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	pipe, err := js.Stream(ctx, subject.StreamPipe)
	if err != nil {
		t.Fatal(err)
	}
	held, id, other := uuid.New(), uuid.New(), uuid.New()
	var taken []jetstream.Msg
	for _, of := range []uuid.UUID{held, id, id, other} {
		if _, err := js.Publish(ctx, subject.Ready(of), []byte("a manifest")); err != nil {
			t.Fatal(err)
		}
		msg, _, err := pull.Next(ctx, js, subject.StreamPipe, subject.DurableConsumer, pullWait)
		if err != nil || msg == nil {
			t.Fatalf("no manifest came: %v", err)
		}
		taken = append(taken, msg)
	}
	const ended = 2 // the later run of the job
	releasing := &job{c: &Consumer{pipe: pipe}, id: id, msg: taken[ended]}
	if err := releasing.release(ctx); err != nil {
		t.Fatal(err)
	}
	if err := taken[3].DoubleAck(ctx); err != nil {
		t.Fatal(err)
	}
	durable, err := js.Consumer(ctx, subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		t.Fatal(err)
	}
	for n, msg := range taken {
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if floor := durable.CachedInfo().AckFloor.Stream; n == 0 && floor >= meta.Sequence.Stream {
			t.Errorf("the ack floor %d has passed the held manifest %d", floor, meta.Sequence.Stream)
		}
		_, err = pipe.GetMsg(ctx, meta.Sequence.Stream)
		if gone := err != nil; gone != (n == ended) {
			t.Errorf("manifest %d of 4: gone is %v: %v", n+1, gone, err)
		}
	}
}
