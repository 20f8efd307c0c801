package history_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// limit ends a test that hangs.
const limit = time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// fill makes a stream with n messages, in turn on s.0, s.1 and s.2.
func fill(t *testing.T, js jetstream.JetStream, n, replicas int) jetstream.Stream {
	t.Helper()
	stream := natstest.CreateStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: replicas})
	add(t, js, 0, n)
	return stream
}

func add(t *testing.T, js jetstream.JetStream, from, to int) {
	t.Helper()
	var stored []jetstream.PubAckFuture
	for i := from; i < to; i++ {
		// In a cluster not every server knows a new stream at once.
		ack, err := js.PublishAsync(fmt.Sprintf("s.%d", i%3), fmt.Append(nil, i), jetstream.WithRetryAttempts(40))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, ack)
	}
	for _, ack := range stored {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		case <-within(t).Done():
			t.Fatal("the messages are not stored")
		}
	}
}

// collected is what a reading visited, by sequence.
type collected []uint64

func (c *collected) visit(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
	if want := fmt.Sprint(meta.Sequence.Stream - 1); string(msg.Data()) != want {
		return fmt.Errorf("message %d is %q", meta.Sequence.Stream, msg.Data())
	}
	*c = append(*c, meta.Sequence.Stream)
	return nil
}

func numbers(n uint64, keep func(uint64) bool) (all collected) {
	for i := uint64(1); i <= n; i++ {
		if keep(i) {
			all = append(all, i)
		}
	}
	return all
}

func consumers(t *testing.T, stream jetstream.Stream) int {
	t.Helper()
	info, err := stream.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Consumers
}

func TestReadsAllInOrderUpToTheSequence(t *testing.T) {
	t.Parallel()
	const n = 1_000
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, n, 1)
	for _, upTo := range []uint64{1, 2, 64, 65, 700, n} {
		var got collected
		if err := history.Read(within(t), stream, []string{"s.*"}, upTo, got.visit); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, numbers(upTo, func(uint64) bool { return true })) {
			t.Errorf("up to %d: %v", upTo, got)
		}
	}
	var got collected
	if err := history.Read(within(t), stream, []string{"s.0", "s.2"}, n, got.visit); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, numbers(n, func(i uint64) bool { return (i-1)%3 != 1 })) {
		t.Errorf("on two subjects: %v", got)
	}
	if n := consumers(t, stream); n != 0 {
		t.Errorf("%d consumers are left", n)
	}
}

func TestWaitsForTheSequence(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 1, 1)
	var got collected
	first, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- history.Read(within(t), stream, []string{"s.*"}, 100, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
			if len(got) == 0 {
				close(first)
			}
			return got.visit(msg, meta)
		})
	}()
	<-first
	add(t, js, 1, 120)
	if err := <-done; err != nil || len(got) != 100 {
		t.Errorf("read %d messages, not 100: %v", len(got), err)
	}
}

func TestAMessageThatIsGoneIsToldOf(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 9, 1)
	if err := stream.DeleteMsg(within(t), 9); err != nil {
		t.Fatal(err)
	}
	var got collected
	if err := history.Read(within(t), stream, []string{"s.*"}, 9, got.visit); !errors.Is(err, history.ErrGone) {
		t.Errorf("nothing comes after it: %v", err)
	}
	add(t, js, 9, 10)
	if err := history.Read(within(t), stream, []string{"s.*"}, 9, func(jetstream.Msg, *jetstream.MsgMetadata) error { return nil }); !errors.Is(err, history.ErrGone) {
		t.Errorf("another comes after it: %v", err)
	}
}

// What the server has delivered into a cut connection it does not deliver again.
func TestADeliveryThatWasLostIsReadAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ n, lost int }{
		"others come after it": {300, 3},
		"nothing after it":     {40, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := natstest.Start(t).JetStream(t)
			lossy := &skipping{Stream: fill(t, js, c.n, 1), pulls: c.lost}
			var got collected
			if err := history.Read(within(t), lossy, []string{"s.*"}, uint64(c.n), got.visit); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, numbers(uint64(c.n), func(uint64) bool { return true })) {
				t.Errorf("%d messages of %d: %v", len(got), c.n, got)
			}
			if lossy.pulls != 0 {
				t.Error("nothing was lost")
			}
		})
	}
}

