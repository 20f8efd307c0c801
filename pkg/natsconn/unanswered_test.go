package natsconn_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/natsconn"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// A server that is away is told from one that answers and refuses.
func TestUnansweredIsToldFromRefused(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	js := srv.JetStream(t)
	if _, err := js.Stream(t.Context(), "NONE"); !errors.Is(err, jetstream.ErrStreamNotFound) || natsconn.Unanswered(err) {
		t.Errorf("a refusal counts as no answer: %v", err)
	}
	if natsconn.Unanswered(nil) {
		t.Error("no error counts as no answer")
	}
	srv.Stop()
	_, err := js.Stream(t.Context(), "NONE")
	if !natsconn.Unanswered(err) {
		t.Errorf("a server that is away answers %v", err)
	}
	if _, err := js.Publish(t.Context(), "s", nil, jetstream.WithRetryAttempts(1), jetstream.WithRetryWait(time.Millisecond)); !natsconn.Unanswered(err) {
		t.Errorf("a server that is away answers a publish with %v", err)
	}
	srv.Restart(t)
}
