package embedded_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
)

const (
	// blockMessages lie in blockStore, on three subjects in turn, the first of each with
	// headers; one was deleted.
	blockMessages = 12
	blockDeleted  = 4
)

// blocks is a data directory with a stream that was closed well.
type blocks struct {
	dir     string
	file    string // of the messages
	content []byte
	records []int // where they begin
}

// blockStore has one file of messages, with the deletion behind the last where deleted
// is set.
func blockStore(t *testing.T, deleted bool) *blocks {
	t.Helper()
	b := &blocks{dir: filepath.Join(t.TempDir(), "store")}
	s := start(t, embedded.Options{DataDir: b.dir})
	js := streamsOf(t, s)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"test.>"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range blockMessages {
		if n == blockMessages-1 && !deleted {
			if err := stream.DeleteMsg(t.Context(), blockDeleted); err != nil {
				t.Fatal(err)
			}
		}
		var options []jetstream.PublishOpt
		if n < 3 {
			options = append(options, jetstream.WithMsgID(fmt.Sprint("message ", n)))
		}
		if _, err := js.Publish(t.Context(), fmt.Sprintf("test.%d", n%3), blockPayload(uint64(n+1)), options...); err != nil {
			t.Fatal(err)
		}
	}
	if deleted {
		if err := stream.DeleteMsg(t.Context(), blockDeleted); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.read(t)
	return b
}

func (b *blocks) read(t *testing.T) {
	t.Helper()
	b.file = filepath.Join(b.dir, "jetstream", "$G", "streams", streamName, "msgs", "1.blk")
	var err error
	if b.content, err = os.ReadFile(b.file); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(b.content); at += int(binary.LittleEndian.Uint32(b.content[at:]) &^ (1 << 31)) {
		b.records = append(b.records, at)
	}
}

// crashed makes a store one whose server did not end well.
func crashed(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "ledgerline-high-water.json")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := bytes.ReplaceAll(content, []byte(`,"closed":true`), nil)
	if bytes.Equal(open, content) {
		t.Fatalf("%s", content)
	}
	write(t, path, string(open))
}

func blockPayload(sequence uint64) []byte {
	return fmt.Appendf(nil, "what was booked as number %d", sequence)
}

func streamsOf(t *testing.T, s *embedded.Server) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(client(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// copied is a copy of a store with one file of it changed.
func copied(t *testing.T, dir, block string, content []byte) (to, changed string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, strings.TrimPrefix(path, dir)), 0o700)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, strings.TrimPrefix(path, dir)), file, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	changed = filepath.Join(to, strings.TrimPrefix(block, dir))
	write(t, changed, string(content))
	return to, changed
}

