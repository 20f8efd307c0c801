package natsconn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// Waits between two tries grow from the first to the second, each with
	// jitter, so that a hundred workers do not return in the same instant.
	minReconnectWait = 100 * time.Millisecond
	maxReconnectWait = 2 * time.Second

	// dialTimeout bounds one try, TLS handshake and greeting included.
	dialTimeout = 5 * time.Second

	// A dead peer is noticed after two pings without an answer: ten to fifteen
	// seconds. The client's own default is four to six minutes.
	pingInterval     = 5 * time.Second
	maxPingsUnheard  = 2
	writeTimeout     = 10 * time.Second // one write to a peer that reads no more
	drainTimeout     = 5 * time.Second  // below the default time for a shutdown
	reconnectBufSize = 8 << 20          // bytes published while disconnected; then publishing fails

	// waitingLogInterval is how often a program that still waits for its first
	// server says so.
	waitingLogInterval = 10 * time.Second
)

// Options are what a connection needs besides the settings.
type Options struct {
	// Name shows in the server's list of connections, such as
	// "ledgerline-fetcher".
	Name   string
	Logger zerolog.Logger

	// InProcess connects to the embedded server instead of the one in the
	// settings, which are then not looked at. See embedded.Server.InProcess.
	InProcess nats.Option

	// InboxPrefix is where answers come to; empty is that of the nats context, or
	// _INBOX. and Name. So an account can give each program an inbox that no
	// other program may read.
	InboxPrefix string

	// OnServerTooOld is called, if set, when a reconnect reached a server that is
	// too old: the promises do not hold there, so a worker should stop. Ready
	// says so as well. Called from the connection's callback goroutine.
	OnServerTooOld func(error)
}

// Connect returns a connection once a server that is new enough has answered.
// Until then it waits, also through refused passwords, and ends with ctx. Errors:
// *config.Error for a setting that cannot be used, ErrServerTooOld, or what ctx
// ended with. The caller closes the connection.
//
// A program that must answer for itself while it waits calls Connect after its
// HTTP server was started; see Ready.
func Connect(ctx context.Context, settings config.NATS, options Options) (*nats.Conn, error) {
	o, err := clientOptions(settings, options)
	if err != nil {
		return nil, err
	}
	w := &watcher{
		log: options.Logger, onTooOld: options.OnServerTooOld,
		up: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	w.attach(&o)

	nc, err := o.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if err := w.waitFirst(ctx, nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

func clientOptions(settings config.NATS, options Options) (nats.Options, error) {
	var o nats.Options
	if options.InProcess != nil {
		o = nats.GetDefaultOptions()
		if err := options.InProcess(&o); err != nil {
			return nats.Options{}, fmt.Errorf("connect inside the process: %w", err)
		}
	} else {
		var faults config.Faults
		if o, faults = settings.Options(); len(faults) > 0 {
			return nats.Options{}, faults.Err(options.Name)
		}
	}
	o.Name = options.Name
	if options.InboxPrefix == "" && o.InboxPrefix == "" && options.Name != "" {
		options.InboxPrefix = "_INBOX." + options.Name
	}
	if options.InboxPrefix != "" {
		if err := nats.CustomInboxPrefix(options.InboxPrefix)(&o); err != nil {
			return nats.Options{}, fmt.Errorf("use inbox prefix %q: %w", options.InboxPrefix, err)
		}
	}

	// Never give up: not at the first connection, not after a number of tries,
	// and not when the password is refused twice, which is the client's default.
	o.RetryOnFailedConnect = true
	o.AllowReconnect = true
	o.MaxReconnect = -1
	o.IgnoreAuthErrorAbort = true
	o.CustomReconnectDelayCB = reconnectWait

	o.Timeout = dialTimeout
	o.PingInterval = pingInterval
	o.MaxPingsOut = maxPingsUnheard
	o.FlusherTimeout = writeTimeout
	o.DrainTimeout = drainTimeout
	o.ReconnectBufSize = reconnectBufSize
	return o, nil
}

// reconnectWait doubles from minReconnectWait to maxReconnectWait and takes a
// random half of it away at most.
func reconnectWait(round int) time.Duration {
	wait := minReconnectWait
	for ; round > 1 && wait < maxReconnectWait; round-- {
		wait *= 2
	}
	wait = min(wait, maxReconnectWait)
	return wait/2 + rand.N(wait/2)
}

// watcher logs what happens to one connection and tells the waiting Connect.
type watcher struct {
	log      zerolog.Logger
	onTooOld func(error)

	up       chan struct{} // one place: filled when a server has answered
	closed   chan struct{} // closed when the connection is over
	accepted atomic.Bool   // set once Connect has judged its first server
}

func (w *watcher) attach(o *nats.Options) {
	o.ConnectedCB = func(nc *nats.Conn) {
		w.connection(w.log.Info(), nc).Msg(logevent.NATSConnected)
		w.signalUp()
	}
	o.ReconnectedCB = func(nc *nats.Conn) {
		w.connection(w.log.Info(), nc).Uint64("reconnects", nc.Stats().Reconnects).Msg(logevent.NATSReconnected)
		w.signalUp()
		// An empty version: the connection is gone again already.
		if found := nc.ConnectedServerVersion(); found != "" && w.accepted.Load() {
			w.judge(checkVersion(found))
		}
	}
	o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
		if nc.IsClosed() {
			return // our own Close; NATSClosed says so
		}
		w.log.Warn().AnErr("cause", err).Msg(logevent.NATSDisconnected)
	}
	o.ReconnectErrCB = func(_ *nats.Conn, err error) {
		if isAccessError(err) {
			w.log.Error().AnErr("cause", err).Msg(logevent.NATSAccessRefused)
			return
		}
		// One line a try would fill the log of a long outage; NATSDisconnected or
		// NATSWaiting has told already.
		w.log.Debug().AnErr("cause", err).Msg(logevent.NATSWaiting)
	}
	o.ClosedCB = func(*nats.Conn) {
		w.log.Info().Msg(logevent.NATSClosed)
		close(w.closed)
	}
	o.LameDuckModeHandler = func(nc *nats.Conn) {
		w.connection(w.log.Info(), nc).Msg(logevent.NATSLameDuck)
	}
	o.AsyncErrorCB = w.asyncError
}

// connection adds what the connection is to. The client's own redacted URL
// shows the user, which may be a token.
func (w *watcher) connection(event *zerolog.Event, nc *nats.Conn) *zerolog.Event {
	return event.Str("url", config.RedactURL(nc.ConnectedUrl())).Str("server", nc.ConnectedServerName()).
		Str("server_version", nc.ConnectedServerVersion())
}

func (w *watcher) signalUp() {
	select {
	case w.up <- struct{}{}:
	default:
	}
}

func (w *watcher) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		event := w.log.Warn().Str("subject", subject)
		if sub != nil {
			if dropped, err := sub.Dropped(); err == nil {
				event = event.Int("dropped", dropped)
			}
		}
		event.Msg(logevent.NATSSlowConsumer)
	case isAccessError(err):
		w.log.Error().AnErr("cause", err).Msg(logevent.NATSAccessRefused)
	default:
		w.log.Warn().AnErr("cause", err).Str("subject", subject).Msg(logevent.NATSErrorReported)
	}
}

