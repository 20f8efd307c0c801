package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/logtest"
)

const streamName = "LEDGERLINE_TEST"

func TestMain(m *testing.M) {
	if dir := os.Getenv("EMBEDDED_TEST_HOLD"); dir != "" {
		holdDataDir(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, options embedded.Options) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t *testing.T, s *embedded.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", s.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// publish puts one message into a stream of its own.
func publish(t *testing.T, s *embedded.Server, data []byte) {
	t.Helper()
	nc := client(t, s)
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"test.>"}, Storage: jetstream.FileStorage,
		MaxMsgSize: embedded.MaxPayloadBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "test.one", data); err != nil {
		t.Fatal(err)
	}
}

func messages(t *testing.T, s *embedded.Server) uint64 {
	t.Helper()
	nc := client(t, s)
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestDataSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	first := start(t, embedded.Options{DataDir: dir})
	publish(t, first, []byte("booked"))
	if err := first.Ready(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Ready(); !errors.Is(err, embedded.ErrNotReady) {
		t.Errorf("after Close: %v", err)
	}
	if got := messages(t, start(t, embedded.Options{DataDir: dir})); got != 1 {
		t.Errorf("%d messages after the restart, 1 was acknowledged", got)
	}
}

func TestNothingListensUnlessAskedFor(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{DataDir: t.TempDir()})
	if s.Addr() != "" || s.MonitorAddr() != "" {
		t.Errorf("listens on %q, monitors on %q", s.Addr(), s.MonitorAddr())
	}
	client(t, s)
}

// TestNoPortIsOpenInAProcessOfItsOwn asks the system, not the server.
func TestNoPortIsOpenInAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("the system does not list its sockets in /proc")
	}
	dir := t.TempDir()
	held := hold(t, dir)
	if open := listeningSockets(t, held.Process.Pid); open != 0 {
		t.Errorf("the process listens on %d sockets", open)
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held := hold(t, dir)
	_, err := embedded.Start(embedded.Options{DataDir: dir})
	if !errors.Is(err, embedded.ErrDataDirInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	// The lock ends with its process, however that ends.
	if err := held.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = held.Wait()
	start(t, embedded.Options{DataDir: dir})
}

// hold starts a process that holds dir and returns once it does.
func hold(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "EMBEDDED_TEST_HOLD="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	word := make([]byte, len("held"))
	if _, err := stdout.Read(word); err != nil || string(word) != "held" {
		t.Fatalf("the process says %q: %v", word, err)
	}
	return cmd
}

// holdDataDir runs in the process that hold starts, until its input ends.
func holdDataDir(dir string) {
	s, err := embedded.Start(embedded.Options{DataDir: dir})
	if err != nil {
		panic(err)
	}
	fmt.Fprint(os.Stdout, "held")
	_, _ = os.Stdin.Read(make([]byte, 1))
	_ = s.Close()
}

// listeningSockets counts the TCP sockets in the state "listen" that pid holds.
func listeningSockets(t *testing.T, pid int) int {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil {
			own[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	const stateField, inodeField, listening = 3, 9, "0A"
	count := 0
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(filepath.Join(proc, "net", table))
		if err != nil {
			continue // no IPv6 here
		}
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) > inodeField && fields[stateField] == listening && own[fields[inodeField]] {
				count++
			}
		}
	}
	return count
}

func TestADirectoryThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	storeIsAFile := t.TempDir()
	if err := os.WriteFile(filepath.Join(storeIsAFile, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lockIsADirectory := t.TempDir()
	if err := os.Mkdir(filepath.Join(lockIsADirectory, "ledgerline.lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"a file": file, "below a file": filepath.Join(file, "below"), "empty path": "",
		"store is a file": storeIsAFile, "lock is a directory": lockIsADirectory,
	} {
		_, err := embedded.Start(embedded.Options{DataDir: dir})
		if !errors.Is(err, embedded.ErrDataDir) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestADirectoryWithoutPermissionIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("permissions do not hold for root")
	}
	for name, mode := range map[string]os.FileMode{"unreadable": 0o300, "unwritable": 0o500} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.Start(embedded.Options{DataDir: dir}); !errors.Is(err, embedded.ErrDataDir) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStreamThatCannotBeReadIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, streamDir string){
		"description damaged": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "meta.inf"), "damaged")
		},
		"description gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "meta.inf"))
		},
		"checksum gone": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "meta.sum"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := start(t, embedded.Options{DataDir: dir})
			publish(t, s, []byte("booked"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			streamDir := filepath.Join(dir, "jetstream", "$G", "streams", streamName)
			damage(t, streamDir)
			before := tree(t, filepath.Join(streamDir, "msgs"))

			for range 2 { // refused again, not only once
				_, err := embedded.Start(embedded.Options{DataDir: dir})
				if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), streamName) {
					t.Fatalf("got %v", err)
				}
			}
			if after := tree(t, filepath.Join(streamDir, "msgs")); after != before {
				t.Errorf("the messages were %s and are %s", before, after)
			}
		})
	}
}

