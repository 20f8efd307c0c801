package cas

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// MaxBatch is the server's bound on one atomic batch, in messages.
const MaxBatch = 1_000

// incompleteBatch is the server's answer when it has dropped an open batch, by
// its idle time-out or at a leader change: the batch is sent again.
const incompleteBatch jetstream.ErrorCode = 10176

// PutBatch stores payloads, 1 to MaxBatch of them, in one atomic batch after
// sequence expected on subject, all or none, and returns the sequence of the
// last. Otherwise it is as Put.
func PutBatch(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, subject string, payloads [][]byte, expected uint64) (uint64, error) {
	last := payloads[len(payloads)-1]
	if len(payloads) == 1 {
		return Put(ctx, js, stream, subject, last, expected)
	}
	return resolve(ctx, js, stream, subject, last, expected, func(ctx context.Context) (uint64, error) {
		ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
		defer cancel()
		batch := make([]*nats.Msg, len(payloads))
		for i, p := range payloads {
			// The batch publisher needs a header map on each message.
			batch[i] = &nats.Msg{Subject: subject, Data: p, Header: nats.Header{}}
		}
		batch[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(expected, 10))
		ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch)
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	})
}
