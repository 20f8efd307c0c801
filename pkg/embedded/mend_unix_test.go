//go:build linux

package embedded_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
)

// smallDisk mounts a file system of its own, which takes root.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("NOTE: no file system can be mounted here, so the full disk and the read-only store are NOT TESTED: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount %s: %v %s", dir, err, out)
		}
	})
	return dir
}

// fill leaves no room on the disk that dir is on.
func fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 16, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !strings.Contains(err.Error(), "no space left") {
			t.Fatal(err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// Nothing is acknowledged on a full disk, the server says so, and with room again
// it takes messages without a restart and has every one that it acknowledged.
func TestAFullDiskIsToldAndSurvived(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "size=32m")
	log := logtest.New(t)
	s := start(t, embedded.Options{DataDir: dir, Logger: log.Logger()})
	js, err := jetstream.New(client(t, s), jetstream.WithDefaultTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: streamName, Subjects: []string{"test.>"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	acknowledged := uint64(0)
	put := func() error {
		_, err := js.Publish(t.Context(), "test.one", make([]byte, 1000))
		if err == nil {
			acknowledged++
		}
		return err
	}
	for range 3 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	ballast := fill(t, dir)
	for put() == nil && acknowledged < 10_000 {
	}
	log.Wait(logevent.NATSStoreUnusable)
	if err := s.Ready(); !errors.Is(err, embedded.ErrNotReady) {
		t.Errorf("on a full disk the server is ready: %v", err)
	}
	if err := put(); err == nil {
		t.Error("a message was acknowledged on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	log.Wait(logevent.NATSStoreReopened)
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for err = put(); err != nil && ctx.Err() == nil; err = put() {
	}
	if err != nil {
		t.Fatal(err)
	}
	// One whose reply was lost may be there besides; none that was acknowledged may
	// be missing.
	if n := messages(t, s); n < acknowledged {
		t.Errorf("%d messages are stored, %d were acknowledged", n, acknowledged)
	}
}

// A store that cannot be written is refused at the start, in words.
func TestAReadOnlyStoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "size=32m")
	s := start(t, embedded.Options{DataDir: dir})
	publish(t, s, []byte("booked"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(how string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,"+how, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	remount("ro")
	if _, err := embedded.Start(embedded.Options{DataDir: dir}); !errors.Is(err, embedded.ErrDataDir) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
	remount("rw")
	again := start(t, embedded.Options{DataDir: dir})
	if n := messages(t, again); n != 1 {
		t.Errorf("%d messages are left", n)
	}
	// The folder is free to be unmounted once the server has let it go.
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
