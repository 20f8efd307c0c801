package pull

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Next is the durable's next message, or nil when none came in wait, which also
// bounds how long a stop waits for an idle process. taken is a time before the
// message can have been delivered, from which its lease counts.
//
// The request is not bound to ctx: one that is given up may still be answered, and
// its message would wait out a lease for nothing.
func Next(ctx context.Context, js jetstream.JetStream, stream, durable string, wait time.Duration) (msg jetstream.Msg, taken time.Time, err error) {
	consumer, err := js.Consumer(ctx, stream, durable)
	if err != nil {
		return nil, taken, err
	}
	taken = time.Now()
	batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(wait))
	if err != nil {
		return nil, taken, err
	}
	for msg := range batch.Messages() {
		return msg, taken, nil
	}
	if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
		return nil, taken, err
	}
	return nil, taken, nil
}
