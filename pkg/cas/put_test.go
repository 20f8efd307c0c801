package cas_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// limit ends a test that hangs.
const limit = time.Minute

func makeStream(t *testing.T, js jetstream.JetStream, replicas int) jetstream.Stream {
	t.Helper()
	return natstest.CreateStream(t, js, jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Replicas: replicas, AllowAtomicPublish: true,
	})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// losing loses the first reply of PublishMsg.
type losing struct {
	jetstream.JetStream
	once  sync.Once
	after func() // runs when the message is stored and its reply is lost
}

func (l *losing) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := l.JetStream.PublishMsg(ctx, msg, opts...)
	l.once.Do(func() {
		if l.after != nil {
			l.after()
		}
		ack, err = nil, nats.ErrTimeout
	})
	return ack, err
}

func put(t *testing.T, js jetstream.JetStream, stream jetstream.Stream, data string, expected uint64) uint64 {
	t.Helper()
	seq, err := cas.Put(within(t), js, stream, "s.a", []byte(data), expected)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func count(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func TestStoresAfterTheExpectedSequenceOnly(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	first := put(t, js, stream, "first", 0)
	if _, err := cas.Put(within(t), js, stream, "s.a", []byte("another first"), 0); !errors.Is(err, cas.ErrConflict) {
		t.Errorf("a second first message: %v", err)
	}
	if _, err := cas.Put(within(t), js, stream, "s.b", []byte("on an empty subject"), first); !errors.Is(err, cas.ErrConflict) {
		t.Errorf("after a message that is not there: %v", err)
	}
	second := put(t, js, stream, "second", first)
	if _, err := cas.Put(within(t), js, stream, "s.a", []byte("late"), first); !errors.Is(err, cas.ErrConflict) || !strings.Contains(err.Error(), "s.a") {
		t.Errorf("after an old message: %v", err)
	}
	if _, err := cas.Put(within(t), js, stream, "s.a", []byte("early"), second+1); !errors.Is(err, cas.ErrConflict) {
		t.Errorf("after a message that is not yet there: %v", err)
	}
	if n := count(t, stream); n != 2 {
		t.Errorf("%d messages are stored, not 2", n)
	}
}

func TestResolvesALostReply(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	lost := &losing{JetStream: js}
	first := put(t, lost, stream, "first", 0)
	lost = &losing{JetStream: js}
	if second := put(t, lost, stream, "second", first); second != first+1 {
		t.Errorf("stored at %d, not at %d", second, first+1)
	}
	if n := count(t, stream); n != 2 {
		t.Errorf("%d messages are stored, not 2", n)
	}
}

func TestALostReplyBelowAnotherWriterIsAConflict(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	lost := &losing{JetStream: js, after: func() { put(t, js, stream, "another's", 1) }}
	if _, err := cas.Put(within(t), lost, stream, "s.a", []byte("ours"), 0); !errors.Is(err, cas.ErrConflict) {
		t.Errorf("%v", err)
	}
}

// behind answers the first look-up as a server that leads no longer.
type behind struct {
	jetstream.Stream
	once sync.Once
}

func (b *behind) GetLastMsgForSubject(ctx context.Context, subject string) (msg *jetstream.RawStreamMsg, err error) {
	msg, err = b.Stream.GetLastMsgForSubject(ctx, subject)
	b.once.Do(func() { msg, err = nil, jetstream.ErrMsgNotFound })
	return msg, err
}

func TestAStaleReadDoesNotDisproveALostReply(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	first := put(t, js, stream, "first", 0)
	second, err := cas.Put(within(t), &losing{JetStream: js}, &behind{Stream: stream}, "s.a", []byte("second"), first)
	if err != nil || second != first+1 {
		t.Errorf("stored at %d: %v", second, err)
	}
}

func TestALostReplyOverTheNetwork(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	direct := srv.JetStream(t)
	stream := makeStream(t, direct, 1)
	network := natstest.StartNetwork(t, srv.URL())
	js := natstest.JetStream(t, network.URL())
	ours, err := js.Stream(within(t), "S")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		subject string
		publish func(context.Context) (uint64, error)
		// A batch waits for an answer to its first message: there the cut alone
		// loses the reply, where it comes in time.
		mute bool
	}{
		{"s.one", func(ctx context.Context) (uint64, error) {
			return cas.Put(ctx, js, ours, "s.one", []byte("x"), 0)
		}, true},
		{"s.batch", func(ctx context.Context) (uint64, error) {
			return cas.PutBatch(ctx, js, ours, "s.batch", payloads("x", 500), 0)
		}, false},
	} {
		// What is stored is seen on the other connection, then the connection of
		// the publisher, which heard nothing of it, is cut.
		stored, err := stream.OrderedConsumer(within(t), jetstream.OrderedConsumerConfig{FilterSubjects: []string{c.subject}})
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		var seq uint64
		if c.mute {
			network.Mute()
		}
		go func() {
			var err error
			seq, err = c.publish(within(t))
			result <- err
		}()
		if _, err := stored.Next(jetstream.FetchMaxWait(limit)); err != nil {
			t.Fatal(err)
		}
		network.Cut()
		network.Mend()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		last, err := stream.GetLastMsgForSubject(within(t), c.subject)
		if err != nil || last.Sequence != seq {
			t.Errorf("%s: stored at %d, told %d: %v", c.subject, last.Sequence, seq, err)
		}
	}
	if n := count(t, stream); n != 501 {
		t.Errorf("%d messages are stored, not 501", n)
	}
}

func TestTheEndOfTheContextIsNamed(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	js := srv.JetStream(t)
	stream := makeStream(t, js, 1)
	srv.Stop()
	cause := errors.New("the lease ran out")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
	defer cancel()
	if _, err := cas.Put(ctx, js, stream, "s.a", []byte("x"), 0); !errors.Is(err, cause) || errors.Is(err, cas.ErrConflict) {
		t.Errorf("%v", err)
	}
	srv.Restart(t)
}

func TestAUselessTryIsNotRepeated(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	stream := makeStream(t, js, 1)
	if _, err := cas.Put(within(t), js, stream, "s.a", make([]byte, 2<<20), 0); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("%v", err)
	}
	js.Conn().Close()
	if _, err := cas.Put(within(t), js, stream, "s.a", []byte("x"), 0); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("%v", err)
	}
}

