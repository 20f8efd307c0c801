package pull_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pull"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	wait     = 100 * time.Millisecond
)

// One message at a time, none where there is none, and an error where the durable
// is missing; the time that is told lies before the delivery.
func TestTakesOneMessageAtATime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if msg, _, err := pull.Next(ctx, js, "S", "durable", wait); err == nil {
		t.Errorf("a durable that is not there gave %v", msg)
	}
	if _, err := js.CreateConsumer(ctx, "S", jetstream.ConsumerConfig{Durable: "durable", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second"} {
		if _, err := js.Publish(ctx, "s", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"first", "second"} {
		before := time.Now()
		msg, taken, err := pull.Next(ctx, js, "S", "durable", wait)
		if err != nil || msg == nil || string(msg.Data()) != text {
			t.Fatalf("got %v, %v, want %q", msg, err, text)
		}
		if taken.Before(before) || taken.After(time.Now()) {
			t.Errorf("taken at %s, asked between %s and now", taken, before)
		}
	}
	if msg, _, err := pull.Next(ctx, js, "S", "durable", wait); msg != nil || err != nil {
		t.Errorf("nothing is left and %v, %v came", msg, err)
	}
}
