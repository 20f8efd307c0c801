package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = 20 * time.Second

// A bubble's clock stands still while anything can go on: timeouts pass at once
// and in the right order.

func TestRunThatEndsByItself(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, want := range []error{nil, broken} {
		err := supervise(t.Context(), logtest.New(t).Logger(), nil, testTimeout, func(context.Context) error { return want })
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestASignalEndsTheContextAndIsWaitedFor(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct{ result, want error }{
		"well": {nil, nil}, "context's error": {fmt.Errorf("fetch: %w", context.Canceled), nil},
		"the cause": {ErrSignalled, nil}, "an error": {broken, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := logtest.New(t)
				signals := make(chan os.Signal, 2)
				signals <- syscall.SIGTERM
				err := supervise(t.Context(), log.Logger(), signals, testTimeout, func(ctx context.Context) error {
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), ErrSignalled) {
						t.Errorf("the cause is %v", context.Cause(ctx))
					}
					<-time.After(testTimeout - 1) // the item in hand
					return c.result
				})
				if !errors.Is(err, c.want) || err != nil && c.want == nil {
					t.Errorf("got %v", err)
				}
				if lines := log.Lines(logevent.ShutdownStarted); len(lines) != 1 || lines[0]["signal"] != "terminated" {
					t.Errorf("logged %s", log.Text())
				}
			})
		})
	}
}

func TestTheTimeoutForcesTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := logtest.New(t)
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGINT
		begin, release := time.Now(), make(chan struct{})
		err := supervise(t.Context(), log.Logger(), signals, testTimeout, func(context.Context) error {
			<-release
			return nil
		})
		if !errors.Is(err, errForced) || exitCode(err) != exitFailed {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != testTimeout {
			t.Errorf("forced after %s", took)
		}
		if lines := log.Lines(logevent.ShutdownForced); len(lines) != 1 || lines[0]["reason"] != "not done after 20s" {
			t.Errorf("logged %s", log.Text())
		}
		close(release)
	})
}

func TestASecondSignalForcesTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := logtest.New(t)
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGINT
		signals <- syscall.SIGINT
		begin, release := time.Now(), make(chan struct{})
		err := supervise(t.Context(), log.Logger(), signals, testTimeout, func(context.Context) error {
			<-release
			return nil
		})
		if !errors.Is(err, errForced) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("forced after %s", took)
		}
		if lines := log.Lines(logevent.ShutdownForced); len(lines) != 1 || lines[0]["reason"] != "second signal: interrupt" {
			t.Errorf("logged %s", log.Text())
		}
		close(release)
	})
}

type serviceConfig struct {
	Log      config.Log      `embed:""`
	Shutdown config.Shutdown `embed:""`
	Sink     config.Sink     `embed:""`
}

type cli struct {
	Check checkCommand `cmd:""`
}

type checkCommand struct {
	Result string `arg:""`
}

// Run is what kong calls.
func (c *checkCommand) Run(ctx context.Context) error {
	switch c.Result {
	case "well":
		return ctx.Err()
	case "silent":
		return Exit(1)
	default:
		return errors.New("the check is broken")
	}
}

func programOf(args, environ []string) (p config.Program, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return config.Program{
		Name: "prog", Description: "A program.", Version: "v1", Args: args, Environ: environ, Stdout: stdout, Stderr: stderr,
	}, stdout, stderr
}

