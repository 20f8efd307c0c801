package cas

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Remove removes the one message at sequence; one that is gone already is no error.
//
// It is not a purge: purging a message that a durable has handed out and that is
// not acked moves the durable's ack floor past messages that others hold (seen on
// nats-server 2.15.2), and a server that starts again then never hands those out
// again. Removed alone, such a message counts as acked and nothing else moves.
func Remove(ctx context.Context, stream jetstream.Stream, sequence uint64) error {
	err := stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	if _, lookErr := stream.GetMsg(ctx, sequence); errors.Is(lookErr, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove message %d: %w", sequence, err)
}
