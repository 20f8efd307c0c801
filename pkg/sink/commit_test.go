//go:build unix

package sink

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// While one write is under way, all that arrives waits together for the next:
// one sync for all of them. The lock of the file, held here, keeps the first
// write under way.
func TestFileWritersShareASync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	c, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := lockFile(held); err != nil {
		t.Fatal(err)
	}
	first := c.join(&line{text: []byte("first\n")})
	taken := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.waiting != first
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !taken() {
		<-look.C
	}
	shared := c.join(&line{text: []byte("0\n")})
	for i := 1; i < 50; i++ {
		if g := c.join(&line{text: fmt.Appendf(nil, "%d\n", i)}); g != shared {
			t.Fatal("lines that arrive during a write wait for different writes")
		}
	}

	// A delivery that is cancelled while it waits is taken out again: it says
	// "not written", and that is true.
	s := &boundedSink{carrier: c, timeout: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if a := s.Deliver(ctx, Delivery{AccountingEntryID: "cancelled"}); a.Outcome != Retry || !strings.Contains(a.Detail, "not written") {
		t.Errorf("cancelled: %+v, want Retry, not written", a)
	}
	if err := unlockFile(held); err != nil {
		t.Fatal(err)
	}
	<-first.done
	<-shared.done
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	_ = held.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 51 || strings.Contains(string(text), "cancelled") {
		t.Errorf("the file has %d lines, want the 51 of which none was cancelled:\n%s", n, text)
	}
}

// A failed sync is followed by the lines' removal: they are sent again, and must
// not stand there twice.
func TestFileTakeBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bookings.jsonl")
	c, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	write := func(text string) (start, end int64) {
		t.Helper()
		start, end, err := c.write([]*line{{text: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return start, end
	}
	want := func(text string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("the file holds %q (%v), want %q", got, err, text)
		}
	}
	write("one\n")
	start, end := write("two\n")
	if err := c.takeBack(start, end); err != nil {
		t.Fatal(err)
	}
	want("one\n")
	start, end = write("two\n")
	write("of another process\n")
	if err := c.takeBack(start, end); err != nil {
		t.Fatal(err)
	}
	want("one\ntwo\nof another process\n")
}
