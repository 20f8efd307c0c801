package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/ledgerline/ledgerline/pkg/config"
)

// healthCommand is the one argument of a service that is no flag.
const healthCommand = "health"

const (
	// askTimeout bounds the question, the service's own look at its streams
	// included.
	askTimeout = 3 * time.Second
	// maxAnswer bounds what is read and told of an answer.
	maxAnswer = 1 << 10
)

// Service is Main for a program with the group config.HTTP. `PROGRAM health`
// asks the process that runs beside it, by the same settings, whether it is ready,
// and exits 0 or 1: the probe of an image that has no other program in it.
func Service[C any](p config.Program, cfg *C, run func(ctx context.Context, cfg *C, rt *Runtime) error) int {
	if len(p.Args) > 0 && p.Args[0] == healthCommand {
		p.Args = p.Args[1:]
		return health(p, cfg)
	}
	p.Description += fmt.Sprintf(" `%s %s` asks a running one whether it is ready.", p.Name, healthCommand)
	return Main(p, cfg, run)
}

func health[C any](p config.Program, cfg *C) int {
	loaded, err := config.Load(p, cfg)
	if errors.Is(err, config.ErrHandled) {
		return exitDone
	}
	if err == nil {
		settings, _ := config.Group[config.HTTP](loaded)
		err = AskReady(context.Background(), settings.Listen)
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
	}
	return exitCode(err)
}

// AskReady asks /readyz of the service that listens on this machine at listen, a
// value of LEDGERLINE_LISTEN. It returns nil when that is ready, else what it
// answered.
func AskReady(ctx context.Context, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("ask %q: %w", listen, err)
	}
	if port == "0" {
		return fmt.Errorf("ask %q: port 0 is a free one of the service's choice: give LEDGERLINE_LISTEN a port", listen)
	}
	// A service that listens everywhere is asked at the nearest place.
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %q: %w", listen, err)
	}
	// One question, to this machine: no proxy, and no connection that is kept.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its bound; nothing is lost
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it is not ready: %d %s", response.StatusCode, body)
	}
	return nil
}
