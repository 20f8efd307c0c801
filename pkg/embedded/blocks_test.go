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
	// blockMessages lie in the file of blockStore, on three subjects in turn, the
	// first of each with headers; one was deleted.
	blockMessages = 12
	blockDeleted  = 4
)

// blockStore is a data directory with one file of messages that was closed well.
func blockStore(t *testing.T) (dir, block string, content []byte, records []int) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	s := start(t, embedded.Options{DataDir: dir})
	js := streamsOf(t, s)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"test.>"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range blockMessages {
		var options []jetstream.PublishOpt
		if n < 3 {
			options = append(options, jetstream.WithMsgID(fmt.Sprint("message ", n)))
		}
		if _, err := js.Publish(t.Context(), fmt.Sprintf("test.%d", n%3), blockPayload(uint64(n+1)), options...); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.DeleteMsg(t.Context(), blockDeleted); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	block = filepath.Join(dir, "jetstream", "$G", "streams", streamName, "msgs", "1.blk")
	if content, err = os.ReadFile(block); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); at += int(binary.LittleEndian.Uint32(content[at:]) &^ (1 << 31)) {
		records = append(records, at)
	}
	return dir, block, content, records
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

// goesOnWithout removes the record of how far the store had come, as the refusal says,
// and insists that every message is there but the one of that sequence (0 for none),
// as it was, and that the next one is stored behind them.
func goesOnWithout(t *testing.T, dir string, without uint64, log zerolog.Logger) {
	t.Helper()
	remove(t, filepath.Join(dir, "ledgerline-high-water.json"))
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

// Whatever byte of a message is damaged: the server does not start, nothing of the
// store is changed, and who agrees loses that message and no other. Started on such a
// file, NATS cuts off all that follows, now or when somebody reads it, or uses up the
// memory.
func TestADamagedMessageIsRefusedAndNoOtherIsLost(t *testing.T) {
	t.Parallel()
	dir, block, content, records := blockStore(t)
	for _, of := range []int{1, 6} { // with headers and without
		t.Run(fmt.Sprint("message ", of+1), func(t *testing.T) {
			t.Parallel()
			for at := records[of]; at < records[of+1]; at++ {
				damaged := bytes.Clone(content)
				damaged[at] ^= 0xff
				store, file := copied(t, dir, block, damaged)
				before := tree(t, store)
				for range 2 { // refused again, not only once
					_, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()})
					if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), fmt.Sprintf("stream %s is damaged after message %d", streamName, of)) {
						t.Fatalf("byte %d: %v", at-records[of], err)
					}
				}
				if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) || tree(t, store) != before {
					t.Fatalf("byte %d: the refusal changed the store: %v", at-records[of], err)
				}
				logs := logtest.New(t)
				goesOnWithout(t, store, uint64(of+1), logs.Logger())
				logs.Wait(logevent.NATSDamageTakenOut)
				if t.Failed() {
					t.Fatalf("at byte %d", at-records[of])
				}
				kept, err := filepath.Glob(filepath.Join(store, "ledgerline-damaged", "*.blk"))
				if err != nil || len(kept) != 1 {
					t.Fatalf("%d files are kept: %v", len(kept), err)
				}
				if was, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(was, damaged) {
					t.Errorf("the file that is kept is another: %v", err)
				}
			}
		})
	}
}

// The first message, the last one, the mark of a deletion.
func TestADamageAtTheEndsOfAFile(t *testing.T) {
	t.Parallel()
	dir, block, content, records := blockStore(t)
	for name, at := range map[string]int{
		"first":     records[0] + 2,
		"last":      records[blockMessages-1] + 5,
		"deletion":  len(content) - 3,
		"many":      0,
		"cut short": 0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damaged := bytes.Clone(content)
			switch name {
			case "many":
				clear(damaged[records[3]+7 : records[5]+9])
			case "cut short":
				damaged = damaged[:records[8]+11]
			default:
				damaged[at] ^= 0xff
			}
			store, file := copied(t, dir, block, damaged)
			s, err := embedded.Start(embedded.Options{DataDir: store, Logger: zerolog.Nop()})
			// The mark of a deletion stands behind the last message.
			if name == "deletion" {
				if err != nil {
					t.Fatalf("nothing that was stored is damaged: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), streamName) {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) {
				t.Errorf("the refusal changed the file: %v", err)
			}
		})
	}
}

// What a power cut tears at the end of the last file was not acknowledged: the server
// goes on before it.
func TestATornEndIsNoDamage(t *testing.T) {
	t.Parallel()
	dir, block, content, records := blockStore(t)
	for name, torn := range map[string][]byte{
		"half a record": content[records[1] : records[2]-10],
		"zeros":         make([]byte, 300),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, _ := copied(t, dir, block, append(bytes.Clone(content), torn...))
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
// cut the stream off there. That is seen and told, nothing more is stored on what is
// left, and it goes on when a person has agreed.
func TestAStreamThatIsCutOffUnderTheServerIsToldAndRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, block, content, records := blockStore(t)
	logs := logtest.New(t)
	s := start(t, embedded.Options{DataDir: dir, Logger: logs.Logger()})
	// It has read the end of the file only, and reads the rest with this message.
	damaged := bytes.Clone(content)
	damaged[records[5]] ^= 0xff
	write(t, block, string(damaged))
	js := streamsOf(t, s)
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetMsg(ctx, 6); err == nil {
		t.Fatal("the damaged message is read")
	}
	logs.Wait(logevent.NATSStoreUnusable)
	err = s.Ready()
	if !errors.Is(err, embedded.ErrNotReady) || !strings.Contains(err.Error(), "ends at message 5 and had 12 before") {
		t.Errorf("ready: %v", err)
	}
	if _, err := js.Publish(ctx, "test.0", []byte("more")); err == nil {
		t.Error("a message is stored on what is left")
	}
	remove(t, filepath.Join(dir, "ledgerline-high-water.json"))
	logs.Wait(logevent.NATSStoreReopened)
	if ack, err := js.Publish(ctx, "test.0", []byte("more")); err != nil || ack.Sequence != blockMessages+1 {
		t.Errorf("a message after that: %+v, %v", ack, err)
	}
}