func TestOneOfManyWritersWins(t *testing.T) {
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
			const writers, rounds = 8, 10
			var expected uint64
			for round := range rounds {
				won := race(writers, func(i int) (uint64, error) {
					return cas.Put(within(t), js, stream, "s.a", fmt.Appendf(nil, "round %d writer %d", round, i), expected)
				}, t)
				expected = won
			}
			if n := count(t, stream); n != rounds {
				t.Errorf("%d messages are stored, not %d", n, rounds)
			}
		})
	}
}

// race runs write once for each writer at once and returns the one winner's
// sequence.
func race(writers int, write func(i int) (uint64, error), t *testing.T) uint64 {
	t.Helper()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		won     []uint64
	)
	for i := range writers {
		running.Go(func() {
			seq, err := write(i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, seq)
			case !errors.Is(err, cas.ErrConflict):
				t.Error(err)
			}
		})
	}
	running.Wait()
	if len(won) != 1 {
		t.Fatalf("%d writers won, not 1", len(won))
	}
	return won[0]
}

func TestGoesOnWhenTheStreamsLeaderDies(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t)
	js := natstest.JetStream(t, cluster.URL())
	stream := makeStream(t, js, 3)
	const before, all = 50, 200
	var expected uint64
	for i := range all {
		if i == before {
			cluster.StopLeader(t, js, "S")
		}
		expected = put(t, js, stream, fmt.Sprint(i), expected)
	}
	if n := count(t, stream); n != all {
		t.Errorf("%d messages are stored, not %d", n, all)
	}
}

func TestKnowsTheConflictsOfTheServer(t *testing.T) {
	t.Parallel()
	for code, conflict := range map[server.ErrorIdentifier]bool{
		server.JSStreamWrongLastSequenceErrF:        true,
		server.JSStreamWrongLastSequenceConstantErr: true,
		server.JSAtomicPublishIncompleteBatchErr:    false,
	} {
		err := fmt.Errorf("nats: %w", &jetstream.APIError{Code: 400, ErrorCode: jetstream.ErrorCode(code)})
		if cas.IsConflict(err) != conflict {
			t.Errorf("%d: conflict is %v", code, !conflict)
		}
	}
}
