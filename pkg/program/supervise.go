package program

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// commandShutdownTimeout is for an operator's command, which has nothing in hand
// that must be finished.
const commandShutdownTimeout = 5 * time.Second

// errForced is returned by supervise when it no longer waited for run.
var errForced = errors.New("shut down by force")

// supervise runs run until it returns. The first signal ends run's context; a
// second one, or timeout after the first, gives up on run and returns errForced
// while run still goes: the process is to end at once.
func supervise(
	ctx context.Context, log zerolog.Logger, signals <-chan os.Signal,
	timeout time.Duration, run func(context.Context) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1) // one place: run ends also when nobody waits any more
	go func() { done <- run(ctx) }()

	select {
	case err := <-done:
		return err
	case sig := <-signals:
		log.Info().Stringer("signal", sig).Msg(logevent.ShutdownStarted)
		cancel(ErrSignalled)
	}

	limit := time.NewTimer(timeout)
	defer limit.Stop()
	var reason string
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) || errors.Is(err, ErrSignalled) {
			return nil
		}
		return err
	case sig := <-signals:
		reason = "second signal: " + sig.String()
	case <-limit.C:
		reason = "not done after " + timeout.String()
	}
	log.Error().Str("reason", reason).Msg(logevent.ShutdownForced)
	return errForced
}
