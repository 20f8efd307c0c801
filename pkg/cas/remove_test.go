package cas_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// One message goes, its neighbours on the subject stay; one that is gone already
// is no error, a server that does not answer is.
func TestRemovesOneMessage(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	var sequences []uint64
	for _, data := range []string{"first", "second", "third"} {
		last := uint64(0)
		if n := len(sequences); n > 0 {
			last = sequences[n-1]
		}
		sequences = append(sequences, put(t, js, stream, data, last))
	}
	for range 2 {
		if err := cas.Remove(within(t), stream, sequences[1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.GetMsg(within(t), sequences[1]); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("the removed message reads %v", err)
	}
	if n := count(t, stream); n != 2 {
		t.Errorf("%d messages are left, want 2", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cas.Remove(ended, stream, sequences[0]); err == nil {
		t.Error("removed without an answer")
	}
}