func (w *watcher) judge(err error) {
	if err == nil {
		return
	}
	w.log.Error().AnErr("cause", err).Msg(logevent.NATSServerTooOld)
	if w.onTooOld != nil {
		w.onTooOld(err)
	}
}

// waitFirst waits for the first server and judges its version.
func (w *watcher) waitFirst(ctx context.Context, nc *nats.Conn) error {
	if nc.Status() != nats.CONNECTED {
		w.logWaiting(nc)
	}
	ticker := time.NewTicker(waitingLogInterval)
	defer ticker.Stop()
	for {
		select {
		case <-w.up:
			found := nc.ConnectedServerVersion()
			if found == "" {
				continue // lost again before we looked
			}
			w.accepted.Store(true)
			if err := checkVersion(found); err != nil {
				w.log.Error().AnErr("cause", err).Msg(logevent.NATSServerTooOld)
				return fmt.Errorf("%s: %w", config.RedactURL(nc.ConnectedUrl()), err)
			}
			return nil
		case <-w.closed:
			return fmt.Errorf("wait for NATS: %w", errors.Join(ErrClosed, nc.LastError()))
		case <-ctx.Done():
			return fmt.Errorf("wait for NATS: %w", context.Cause(ctx))
		case <-ticker.C:
			w.logWaiting(nc)
		}
	}
}

func (w *watcher) logWaiting(nc *nats.Conn) {
	urls := make([]string, 0, len(nc.Opts.Servers))
	for _, server := range nc.Opts.Servers {
		urls = append(urls, config.RedactURL(server))
	}
	event := w.log.Warn()
	if err := nc.LastError(); err != nil {
		event = event.AnErr("cause", err)
	}
	event.Strs("urls", urls).Msg(logevent.NATSWaiting)
}

// isAccessError tells a refused identity or a forbidden subject from trouble
// that passes by itself.
func isAccessError(err error) bool {
	if err == nil {
		return false
	}
	for _, refused := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked,
		nats.ErrAccountAuthExpired, nats.ErrPermissionViolation,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return strings.Contains(strings.ToLower(err.Error()), "authorization violation")
}
