package lease

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// ErrLost is the cause of the context of a lease that ran out.
var ErrLost = errors.New("the lease ran out: no heartbeat was confirmed in time")

var progress = []byte("+WPI")

// Lease is one message in hand. Its methods may be called concurrently.
type Lease struct {
	conn     *nats.Conn
	reply    string
	lease    time.Duration
	cancel   context.CancelCauseFunc
	done     chan struct{}
	logger   zerolog.Logger
	lastSeen atomic.Pointer[time.Time] // when the last confirmed heartbeat was sent
}

// Keep starts the heartbeats of the message whose ack subject is reply; taken is a
// time before it can have been delivered, such as the begin of the pull. The returned context ends with cause ErrLost when the
// lease ran out, and with Stop.
func Keep(ctx context.Context, conn *nats.Conn, reply string, taken time.Time, lease time.Duration, logger zerolog.Logger) (*Lease, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &Lease{conn: conn, reply: reply, lease: lease, cancel: cancel, done: make(chan struct{}), logger: logger}
	l.lastSeen.Store(&taken)
	go l.beat(ctx)
	return l, ctx
}

// Held tells whether nobody else can have been given the message yet, but by a server
// that was killed.
func (l *Lease) Held() bool { return since(*l.lastSeen.Load()) < l.lease*3/4 }

// since is the larger of two clocks' answers: the monotonic one stands still
// while a machine sleeps, the wall clock may be set back.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// Stop ends the heartbeats and waits for the last one.
func (l *Lease) Stop() {
	l.cancel(context.Canceled)
	<-l.done
}

func (l *Lease) beat(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(l.lease / 4)
	defer ticker.Stop()
	// The first one at once: taken may lie a pull's wait back.
	for {
		l.confirm(ctx)
		if ctx.Err() == nil && !l.Held() {
			l.logger.Warn().Dur("lease", l.lease).Msg(logevent.LeaseLost)
			l.cancel(ErrLost)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// confirm sends one heartbeat. What counts is when it was sent, not when its
// confirmation came: the server's clock started in between.
func (l *Lease) confirm(ctx context.Context) {
	sent := time.Now()
	// A process that was stopped for longer than its lease must not take it up
	// again: the server confirms a heartbeat also when it has given the message to
	// somebody else.
	if !l.Held() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.lease/4)
	defer cancel()
	if _, err := l.conn.RequestWithContext(ctx, l.reply, progress); err != nil {
		if !errors.Is(err, context.Canceled) {
			l.logger.Warn().Err(err).Msg(logevent.HeartbeatMissed)
		}
		return
	}
	if since(sent) < l.lease/4 { // stopped in between: it may have gone out late
		l.lastSeen.Store(&sent)
	}
}
