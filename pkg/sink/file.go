package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// fileMode keeps bookings, which hold names and amounts, from other users.
const fileMode fs.FileMode = 0o600

// fileCloseGrace is how long a running write is waited for at the end: a disk
// that needs longer for one write hangs, and a shutdown has 20 s in all.
const fileCloseGrace = 5 * time.Second

// fileCarrier appends one line an item and answers once it is on disk.
//
// A synced write costs the same for one line as for a hundred, so deliveries
// that arrive while the disk is busy wait together and share the next one.
// Several processes may write to one file: each group is one append under a
// lock of the file.
type fileCarrier struct {
	path string

	mu      sync.Mutex
	waiting *group        // lines for the next write; nil = none
	idle    chan struct{} // closed when the commit loop has ended; nil = never ran

	file *os.File // the commit loop's own
}

// group is the lines of one write. At most one line of each running delivery
// waits, so it is bounded by their number.
type group struct {
	lines []*line
	done  chan struct{} // closed once err is set
	err   error
}

type line struct{ text []byte }

func openFile(path string) (*fileCarrier, error) {
	c := &fileCarrier{path: path}
	if err := c.open(); err != nil {
		return nil, fmt.Errorf("%w: file: %w", ErrSpec, err)
	}
	return c, nil
}

// open opens or creates the file and makes its name durable: a synced file in a
// directory that was not synced can be gone after a power cut.
func (c *fileCarrier) open() (err error) {
	f, err := os.OpenFile(c.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, fileMode) // read: the last byte, to see a torn line
	if err != nil {
		return fmt.Errorf("open the sink's file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the sink's file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file; nothing written to it could be synced", c.path)
	}
	if err := lockFile(f); err != nil {
		return fmt.Errorf("lock the sink's file %s: %w", c.path, err)
	}
	if err := unlockFile(f); err != nil {
		return fmt.Errorf("unlock the sink's file %s: %w", c.path, err)
	}
	if err := syncDir(filepath.Dir(c.path)); err != nil {
		return fmt.Errorf("sync the directory of the sink's file %s: %w", c.path, err)
	}
	c.file = f
	return nil
}

func (c *fileCarrier) carry(ctx context.Context, _ Delivery, body []byte) Answer {
	l := &line{text: fileLine(body, time.Now())}
	g := c.join(l)
	select {
	case <-g.done:
	case <-ctx.Done():
		if c.withdraw(g, l) {
			return Answer{Outcome: Retry, Detail: "not written: " + context.Cause(ctx).Error()}
		}
		return unanswered(ctx, ctx.Err())
	}
	if g.err != nil {
		return Answer{Outcome: Retry, Detail: g.err.Error()}
	}
	return Answer{Outcome: Booked}
}

// fileLine is the delivery's body with the time it was written, in one line.
func fileLine(body []byte, at time.Time) []byte {
	b := bytes.TrimSuffix(oneLine(body), []byte("}"))
	b = slices.Concat(b, []byte(`,"at":"`))
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"', '}', '\n')
}

// join adds a line to the group that is written next, and sees to it that
// somebody writes.
func (c *fileCarrier) join(l *line) *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = &group{done: make(chan struct{})}
	}
	c.waiting.lines = append(c.waiting.lines, l)
	if !c.running() {
		c.idle = make(chan struct{})
		go c.commitWaiting(c.idle)
	}
	return c.waiting
}

// running is called under mu.
func (c *fileCarrier) running() bool {
	if c.idle == nil {
		return false
	}
	select {
	case <-c.idle:
		return false
	default:
		return true
	}
}

// withdraw takes a line out of a group that nobody has begun to write.
func (c *fileCarrier) withdraw(g *group, l *line) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != g {
		return false
	}
	g.lines = slices.DeleteFunc(g.lines, func(other *line) bool { return other == l })
	return true
}