// The server itself takes what is left for the whole, without a word.
func TestAStreamThatEndsEarlyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embedded.Options{DataDir: dir})
	for range 3 {
		publish(t, s, []byte("booked"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	msgs := filepath.Join(dir, "jetstream", "$G", "streams", streamName, "msgs")
	block := filepath.Join(msgs, "1.blk")
	content, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	write(t, block, string(content[:len(content)/3])) // the first of three alike
	remove(t, filepath.Join(msgs, "index.db"))

	for range 2 { // refused again, not only once
		_, err := embedded.Start(embedded.Options{DataDir: dir})
		if !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), "ends at message 1 and had 3") {
			t.Fatalf("got %v", err)
		}
	}
	write(t, filepath.Join(dir, "ledgerline-accept-loss"), "")
	if got := messages(t, start(t, embedded.Options{DataDir: dir})); got != 1 {
		t.Errorf("%d messages are left", got)
	}
}

func TestADamagedHighWaterFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ledgerline-high-water.json"), "{")
	if _, err := embedded.Start(embedded.Options{DataDir: dir}); !errors.Is(err, embedded.ErrDataDir) {
		t.Errorf("got %v", err)
	}
}

func TestTheStoreIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	publish(t, start(t, embedded.Options{DataDir: dir}), []byte("booked"))
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the permissions %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAListenerAsksForThePassword(t *testing.T) {
	t.Parallel()
	log := logtest.New(t)
	s := start(t, embedded.Options{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", Monitor: "127.0.0.1:0",
		User: "worker", Password: "of-the-worker", Logger: log.Logger(),
	})
	if _, err := nats.Connect("nats://" + s.Addr()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a password: %v", err)
	}
	nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo("worker", "of-the-worker"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	client(t, s) // inside the process the password goes along
	if strings.Contains(log.Text(), "of-the-worker") {
		t.Error("the log shows the password")
	}
}

// TestEveryWriteIsSynced asks the running server: what a power cut leaves cannot
// be tried here.
func TestEveryWriteIsSynced(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{DataDir: t.TempDir(), Monitor: "127.0.0.1:0"})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://" + s.MonitorAddr() + "/varz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var state server.Varz
	if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
		t.Fatal(err)
	}
	if config := state.JetStream.Config; config == nil || !config.SyncAlways || !config.Strict {
		t.Errorf("JetStream runs with %+v", config)
	}
	if s.Addr() != "" {
		t.Errorf("listens on %s", s.Addr())
	}
}

func TestALargeItemFits(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{DataDir: t.TempDir()})
	nc := client(t, s)
	if got := nc.MaxPayload(); got != embedded.MaxPayloadBytes {
		t.Errorf("the server takes %d bytes", got)
	}
	publish(t, s, make([]byte, embedded.MaxPayloadBytes-1024))
}

func TestAnAddressThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, options := range map[string]embedded.Options{
		"no port":       {Listen: "127.0.0.1"},
		"no number":     {Listen: "127.0.0.1:nats"},
		"too high":      {Listen: "127.0.0.1:65536"},
		"taken":         {Listen: taken.Addr().String()},
		"monitor taken": {Monitor: taken.Addr().String()},
		"monitor bad":   {Monitor: "x"},
	} {
		options.DataDir = t.TempDir()
		if _, err := embedded.Start(options); !errors.Is(err, embedded.ErrAddress) {
			t.Errorf("%s: got %v", name, err)
		}
		// The directory is free again after each refusal.
		start(t, embedded.Options{DataDir: options.DataDir})
	}
	if _, err := embedded.Start(embedded.Options{DataDir: t.TempDir(), User: "worker"}); !errors.Is(err, embedded.ErrServer) {
		t.Errorf("a user without password: %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// tree lists the files below dir with their sizes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			b.WriteString(info.Name() + "=" + strconv.FormatInt(info.Size(), 10) + " ")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A stream whose folder was removed is not begun anew in silence; one in memory is
// gone at each end, on purpose.
func TestAStreamThatIsGoneIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embedded.Options{DataDir: dir})
	publish(t, s, []byte("booked"))
	js, err := jetstream.New(client(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"memory"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "memory", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", streamName)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // refused again, not only once
		if _, err := embedded.Start(embedded.Options{DataDir: dir}); !errors.Is(err, embedded.ErrStore) || !strings.Contains(err.Error(), "stream "+streamName+" is gone") {
			t.Fatalf("got %v", err)
		}
	}
	write(t, filepath.Join(dir, "ledgerline-accept-loss"), "")
	start(t, embedded.Options{DataDir: dir})
}
