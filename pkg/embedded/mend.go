package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// mendInterval is how often the store is tried. It bounds for how long a full
	// disk is not told, and how soon work goes on when there is room.
	mendInterval = 2 * time.Second
	// roomBytes must be free before the store is opened again: as much as a job of
	// some thousand items takes, so that it does not close at the next write.
	roomBytes = 1 << 20
)

// criticalWrite is what the server logs when a stream could not be written. It
// closes that stream for writing then, answers nothing more that is published to
// it, and calls itself healthy; only opening the store again mends that.
const criticalWrite = "ritical write error"

// mend looks, until ctx ends, whether the store can be written. A store that could
// not be is told, makes Ready fail, and is opened again when it can be.
func (s *Server) mend(ctx context.Context) {
	ticker := time.NewTicker(mendInterval)
	defer ticker.Stop()
	closed := false // for writing, wholly or in part
	refused := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		cut, err := s.look()
		if err != nil && s.srv.JetStreamEnabled() {
			s.log.Warn().Err(err).Msg(logevent.NATSStoreUnseen)
		}
		err = probe(s.dataDir)
		closed = closed || cut || err != nil || s.said.broke() || !s.srv.JetStreamEnabled()
		if !closed {
			continue
		}
		if refused {
			if accepted, err := hasAccepted(s.dataDir); err != nil || !accepted {
				continue
			}
		}
		if err == nil {
			err = room(s.dataDir)
		}
		if err == nil {
			err = s.reopen()
		}
		refused = errors.Is(err, errLost)
		s.trouble(err)
		closed = err != nil
	}
}

// look takes how far the streams have come, and tells whether one was cut off since the
// last look: the server met a damage in a file, and has removed all that follows it
// there. Where that was the last file the stream has become shorter; another file has.
func (s *Server) look() (cut bool, err error) {
	if !s.srv.JetStreamEnabled() {
		return false, nil
	}
	streams, err := s.streams()
	if err != nil {
		return false, err
	}
	marks, files := marksOf(streams), map[string]os.FileInfo{}
	for name, mark := range marks {
		before := s.marks[name]
		if before.past(mark) {
			before.CutOff = fmt.Sprintf("after message %d", mark.LastSeq)
			mark, cut = before, true
		} else if mark.Created.Equal(before.Created) {
			mark.CutOff = before.CutOff
		}
		shorter, err := s.lookAtFiles(name, files)
		if err != nil {
			return cut, err
		}
		if shorter != "" {
			mark.CutOff, cut = "in "+shorter, true
		}
		marks[name] = mark
	}
	s.marks, s.files = marks, files // a stream that is gone was deleted
	return cut, nil
}

// lookAtFiles takes the message files of a stream, but the last, which is written. They
// are replaced by others or removed; one that is the same and shorter was cut off, and
// is returned.
func (s *Server) lookAtFiles(stream string, files map[string]os.FileInfo) (shorter string, err error) {
	folder := filepath.Join(s.dataDir, storeDirName, server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream, "msgs")
	numbers, err := blockNumbers(folder)
	if err != nil || len(numbers) == 0 {
		return "", err
	}
	for _, n := range numbers[:len(numbers)-1] {
		path := filepath.Join(folder, strconv.FormatUint(n, 10)+blockSuffix)
		now, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrDataDir, err)
		}
		if before := s.files[path]; before != nil && os.SameFile(before, now) && now.Size() < before.Size() {
			shorter = path
		}
		files[path] = now
	}
	return shorter, nil
}

// trouble notes why the store cannot be used, nil where it can, and tells it when
// that begins and when it is over.
func (s *Server) trouble(err error) {
	s.mu.Lock()
	before := s.unusable
	s.unusable = err
	s.mu.Unlock()
	switch {
	case err == nil:
		s.log.Info().Str("data_dir", s.dataDir).Msg(logevent.NATSStoreReopened)
	case before == nil:
		s.log.Error().Err(err).Str("data_dir", s.dataDir).Msg(logevent.NATSStoreUnusable)
	}
}

// reopen closes the store and opens it again under the running server, with the
// checks of a start. Clients stay connected and see requests fail meanwhile.
func (s *Server) reopen() error {
	stored, err := streamsOnDisk(s.dataDir)
	if err != nil {
		return err
	}
	accepted, err := hasAccepted(s.dataDir)
	if err != nil {
		return err
	}
	// The file is of the last start. It is written anew before the store is closed, for
	// whoever opens it next.
	before := s.marks
	if err := writeHighWater(s.dataDir, before); err != nil {
		return fmt.Errorf("%w: %w", ErrDataDir, err)
	}
	s.said.forget()
	if err := s.srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("%w: %s: close it: %w", ErrStore, s.dataDir, err)
	}
	if err := checkBlocks(s.dataDir, stored, before, accepted, s.log); err != nil {
		return err
	}
	if err := s.srv.EnableJetStream(&server.JetStreamConfig{
		StoreDir: s.dataDir, SyncAlways: true, Strict: true, MaxMemory: s.limits.MaxMemory, MaxStore: s.limits.MaxStore,
	}); err != nil {
		return fmt.Errorf("%w: %s: open it again: %w; %s", ErrStore, s.dataDir, err, s.said.said())
	}
	if err := s.checkRecovered(s.said, stored, before, accepted); err != nil {
		// Nothing more is stored on what is left.
		return errors.Join(err, s.srv.ShutdownJetStream())
	}
	return nil
}

// room writes and removes a file of roomBytes.
func room(dir string) error {
	f, err := os.CreateTemp(dir, ".write-probe-*")
	if err != nil {
		return fmt.Errorf("%w: write to %s: %w", ErrDataDir, dir, err)
	}
	_, err = f.Write(make([]byte, roomBytes))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("%w: %d bytes more are wanted in %s: %w", ErrDataDir, roomBytes, dir, err)
	}
	return nil
}

// broke tells whether the server could not write a stream since forget.
func (b *bridge) broke() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unwritten
}

// forget begins anew with the complaints.
func (b *bridge) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unwritten, b.complaints = false, nil
}

func (b *bridge) watch(format string) {
	if !strings.Contains(format, criticalWrite) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unwritten = true
}
