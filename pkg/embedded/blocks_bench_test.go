package embedded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// What the look at the messages costs a start, beside reading the same files.
func BenchmarkLookAtTheMessages(b *testing.B) {
	const messages, size = 20_000, 2_000
	dir := b.TempDir()
	s, err := Start(Options{DataDir: dir, Logger: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := nats.Connect("", s.InProcess())
	if err != nil {
		b.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage}); err != nil {
		b.Fatal(err)
	}
	for range messages {
		if _, err := js.PublishAsync("s", make([]byte, size)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	conn.Close()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs", "*.blk"))
	if err != nil || len(files) < 2 {
		b.Fatalf("%d files: %v", len(files), err)
	}
	var bytes int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		bytes += info.Size()
	}
	b.Run("look", func(b *testing.B) {
		b.SetBytes(bytes)
		for b.Loop() {
			if found, err := damagedIn(dir, "S", highWater{}, false); err != nil || len(found) > 0 {
				b.Fatalf("%v %v", found, err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(bytes)
		for b.Loop() {
			for _, file := range files {
				if _, err := os.ReadFile(file); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
