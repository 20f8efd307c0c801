package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		err := probe(s.dataDir)
		closed = closed || err != nil || s.said.broke() || !s.srv.JetStreamEnabled() || s.shrunk()
		if !closed || refused && s.untold() {
			continue
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

// shrunk tells whether a stream has become shorter while the server ran: it met a
// damage in a file, and has cut it off there. How far the streams had come is written
// down then, so that the store is not opened on what is left without a word.
func (s *Server) shrunk() bool {
	streams, err := s.streams()
	if err != nil {
		return false // what is wrong with the server shows in the tick's other looks
	}
	marks := marksOf(streams)
	lost := false
	for name, mark := range marks {
		if before := s.marks[name]; before.past(mark) {
			before.CutOff, before.Left = true, mark.LastSeq
			marks[name], lost = before, true
		}
	}
	s.marks = marks // a stream that is gone was deleted
	if !lost {
		return false
	}
	if err := writeHighWater(s.dataDir, marks); err != nil {
		s.log.Error().Err(err).Msg(logevent.NATSStoreUnusable)
	}
	return true
}

// untold tells whether nobody has agreed yet to go on without what is lost.
func (s *Server) untold() bool {
	marks, err := readHighWater(s.dataDir)
	return marks != nil || err != nil
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
	before, err := readHighWater(s.dataDir)
	if err != nil {
		return err
	}
	s.said.forget()
	if err := s.srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("%w: %s: close it: %w", ErrStore, s.dataDir, err)
	}
	if err := checkBlocks(s.dataDir, stored, before, s.log); err != nil {
		return err
	}
	if err := s.srv.EnableJetStream(&server.JetStreamConfig{
		StoreDir: s.dataDir, SyncAlways: true, Strict: true, MaxMemory: s.limits.MaxMemory, MaxStore: s.limits.MaxStore,
	}); err != nil {
		return fmt.Errorf("%w: %s: open it again: %w; %s", ErrStore, s.dataDir, err, s.said.said())
	}
	if err := s.checkRecovered(s.said, stored, before); err != nil {
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
