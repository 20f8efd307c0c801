// Package screentest is a terminal for tests: what is written to it is on a screen,
// as a person would see it.
package screentest

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// patience ends a test whose screen never looks as wanted.
const patience = time.Minute

// Screen is one terminal. Its methods may be called from several goroutines.
type Screen struct {
	t testing.TB
	// TTY is what the program under test writes to.
	TTY *os.File

	mu    sync.Mutex
	shown *vt.Emulator
	grown chan struct{} // closed and replaced when something was written
}

// New opens a terminal of columns and rows until the test ends.
func New(t testing.TB, columns, rows int) *Screen {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Skip("NOTE: SKIPPED: no terminal can be opened here:", err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		t.Fatal(err)
	}
	s := &Screen{t: t, TTY: tty, shown: vt.NewEmulator(columns, rows), grown: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4<<10)
		for {
			n, err := master.Read(buffer)
			s.mu.Lock()
			_, writeErr := s.shown.Write(buffer[:n])
			close(s.grown)
			s.grown = make(chan struct{})
			s.mu.Unlock()
			if err != nil || writeErr != nil {
				return // the terminal was closed
			}
		}
	}()
	t.Cleanup(func() {
		// The reader ends when nobody holds the other side.
		if err := errors.Join(tty.Close(), master.Close()); err != nil {
			t.Error(err)
		}
		<-done
	})
	return s
}

// Text is what stands on the screen, without the blanks at the lines' ends.
func (s *Screen) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text()
}

func (s *Screen) text() string {
	lines := strings.Split(s.shown.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// Until waits until the screen looks as wanted and returns it.
func (s *Screen) Until(wanted string, is func(text string) bool) string {
	s.t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		text, grown := s.text(), s.grown
		s.mu.Unlock()
		if is(text) {
			return text
		}
		select {
		case <-grown:
		case <-limit:
			s.t.Fatalf("the screen does not show %s:\n%s", wanted, text)
		}
	}
}