// commitWaiting writes group after group until none waits. It is a goroutine of
// its own, so that a delivery whose context ends need not wait for a disk that
// hangs.
func (c *fileCarrier) commitWaiting(idle chan struct{}) {
	for {
		c.mu.Lock()
		g := c.waiting
		c.waiting = nil
		if g == nil {
			close(idle)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if len(g.lines) > 0 {
			g.err = c.commit(g.lines)
		}
		close(g.done)
	}
}

// commit puts the lines on disk, all or none where that can be had.
func (c *fileCarrier) commit(lines []*line) error {
	if err := c.followPath(); err != nil {
		return err
	}
	start, end, err := c.write(lines)
	if err != nil {
		return fmt.Errorf("write to the sink's file: %w", err)
	}
	if err := c.file.Sync(); err != nil {
		err = fmt.Errorf("sync the sink's file: %w", err)
		// The lines will be sent again; without this they could stand there
		// twice. A later sync proves nothing about them: after a failed one the
		// system may have dropped the pages.
		return errors.Join(err, c.takeBack(start, end))
	}
	return nil
}

// followPath opens the file anew when it was moved away or removed, by a log
// rotation or by hand: lines synced into a removed file would be lost.
func (c *fileCarrier) followPath() error {
	if c.file != nil {
		held, err := c.file.Stat()
		if err != nil {
			return fmt.Errorf("look at the sink's file: %w", err)
		}
		if named, err := os.Stat(c.path); err == nil && os.SameFile(held, named) {
			return nil
		}
		_ = c.file.Close() // everything in it is synced
		c.file = nil
	}
	return c.open()
}

// write appends the lines in one write and returns where they start and end. A
// write that stops half way, on a full disk, is cut off again.
func (c *fileCarrier) write(lines []*line) (start, end int64, err error) {
	if err := lockFile(c.file); err != nil {
		return 0, 0, fmt.Errorf("lock it: %w", err)
	}
	defer func() { err = errors.Join(err, unlockFile(c.file)) }()
	info, err := c.file.Stat()
	if err != nil {
		return 0, 0, err
	}
	start = info.Size()
	var b []byte
	if start > 0 {
		var last [1]byte
		if _, err := c.file.ReadAt(last[:], start-1); err != nil {
			return 0, 0, fmt.Errorf("read its last byte: %w", err)
		}
		if last[0] != '\n' { // a writer died in its line: ours must not become the end of it
			b = append(b, '\n')
		}
	}
	for _, l := range lines {
		b = append(b, l.text...)
	}
	n, err := c.file.Write(b)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, c.file.Truncate(start))
		}
		return 0, 0, err
	}
	return start, start + int64(n), nil
}

// takeBack removes the lines between start and end, unless another process has
// written behind them: then they stay, and come again with a higher attempt.
func (c *fileCarrier) takeBack(start, end int64) (err error) {
	if err := lockFile(c.file); err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	defer func() { err = errors.Join(err, unlockFile(c.file)) }()
	info, err := c.file.Stat()
	if err != nil || info.Size() != end {
		return err
	}
	return c.file.Truncate(start)
}

func (c *fileCarrier) ready(context.Context) error {
	info, err := os.Stat(filepath.Dir(c.path))
	if err != nil {
		return fmt.Errorf("look at the directory of the sink's file: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", filepath.Dir(c.path))
	}
	return nil
}

// close waits for the write that runs.
func (c *fileCarrier) close() error {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if idle != nil {
		grace := time.NewTimer(fileCloseGrace)
		defer grace.Stop()
		select {
		case <-idle:
		case <-grace.C: // the file stays open: the write may still need it
			return fmt.Errorf("close the sink's file: a write to %s has not ended after %s", c.path, fileCloseGrace)
		}
	}
	if c.file == nil {
		return nil
	}
	if err := c.file.Close(); err != nil {
		return fmt.Errorf("close the sink's file: %w", err)
	}
	return nil
}
