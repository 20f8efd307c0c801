package sinktest

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// examples is the folder of the sinks that docs/sinks.md shows.
const examples = "../../../../docs/sinks"

// The sinks of docs/sinks.md pass every check, a kill -9 in between included.
func TestTheDocumentsSinksPassEveryCheck(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]func(t *testing.T) []string{
		"go": func(t *testing.T) []string {
			binary := filepath.Join(t.TempDir(), "sink")
			build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, filepath.Join(examples, "go", "main.go"))
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build the sink: %v\n%s", err, out)
			}
			return []string{binary}
		},
		"python": func(t *testing.T) []string {
			return []string{interpreter(t, "python3"), filepath.Join(examples, "python", "sink.py")}
		},
		"node": func(t *testing.T) []string {
			return []string{interpreter(t, "node"), filepath.Join(examples, "node", "sink.mjs")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &example{words: program(t), data: filepath.Join(t.TempDir(), "data")}
			e.start(t.Context(), t)
			t.Cleanup(func() { e.kill(t) })
			spec := "http://" + e.address + "/"
			target, err := url.Parse(spec)
			if err != nil {
				t.Fatal(err)
			}
			const timeout = 20 * time.Second
			wantGood(t, Options{
				Name: spec, Company: TestCompany, Timeout: timeout, RetryWait: 50 * time.Millisecond,
				Open: func() (sink.Sink, error) {
					return sink.Open(spec, sink.Options{Timeout: timeout, MaxConcurrent: jobsTogether})
				},
				Raw: &RawHTTP{URL: target, Timeout: timeout},
				Restart: func(ctx context.Context) error {
					e.kill(t)
					if err := tear(e.data); err != nil {
						return err
					}
					e.start(ctx, t)
					return nil
				},
			})
		})
	}
}

func interpreter(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed, so its sink in docs/sinks was NOT tested", name)
	}
	return path
}

// tear adds half a line to a file of lines, as a crash in the middle of a write
// leaves it. A database is left alone.
func tear(path string) error {
	content, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(content), "{") {
		return err
	}
	return os.WriteFile(path, append(content, `{"job":"7e577e57-torn","epo`...), 0o600)
}

// example is one running sink.
type example struct {
	words   []string
	data    string
	address string // as it printed it; empty before the first start
	cmd     *exec.Cmd
}

// start runs it, at the same address as before, until it says that it listens.
func (e *example) start(ctx context.Context, t *testing.T) {
	t.Helper()
	listen := e.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	// Ended by kill, not with the context of whoever asked for it.
	e.cmd = exec.CommandContext(context.WithoutCancel(ctx), e.words[0], append(e.words[1:], "--listen", listen, "--data", e.data)...)
	var stderr strings.Builder
	e.cmd.Stderr = &stderr
	stdout, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = e.cmd.Wait()
		t.Fatalf("the sink does not start: %v\n%s", err, stderr.String())
	}
	if _, err := fmt.Sscanf(line, "listening on %s", &e.address); err != nil {
		t.Fatalf("the sink says %q: %v", line, err)
	}
}

// kill ends it as a crash does.
func (e *example) kill(t *testing.T) {
	t.Helper()
	if e.cmd == nil {
		return
	}
	if err := e.cmd.Process.Kill(); err != nil {
		t.Errorf("kill the sink: %v", err)
	}
	_ = e.cmd.Wait() // says that it was killed
	e.cmd = nil
}
