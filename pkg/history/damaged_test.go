package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/history"
)

// The server leaves a damaged message out in silence. A reading of the whole sees
// that, also while further messages stand behind its end, and takes those for no
// damage.
func TestADamagedMessageIsNotLeftOutInSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	open := func() (*embedded.Server, *nats.Conn, jetstream.JetStream) {
		t.Helper()
		server, err := embedded.Start(embedded.Options{DataDir: dir, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := nats.Connect("", server.InProcess())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		return server, conn, js
	}
	server, conn, js := open()
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
	conn.Close()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}

	block := filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs", "1.blk")
	content, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte("s.a number 5"))
	if at < 0 {
		t.Fatal("the message is not in the block")
	}
	content[at] ^= 0xff
	if err := os.WriteFile(block, content, 0o600); err != nil {
		t.Fatal(err)
	}
	server, conn, js = open()
	defer func() {
		conn.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	if n, err := read(js, "s.a", "s.c"); !errors.Is(err, history.ErrDamaged) {
		t.Errorf("%d messages of a damaged store were read: %v", n, err)
	}
	if n, err := read(js, "s.a", "s.b"); !errors.Is(err, history.ErrDamaged) {
		t.Errorf("%d messages of a damaged store were read: %v", n, err)
	}
}
