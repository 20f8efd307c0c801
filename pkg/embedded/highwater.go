package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// highWaterFileName holds the last sequence of each stream as it was at the
	// last start and the last orderly end.
	highWaterFileName = "ledgerline-high-water.json"

	// acceptFileName is what a person creates to go on without what is lost. It says so
	// for the next start only.
	acceptFileName = "ledgerline-accept-loss"

	// maxHighWaterBytes bounds that file: a hundred bytes a stream.
	maxHighWaterBytes = 1 << 20
)

// highWater is how far a stream had come. Sequences never fall, not by a purge
// either; a stream that was deleted and made anew has another creation time.
type highWater struct {
	Created time.Time `json:"created"`
	LastSeq uint64    `json:"lastSeq"`
	// CutOff says where a running server was seen to cut the stream off, empty where it
	// was not. The server may remember the last sequence all the same.
	CutOff string `json:"cutOff,omitempty"`
	// Closed is set by an orderly end: nothing was being written.
	Closed bool `json:"closed,omitempty"`
}

// past tells whether the same stream had come further than it is now.
func (h highWater) past(now highWater) bool {
	return h.Created.Equal(now.Created) && h.LastSeq > now.LastSeq
}

// readHighWater reads what the last run left; nothing on the first start.
func readHighWater(dir string) (map[string]highWater, error) {
	path := filepath.Join(dir, highWaterFileName)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, path, err)
	}
	if info.Size() > maxHighWaterBytes {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrDataDir, path, maxHighWaterBytes)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, path, err)
	}
	var marks map[string]highWater
	if err := json.Unmarshal(content, &marks); err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, path, err)
	}
	return marks, nil
}

// writeHighWater replaces the file as a whole, so that a crash leaves the old
// one or the new one.
func writeHighWater(dir string, marks map[string]highWater) (err error) {
	path := filepath.Join(dir, highWaterFileName)
	content, err := json.Marshal(marks)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, ".high-water-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// hasAccepted tells whether a person has accepted the loss of what is damaged or gone.
func hasAccepted(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, acceptFileName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: look for %s: %w", ErrDataDir, acceptFileName, err)
	}
	return true, nil
}

// forgetAccepted takes that back: it was said of what is lost now.
func forgetAccepted(dir string) error {
	err := os.Remove(filepath.Join(dir, acceptFileName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: remove %s: %w", ErrDataDir, acceptFileName, err)
	}
	return nil
}

func wayOut(dir string) string {
	return fmt.Sprintf("restore a backup, or create the file %s to go on without what is lost", filepath.Join(dir, acceptFileName))
}

// checkCutOff refuses a store of which a stream was cut off under a server.
func checkCutOff(dir string, before map[string]highWater, accepted bool) error {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if mark := before[name]; mark.CutOff != "" && !accepted {
			return fmt.Errorf("%w: %s: %w: stream %s had %d messages and was cut off %s: its files are damaged; %s",
				ErrStore, dir, errLost, name, mark.LastSeq, mark.CutOff, wayOut(dir))
		}
	}
	return nil
}

// checkHighWater refuses a stream that ends before where it had ended once. The
// server cuts a damaged stream off at the damage and says nothing; a ledger that
// was shortened so would have its items sent again.
//
// A stream that held messages and is gone altogether is refused too: whoever removed
// its folder may not know what was in it.
func checkHighWater(dir string, before map[string]highWater, streams []server.StreamDetail) error {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		mark := before[name]
		there := slices.ContainsFunc(streams, func(d server.StreamDetail) bool { return d.Name == name })
		if !there && mark.LastSeq > 0 {
			return fmt.Errorf("%w: %s: %w: stream %s is gone and had come to message %d; %s",
				ErrStore, dir, errLost, name, mark.LastSeq, wayOut(dir))
		}
	}
	for _, stream := range streams {
		mark := before[stream.Name]
		if mark.past(highWater{Created: stream.Created, LastSeq: stream.State.LastSeq}) {
			return fmt.Errorf("%w: %s: %w: stream %s ends at message %d and had %d before: its files are damaged; %s",
				ErrStore, dir, errLost, stream.Name, stream.State.LastSeq, mark.LastSeq, wayOut(dir))
		}
	}
	return nil
}

func marksOf(streams []server.StreamDetail) map[string]highWater {
	marks := make(map[string]highWater, len(streams))
	for _, stream := range streams {
		if stream.Config != nil && stream.Config.Storage == server.MemoryStorage {
			continue // gone at each end, on purpose
		}
		marks[stream.Name] = highWater{Created: stream.Created, LastSeq: stream.State.LastSeq}
	}
	return marks
}