// skipping loses its first pulls.
type skipping struct {
	jetstream.Stream
	pulls int // still to lose
}

func (s *skipping) CreateConsumer(ctx context.Context, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := s.Stream.CreateConsumer(ctx, c)
	return &thief{Consumer: consumer, from: s}, err
}

type thief struct {
	jetstream.Consumer
	from *skipping
}

func (c *thief) Fetch(batch int, opts ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	if c.from.pulls > 0 {
		c.from.pulls--
		lost, err := c.Consumer.Fetch(batch, opts...)
		if err != nil {
			return nil, err
		}
		for range lost.Messages() { // thrown away
		}
	}
	return c.Consumer.Fetch(batch, opts...)
}

func TestSnapshotReadsWhatIsThere(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 200, 1)
	var got collected
	if err := history.Snapshot(within(t), stream, []string{"s.*"}, got.visit); err != nil || len(got) != 200 {
		t.Errorf("%d messages: %v", len(got), err)
	}
	if err := stream.Purge(within(t)); err != nil {
		t.Fatal(err)
	}
	got = nil
	if err := history.Snapshot(within(t), stream, []string{"s.*"}, got.visit); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %d messages: %v", len(got), err)
	}
	if n := consumers(t, stream); n != 0 {
		t.Errorf("%d consumers are left", n)
	}
}

func TestSnapshotEndsWhenTheRestIsPurged(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 200, 1)
	var got collected
	err := history.Snapshot(within(t), stream, []string{"s.*"}, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if len(got) == 0 {
			if err := stream.Purge(within(t)); err != nil {
				return err
			}
		}
		return got.visit(msg, meta)
	})
	if err != nil || len(got) == 0 || len(got) == 200 {
		t.Errorf("%d messages: %v", len(got), err)
	}
}

func TestTheVisitorsErrorEndsTheReading(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 10, 1)
	stop := errors.New("enough")
	visited := 0
	err := history.Read(within(t), stream, []string{"s.*"}, 10, func(jetstream.Msg, *jetstream.MsgMetadata) error {
		visited++
		return stop
	})
	if !errors.Is(err, stop) || visited != 1 {
		t.Errorf("%d visits: %v", visited, err)
	}
	if n := consumers(t, stream); n != 0 {
		t.Errorf("%d consumers are left", n)
	}
}

func TestTheEndOfTheContextEndsTheReading(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := fill(t, js, 10, 1)
	cause := errors.New("the lease ran out")
	ctx, cancel := context.WithCancelCause(within(t))
	err := history.Read(ctx, stream, []string{"s.*"}, 11, func(_ jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if meta.Sequence.Stream == 10 {
			cancel(cause)
		}
		return nil
	})
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if n := consumers(t, stream); n != 0 {
		t.Errorf("%d consumers are left", n)
	}
}

// A request that is never answered, since its server ended meanwhile, ends the reading
// soon: the context of a job ends with the job's time, hours away.
func TestARequestThatIsNeverAnsweredDoesNotHoldAReading(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	network := natstest.StartNetwork(t, server.URL())
	stream := fill(t, natstest.JetStream(t, network.URL()), 10, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	network.Mute()
	ended := make(chan error, 1)
	go func() {
		ended <- history.Read(ctx, stream, []string{"s.*"}, 10, func(jetstream.Msg, *jetstream.MsgMetadata) error { return nil })
	}()
	select {
	case err := <-ended:
		if !natsconn.Unanswered(err) {
			t.Errorf("%v", err)
		}
	case <-within(t).Done():
		t.Error("the reading waits for ever")
	}
}

func TestReadsAReplicatedStreamWhole(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t)
	js := natstest.JetStream(t, cluster.URL())
	stream := fill(t, js, 0, 3)
	for i := range 50 {
		add(t, js, i, i+1)
		var got collected
		if err := history.Read(within(t), stream, []string{"s.*"}, uint64(i+1), got.visit); err != nil || len(got) != i+1 {
			t.Fatalf("%d of %d messages: %v", len(got), i+1, err)
		}
	}
}
