package cas_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

func payloads(prefix string, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = fmt.Appendf(nil, "%s %d", prefix, i)
	}
	return all
}

func TestABatchIsStoredWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	last, err := cas.PutBatch(within(t), js, stream, "s.a", payloads("first", cas.MaxBatch), 0)
	if err != nil || last != cas.MaxBatch {
		t.Fatalf("stored up to %d: %v", last, err)
	}
	if _, err := cas.PutBatch(within(t), js, stream, "s.a", payloads("late", 10), 0); !errors.Is(err, cas.ErrConflict) {
		t.Errorf("a batch in the place of another: %v", err)
	}
	// Chained: each after the one before, the last of them a single message.
	for _, size := range []int{2, 100, 1} {
		next, err := cas.PutBatch(within(t), js, stream, "s.a", payloads(fmt.Sprint("chained ", size), size), last)
		if err != nil || next != last+uint64(size) {
			t.Fatalf("%d messages after %d end at %d: %v", size, last, next, err)
		}
		last = next
	}
	if n := count(t, stream); n != last {
		t.Errorf("%d messages are stored, not %d", n, last)
	}
}

func TestABatchThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	var apiErr *jetstream.APIError
	_, err := cas.PutBatch(within(t), js, stream, "s.a", payloads("x", cas.MaxBatch+1), 0)
	if !errors.As(err, &apiErr) || errors.Is(err, cas.ErrConflict) {
		t.Errorf("%v", err)
	}
	if n := count(t, stream); n != 0 {
		t.Errorf("%d messages are stored, not 0", n)
	}
}

func TestOneOfManyBatchesWins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		replicas int
		js       func(*testing.T) jetstream.JetStream
	}{
		{"one node", 1, func(t *testing.T) jetstream.JetStream { return natstest.Start(t).JetStream(t) }},
		{"three nodes", 3, func(t *testing.T) jetstream.JetStream { return natstest.JetStream(t, natstest.StartCluster(t).URL()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := c.js(t)
			stream := makeStream(t, js, c.replicas)
			const writers, rounds, size = 5, 4, 50
			var expected uint64
			for round := range rounds {
				expected = race(writers, func(i int) (uint64, error) {
					return cas.PutBatch(within(t), js, stream, "s.a", payloads(fmt.Sprintf("round %d writer %d", round, i), size), expected)
				}, t)
				// Contiguous and of one writer: the messages up to the last are its own.
				last, err := stream.GetMsg(within(t), expected)
				if err != nil {
					t.Fatal(err)
				}
				var winner int
				if _, err := fmt.Sscanf(string(last.Data), fmt.Sprintf("round %d writer %%d", round), &winner); err != nil {
					t.Fatalf("%q: %v", last.Data, err)
				}
				for i, want := range payloads(fmt.Sprintf("round %d writer %d", round, winner), size) {
					msg, err := stream.GetMsg(within(t), expected-size+1+uint64(i))
					if err != nil || string(msg.Data) != string(want) {
						t.Fatalf("message %d is %q, not %q: %v", i, msg.Data, want, err)
					}
				}
			}
			if n := count(t, stream); n != rounds*size {
				t.Errorf("%d messages are stored, not %d", n, rounds*size)
			}
		})
	}
}

// leaky loses one message of the first batch: it goes to a server that has no
// such stream.
type leaky struct {
	jetstream.JetStream
	elsewhere *nats.Conn
	calls     int
}

func (l *leaky) Conn() *nats.Conn {
	const third = 4 // two calls for the first message, one for the second
	if l.calls++; l.calls == third {
		return l.elsewhere
	}
	return l.JetStream.Conn()
}

func TestABatchThatTheServerDroppedIsSentAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	lossy := &leaky{JetStream: js, elsewhere: natstest.Start(t).JetStream(t).Conn()}
	last, err := cas.PutBatch(within(t), lossy, stream, "s.a", payloads("x", 10), 0)
	if err != nil || last != 10 || lossy.calls <= 11 {
		t.Errorf("stored up to %d after %d calls: %v", last, lossy.calls, err)
	}
	if n := count(t, stream); n != 10 {
		t.Errorf("%d messages are stored, not 10", n)
	}
}