// goesOnWithout accepts the loss, as the refusal says, and insists that every message is there but the one of that sequence (0 for none),
// as it was, and that the next one is stored behind them.
func goesOnWithout(t *testing.T, dir string, without uint64, log zerolog.Logger) {
	t.Helper()
	write(t, filepath.Join(dir, "ledgerline-accept-loss"), "")
	s, err := embedded.Start(embedded.Options{DataDir: dir, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	nc := client(t, s)
	defer func() {
		nc.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= blockMessages; sequence++ {
		msg, err := stream.GetMsg(t.Context(), sequence)
		if sequence == without || sequence == blockDeleted {
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Errorf("message %d is there: %v", sequence, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(msg.Data, blockPayload(sequence)) {
			t.Errorf("message %d: %v", sequence, err)
		}
	}
	ack, err := js.Publish(t.Context(), "test.0", []byte("more"))
	if err != nil || ack.Sequence != blockMessages+1 {
		t.Errorf("the next message: %+v, %v", ack, err)
	}
}

// Whatever bit of a message is damaged: the server does not start, nothing of the store
// is changed, and who accepts the loss loses that message and no other. Started on such
// a file, NATS cuts off all that follows, now or when somebody reads it, or uses up the
// memory. (Of a message without headers the length of the subject is in no hash: where
// another length makes a subject too, it stands for another message.)
func TestADamagedMessageIsRefusedAndNoOtherIsLost(t *testing.T) {
	t.Parallel()
	b := blockStore(t, false)
	// The deletion stands before the last message.
	for name, of := range map[string]int{"with headers": 1, "without": 6, "last": blockMessages} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to, sequence := b.records[of], len(b.content), uint64(of+1)
			if of < blockMessages {
				to = b.records[of+1]
			} else {
				sequence = blockMessages
			}
			for at := from; at < to; at++ {
				bit := byte(1) << (at % 8)
				if at == from+20 {
					bit = 0x80 // the subject becomes longer than the message
				}
				damaged := bytes.Clone(b.content)
				damaged[at] ^= bit
				store, file := copied(t, b.dir, b.file, damaged)
				before := tree(t, store)
				for range 2 { // refused again, not only once
					_, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()})
					if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), fmt.Sprintf("stream %s is damaged after message %d", streamName, sequence-1)) {
						t.Fatalf("byte %d: %v", at-from, err)
					}
				}
				if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) || tree(t, store) != before {
					t.Fatalf("byte %d: the refusal changed the store: %v", at-from, err)
				}
				logs := logtest.New(t)
				goesOnWithout(t, store, sequence, logs.Logger())
				logs.Wait(logevent.NATSDamageTakenOut)
				if t.Failed() {
					t.Fatalf("at byte %d", at-from)
				}
				kept, err := filepath.Glob(filepath.Join(store, "ledgerline-damaged", "*.blk"))
				if err != nil || len(kept) != 1 {
					t.Fatalf("%d files are kept: %v", len(kept), err)
				}
				if was, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(was, damaged) {
					t.Errorf("the file that is kept is another: %v", err)
				}
				// It was accepted once, not for ever.
				if _, err := os.Stat(filepath.Join(store, "ledgerline-accept-loss")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the loss stays accepted: %v", err)
				}
			}
		})
	}
}

func TestDamageAtTheEndsOfAFile(t *testing.T) {
	t.Parallel()
	b := blockStore(t, true)
	for name, harm := range map[string]func(content []byte) []byte{
		"first message": func(c []byte) []byte { c[b.records[0]+2] ^= 0xff; return c },
		"last message":  func(c []byte) []byte { c[b.records[blockMessages-1]+5] ^= 0xff; return c },
		"a deletion":    func(c []byte) []byte { c[len(c)-3] ^= 0xff; return c },
		"many":          func(c []byte) []byte { clear(c[b.records[3]+7 : b.records[5]+9]); return c },
		"cut short":     func(c []byte) []byte { return c[:b.records[8]+11] },
		"two":           func(c []byte) []byte { c[b.records[2]+5] ^= 1; c[b.records[blockMessages-1]+5] ^= 1; return c },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damaged := harm(bytes.Clone(b.content))
			store, file := copied(t, b.dir, b.file, damaged)
			_, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()})
			if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), "stream "+streamName+" is damaged after message") {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) {
				t.Errorf("the refusal changed the file: %v", err)
			}
			// No sequence is given twice, whatever was lost.
			write(t, filepath.Join(store, "ledgerline-accept-loss"), "")
			s := start(t, embedded.Options{DataDir: store, Logger: zerolog.Nop()})
			ack, err := streamsOf(t, s).Publish(t.Context(), "test.0", []byte("more"))
			if err != nil || ack.Sequence != blockMessages+1 {
				t.Errorf("the next message: %+v, %v", ack, err)
			}
		})
	}
}

// What a power cut tears at the end of the last file was not acknowledged: the server
// goes on before it. After an orderly end nothing can be torn.
func TestATornEndIsNoDamage(t *testing.T) {
	t.Parallel()
	b := blockStore(t, false)
	half := b.content[b.records[1] : b.records[2]-10]
	for name, tear := range map[string]func(t *testing.T, file string){
		"half a message":          func(t *testing.T, file string) { write(t, file, string(b.content)+string(half)) },
		"zeros":                   func(t *testing.T, file string) { write(t, file, string(b.content)+string(make([]byte, 300))) },
		"the first of a new file": func(t *testing.T, file string) { write(t, filepath.Join(filepath.Dir(file), "2.blk"), string(half)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, file := copied(t, b.dir, b.file, b.content)
			tear(t, file)
			if _, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()}); !errors.Is(err, embedded.ErrStore) {
				t.Errorf("after an orderly end: %v", err)
			}
			crashed(t, store)
			s, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			goesOnWithout(t, store, 0, zerolog.Nop())
		})
	}
}

