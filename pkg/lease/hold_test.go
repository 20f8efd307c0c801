package lease_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

const (
	// limit ends a test that hangs.
	limit = time.Minute
	// short is a lease that a test waits out.
	short = time.Second
)

// take stores a message and takes it off a durable whose lease is ackWait.
func take(t *testing.T, js jetstream.JetStream, ackWait time.Duration) (jetstream.Consumer, jetstream.Msg) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "d", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "s", []byte("work")); err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next(jetstream.FetchMaxWait(limit))
	if err != nil {
		t.Fatal(err)
	}
	return consumer, msg
}

// waitForEnd fails a test whose lease of a short time does not run out.
func waitForEnd(t *testing.T, ctx context.Context) {
	t.Helper()
	never := time.NewTimer(10 * short)
	defer never.Stop()
	select {
	case <-ctx.Done():
	case <-never.C:
		t.Fatal("the lease never ran out")
	}
}

func TestHeartbeatsKeepAMessageBeyondItsLease(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	consumer, msg := take(t, js, short)
	held, ctx := lease.Keep(t.Context(), js.Conn(), msg.Reply(), time.Now(), short, zerolog.Nop())
	if again, err := consumer.Next(jetstream.FetchMaxWait(3 * short)); err == nil {
		t.Errorf("%q was given out again", again.Data())
	}
	if !held.Held() || ctx.Err() != nil {
		t.Errorf("the lease does not hold: %v", context.Cause(ctx))
	}
	held.Stop()
	if ctx.Err() == nil {
		t.Error("the context outlives Stop")
	}
	// Nobody keeps it now.
	if _, err := consumer.Next(jetstream.FetchMaxWait(limit)); err != nil {
		t.Errorf("the message did not come again: %v", err)
	}
}

func TestALeaseIsLostWithTheConnection(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	network := natstest.StartNetwork(t, srv.URL())
	js := natstest.JetStream(t, network.URL())
	_, msg := take(t, js, short)
	log := logtest.New(t)
	taken := time.Now()
	held, ctx := lease.Keep(t.Context(), js.Conn(), msg.Reply(), taken, short, log.Logger())
	defer held.Stop()
	network.Cut()
	waitForEnd(t, ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, lease.ErrLost) || time.Since(taken) < short*3/4 {
		t.Errorf("ended after %s: %v", time.Since(taken), cause)
	}
	if held.Held() {
		t.Error("a lost lease is held")
	}
	log.Wait(logevent.HeartbeatMissed)
	log.Wait(logevent.LeaseLost)
}

func TestHeldEndsAtThreeQuartersOfTheLease(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	_, msg := take(t, js, limit)
	for age, want := range map[time.Duration]bool{0: true, limit * 7 / 10: true, limit * 3 / 4: false, 2 * limit: false} {
		held, _ := lease.Keep(t.Context(), js.Conn(), msg.Reply(), time.Now().Add(-age), limit, zerolog.Nop())
		if held.Held() != want {
			t.Errorf("at the age of %s held is %v", age, !want)
		}
		held.Stop()
	}
}

// A process that was stopped wakes with a lease that ran out; the server would
// still confirm its heartbeats.
func TestALeaseThatRanOutIsNotTakenUpAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	_, msg := take(t, js, short)
	held, ctx := lease.Keep(t.Context(), js.Conn(), msg.Reply(), time.Now().Add(-short), short, zerolog.Nop())
	defer held.Stop()
	waitForEnd(t, ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, lease.ErrLost) || held.Held() {
		t.Errorf("held is %v: %v", held.Held(), cause)
	}
}

func TestStopEndsHeartbeatsThatHang(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	network := natstest.StartNetwork(t, srv.URL())
	js := natstest.JetStream(t, network.URL())
	_, msg := take(t, js, limit)
	network.Mute()
	held, ctx := lease.Keep(t.Context(), js.Conn(), msg.Reply(), time.Now(), limit, zerolog.Nop())
	held.Stop()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) || errors.Is(cause, lease.ErrLost) {
		t.Errorf("%v", cause)
	}
}
