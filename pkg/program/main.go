package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// Exit codes of every program.
const (
	exitDone   = 0
	exitFailed = 1
)

// Runtime is what a run function gets besides its settings.
type Runtime struct {
	Name    string
	Version string
	Log     zerolog.Logger
	Stdout  io.Writer
	Stderr  io.Writer

	// Command is the chosen command of a program that has commands; its Run
	// method calls the command's own with what is passed to it.
	Command *kong.Context
}

// FromOS is the program that this process is.
func FromOS(name, description string) config.Program {
	return config.Program{
		Name: name, Description: description, Version: Version(),
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
	}
}

// Main reads the settings into cfg, runs run and returns the exit code. run
// returns when its work is done, or soon after ctx has ended.
//
// A program, or a command, with the group config.Shutdown is a service: its
// settings, its start and its end are logged, and its error too. Without that
// group it is a command that a person waits for: the error goes to Stderr in
// plain words.
func Main[C any](p config.Program, cfg *C, run func(ctx context.Context, cfg *C, rt *Runtime) error) int {
	// Two places: the second signal must not be lost while the first is handled.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	return runProgram(context.Background(), p, cfg, run, signals)
}

func runProgram[C any](
	ctx context.Context, p config.Program, cfg *C,
	run func(ctx context.Context, cfg *C, rt *Runtime) error, signals <-chan os.Signal,
) int {
	loaded, err := config.Load(p, cfg)
	switch {
	case errors.Is(err, config.ErrHandled):
		return exitDone
	case errors.Is(err, config.ErrInvalid):
		fmt.Fprintln(p.Stderr, err)
		return exitCode(err)
	case err != nil:
		fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
		return exitFailed
	}
	logGroup, _ := config.Group[config.Log](loaded)
	shutdown, isService := config.Group[config.Shutdown](loaded)
	rt := &Runtime{
		Name: p.Name, Version: p.Version, Log: logGroup.Logger(p.Stderr),
		Stdout: p.Stdout, Stderr: p.Stderr, Command: loaded.Command,
	}
	timeout := shutdown.Timeout
	if isService {
		loaded.Record(rt.Log.Info())
		rt.Log.Info().Str("service", p.Name).Str("version", p.Version).Msg(logevent.ServiceStarted)
	} else {
		loaded.Record(rt.Log.Debug())
		timeout = commandShutdownTimeout
	}

	err = supervise(ctx, rt.Log, signals, timeout, func(ctx context.Context) error { return run(ctx, cfg, rt) })

	var exit Exit
	switch {
	case err == nil:
	case errors.As(err, &exit), errors.Is(err, errForced):
		// Told already.
	case errors.Is(err, config.ErrInvalid):
		fmt.Fprintln(p.Stderr, err)
	case isService:
		rt.Log.Error().Str("service", p.Name).AnErr("cause", err).Msg(logevent.ServiceFailed)
	default:
		fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
	}
	if err == nil && isService {
		rt.Log.Info().Str("service", p.Name).Msg(logevent.ServiceStopped)
	}
	return exitCode(err)
}

// exitCode is 0 for no error, the error's own where it has one, else 1.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailed
}