// A damage that the server meets while it runs, in a file that it reads again, makes it
// cut the stream off there: what was the end of the stream, or the rest of a file. That
// is seen and told, nothing more is stored on what is left, and it goes on when a
// person has accepted it.
func TestAStreamThatIsCutOffUnderTheServerIsToldAndRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files int
		told  string
	}{
		"the last file":     {1, "had 12 messages and was cut off after message 5"},
		"one of many files": {3, "was cut off in "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			b := blockStore(t, true)
			if c.files > 1 {
				b = manyFiles(t, c.files)
			}
			logs := logtest.New(t)
			s := start(t, embedded.Options{DataDir: b.dir, Logger: logs.Logger()})
			js := streamsOf(t, s)
			b.meetsDamage(ctx, t, js)
			logs.Wait(logevent.NATSStoreUnusable)
			err := s.Ready()
			if !errors.Is(err, embedded.ErrNotReady) || !strings.Contains(err.Error(), c.told) {
				t.Errorf("ready: %v", err)
			}
			if _, err := js.Publish(ctx, "test.0", []byte("more")); err == nil {
				t.Error("a message is stored on what is left")
			}
			// Neither does another server begin on it.
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := embedded.Start(embedded.Options{DataDir: b.dir, Logger: zerolog.Nop()}); !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), c.told) {
				t.Errorf("another start: %v", err)
			}
			write(t, filepath.Join(b.dir, "ledgerline-accept-loss"), "")
			s = start(t, embedded.Options{DataDir: b.dir, Logger: logs.Logger()})
			if _, err := streamsOf(t, s).Publish(ctx, "test.0", []byte("more")); err != nil {
				t.Errorf("a message after that: %v", err)
			}
		})
	}
}

// The person may accept the loss while the server runs.
func TestALossIsAcceptedUnderTheServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := blockStore(t, true)
	logs := logtest.New(t)
	s := start(t, embedded.Options{DataDir: b.dir, Logger: logs.Logger()})
	js := streamsOf(t, s)
	b.meetsDamage(ctx, t, js)
	logs.Wait(logevent.NATSStoreUnusable)
	write(t, filepath.Join(b.dir, "ledgerline-accept-loss"), "")
	logs.Wait(logevent.NATSStoreReopened)
	if _, err := js.Publish(ctx, "test.0", []byte("more")); err != nil {
		t.Errorf("a message after that: %v", err)
	}
}

// meetsDamage damages the sixth message and has the running server read it.
func (b *blocks) meetsDamage(ctx context.Context, t *testing.T, js jetstream.JetStream) {
	t.Helper()
	damaged := bytes.Clone(b.content)
	damaged[b.records[5]] ^= 0xff
	write(t, b.file, string(damaged))
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetMsg(ctx, 6); err == nil {
		t.Fatal("the damaged message is read")
	}
}

// manyFiles is a store with so many files of messages; its first is the one to harm.
func manyFiles(t *testing.T, files int) *blocks {
	t.Helper()
	b := &blocks{dir: filepath.Join(t.TempDir(), "store")}
	s := start(t, embedded.Options{DataDir: b.dir})
	js := streamsOf(t, s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"test.>"}, Storage: jetstream.FileStorage, MaxBytes: 120_000, // makes files of 32 KB
	}); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(b.dir, "jetstream", "$G", "streams", streamName, "msgs", fmt.Sprint(files, ".blk"))
	for n := 0; ; n++ {
		if _, err := js.Publish(t.Context(), "test.0", make([]byte, 2_000)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(last); err == nil {
			break
		}
		if n > 50 {
			t.Fatal("the messages lie in one file: ", tree(t, filepath.Dir(last)))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.read(t)
	return b
}
