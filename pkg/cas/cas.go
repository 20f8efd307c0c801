package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrConflict is returned when the subject's last sequence is not the expected
// one: somebody else wrote in between.
var ErrConflict = errors.New("somebody else wrote first")

// resolvePause is the wait between tries while the outcome of a publish is not
// known: a leader change takes seconds, a lost reply a moment.
const resolvePause = 100 * time.Millisecond

// IsConflict tells whether the server refused a publish because of its expected
// last sequence. Replicated streams use a code of their own.
func IsConflict(err error) bool {
	var apiErr *jetstream.APIError
	if !errors.As(err, &apiErr) {
		return false
	}
	return apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// Put stores data as the message after sequence expected on subject (0: as its
// first) and returns its sequence. It tries again while the outcome is unknown
// and ctx lives; one try lasts as long as the time-out of js. The stream must
// not allow direct gets, so that its last message is read from its leader.
func Put(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, subject string, data []byte, expected uint64) (uint64, error) {
	return PutMsg(ctx, js, stream, &nats.Msg{Subject: subject, Data: data}, expected)
}

// PutMsg is Put for a message with headers of its own. Whether it was stored is told
// by its data alone.
func PutMsg(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, msg *nats.Msg, expected uint64) (uint64, error) {
	return resolve(ctx, js, stream, msg.Subject, msg.Data, expected, func(ctx context.Context) (uint64, error) {
		return publish(ctx, js, msg, expected)
	})
}

// resolve runs publish until it is known whether it was stored. data is the last
// message it stores.
func resolve(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, subject string, data []byte, expected uint64, publish func(context.Context) (uint64, error)) (uint64, error) {
	unknown := false // a try before may have been stored
	for {
		seq, err := publish(ctx)
		if err == nil {
			return seq, nil
		}
		if permanent(err) {
			return 0, fmt.Errorf("publish to %s: %w", subject, err)
		}
		unknown = unknown || !IsConflict(err)
		// Refused or unknown: our own message may be the last one already, from
		// this try or, after a lost reply, from one before.
		last, readErr := lastOf(ctx, js, stream, subject)
		switch {
		case readErr == nil && last.Sequence > expected && bytes.Equal(last.Data, data):
			return last.Sequence, nil
		case readErr == nil && last.Sequence > expected:
			return 0, fmt.Errorf("%s is at sequence %d, not %d: %w", subject, last.Sequence, expected, ErrConflict)
		case unknown:
			// Below expected, or empty, is also what a server answers that has not
			// noticed yet that it leads no longer. It cannot disprove a try whose
			// outcome is unknown.
		case readErr == nil && last.Sequence < expected:
			return 0, fmt.Errorf("%s is back at sequence %d, not at %d: %w", subject, last.Sequence, expected, ErrConflict)
		case errors.Is(readErr, jetstream.ErrMsgNotFound) && expected != 0:
			return 0, fmt.Errorf("%s is empty, not at sequence %d: %w", subject, expected, ErrConflict)
		}
		// Still at expected (or unreadable): the publish was not stored yet. A
		// late first try and its repetition cannot both pass the comparison.
		timer := time.NewTimer(resolvePause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return 0, fmt.Errorf("publish to %s: %w (last answer: %w)", subject, context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}

func publish(ctx context.Context, js jetstream.JetStream, msg *nats.Msg, expected uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	// A try of its own: the client writes what it expects into the headers.
	try := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: maps.Clone(msg.Header)}
	ack, err := js.PublishMsg(ctx, try,
		jetstream.WithExpectLastSequencePerSubject(expected))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func lastOf(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	return stream.GetLastMsgForSubject(ctx, subject)
}

// permanent tells whether trying again is useless: the server understood and
// refuses for a reason that no wait mends, or the connection is closed for good.
func permanent(err error) bool {
	for _, useless := range []error{nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrPermissionViolation, nats.ErrConnectionClosed, nats.ErrConnectionDraining} {
		if errors.Is(err, useless) {
			return true
		}
	}
	var apiErr *jetstream.APIError
	return errors.As(err, &apiErr) && apiErr.Code == 400 &&
		!IsConflict(err) && apiErr.ErrorCode != incompleteBatch
}