func TestExitCodesOfAService(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args, environ []string
		result        error
		code          int
		stderr        string // a part of it
	}{
		"done":          {code: 0, stderr: logevent.ServiceStopped},
		"failed":        {result: errors.New("disk full"), code: 1, stderr: `"level":"error","service":"prog","cause":"disk full"`},
		"wrong at last": {result: config.Faults{{Setting: "NATS_CREDS", Problem: "is gone"}}.Err("prog"), code: 2, stderr: "NATS_CREDS: is gone"},
		"wrong setting": {environ: []string{"LEDGERLINE_SINK_TIMEOUT=x"}, code: 2, stderr: "LEDGERLINE_SINK_TIMEOUT"},
		"wrong usage":   {args: []string{"--bogus"}, code: 2, stderr: "unknown flag --bogus"},
		"help":          {args: []string{"--help"}, code: 0},
		"version":       {args: []string{"--version"}, code: 0},
	} {
		p, stdout, stderr := programOf(c.args, c.environ)
		code := runProgram(t.Context(), p, new(serviceConfig), func(context.Context, *serviceConfig, *Runtime) error { return c.result }, nil)
		if code != c.code || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: exit code %d, stderr:\n%s", name, code, stderr)
		}
		if help := len(c.args) > 0 && c.code == 0; (stdout.Len() > 0) != help || help && stderr.Len() > 0 {
			t.Errorf("%s: stdout:\n%s\nstderr:\n%s", name, stdout, stderr)
		}
	}
}

func TestAServiceLogsItsSettingsWithoutSecrets(t *testing.T) {
	t.Parallel()
	p, stdout, stderr := programOf([]string{"--log-level=trace"}, []string{
		"LEDGERLINE_SINK_TOKEN=hush", "LEDGERLINE_SINK=https://u:hush@books.example/?k=hush", "LEDGERLINE_PLEO_TOKEN=hush",
	})
	code := runProgram(t.Context(), p, new(serviceConfig), func(_ context.Context, cfg *serviceConfig, rt *Runtime) error {
		rt.Log.Info().Interface("cfg", cfg).Msg("everything")
		fmt.Fprintf(rt.Stdout, "%+v %#v", cfg.Sink.Token, *cfg)
		return nil
	}, nil)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	first, _, _ := strings.Cut(stderr.String(), "\n")
	var fields map[string]any
	if err := json.Unmarshal([]byte(first), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["message"] != logevent.ConfigLoaded || fields["sink_token"] != "[redacted]" || fields["sink_timeout"] != "30s" ||
		fields["sink"] != "https://books.example/?[redacted]" {
		t.Errorf("logged %v", fields)
	}
	// What a program prints of its struct by itself still has the sink's URL in
	// it; the token is what must not show.
	if text := strings.ReplaceAll(stdout.String()+stderr.String(), "https://u:hush@books.example/?k=hush", ""); strings.Contains(text, "hush") {
		t.Errorf("a secret shows:\n%s", text)
	}
}

func TestACommandTellsItsErrorInPlainWords(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]struct {
		code   int
		stderr string
	}{
		"well": {0, ""}, "silent": {1, ""}, "broken": {1, "prog: the check is broken\n"},
	} {
		p, _, stderr := programOf([]string{"check", result}, nil)
		code := runProgram(t.Context(), p, new(cli), func(ctx context.Context, _ *cli, rt *Runtime) error {
			rt.Command.BindTo(ctx, (*context.Context)(nil))
			return rt.Command.Run()
		}, nil)
		if code != want.code || stderr.String() != want.stderr {
			t.Errorf("%s: exit code %d, stderr %q", result, code, stderr)
		}
	}
}

func TestASignalEndsTheWholeProgramWell(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal, 2)
	p, _, stderr := programOf(nil, nil)
	code := runProgram(t.Context(), p, new(serviceConfig), func(ctx context.Context, _ *serviceConfig, _ *Runtime) error {
		signals <- syscall.SIGTERM
		<-ctx.Done()
		return ctx.Err()
	}, signals)
	if code != 0 || !strings.Contains(stderr.String(), logevent.ServiceStopped) {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}

func TestVersionTellsReleaseOrCommit(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
	}}
	for want, got := range map[string]string{
		"v1.2.3 (go":                           describe("v1.2.3", info),
		"development 0123456789ab+changes (go": describe("", info),
		"development (go":                      describe("", nil),
	} {
		if !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Version() == "" {
		t.Error("no version")
	}
}
