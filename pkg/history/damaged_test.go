package history_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// The server leaves a damaged message out in silence. A reading of the whole sees
// that, also while further messages stand behind its end, and takes those for no
// damage.
func TestADamagedMessageIsNotLeftOutInSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The embedded server does not start on a damaged message; others do.
	server := natstest.Start(t)
	js := server.JetStream(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		for _, subject := range []string{"s.a", "s.b"} {
			if _, err := js.Publish(ctx, subject, fmt.Appendf(nil, "%s number %d", subject, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Up to the 8th message on each subject; two of each stand behind.
	const upTo = 15
	read := func(js jetstream.JetStream, subjects ...string) (visited int, err error) {
		stream, err := js.Stream(ctx, "S")
		if err != nil {
			t.Fatal(err)
		}
		err = history.ReadWhole(ctx, stream, subjects, upTo, func(jetstream.Msg, *jetstream.MsgMetadata) error { visited++; return nil })
		return visited, err
	}
	if n, err := read(js, "s.a", "s.c"); err != nil || n != 8 {
		t.Errorf("%d messages of a good store were read: %v", n, err)
	}
	server.Stop()
	server.Damage(t, "S", []byte("s.a number 5"))
	server.Restart(t)
	js = server.JetStream(t)
	if n, err := read(js, "s.a", "s.c"); !errors.Is(err, history.ErrDamaged) {
		t.Errorf("%d messages of a damaged store were read: %v", n, err)
	}
	if n, err := read(js, "s.a", "s.b"); !errors.Is(err, history.ErrDamaged) {
		t.Errorf("%d messages of a damaged store were read: %v", n, err)
	}
}
