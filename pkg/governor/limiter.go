package governor

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// Limiter is the line before one credential. It implements pleo.Limiter.
type Limiter struct {
	governor *Governor
	key      string
	logger   zerolog.Logger
	nudged   chan struct{} // wakes the dispatcher out of a wait

	mu      sync.Mutex
	line    line
	refused *refusal // the latest, while the others do not know of it
	working bool     // a dispatcher runs

	// What follows belongs to the dispatcher; one runs at a time.
	budget   budget // as it was written last, or went on alone since
	revision uint64 // of budget in the bucket; 0: not known
	slots    slots
	token    time.Time // from when the process's token in hand may be used; zero: none in hand
	alone    time.Time // until then NATS is not asked
	unshared bool      // said so in the log
}

var _ pleo.Limiter = (*Limiter)(nil)

// Wait implements pleo.Limiter.
func (l *Limiter) Wait(ctx context.Context, company string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := &ticket{company: company, ready: make(chan struct{})}
	l.mu.Lock()
	l.line.add(t)
	l.work()
	l.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Where it was its turn in this very moment, its slot passes unused.
	l.line.remove(t)
	if l.line.length == 0 {
		l.nudge() // nobody waits for the dispatcher any more
	}
	return ctx.Err()
}

// Observe implements pleo.Limiter.
func (l *Limiter) Observe(c pleo.Call) {
	if c.Code != strconv.Itoa(http.StatusTooManyRequests) {
		return
	}
	now := time.Now()
	r := refusal{sent: now.Add(-c.Duration), until: now.Add(min(max(c.RetryAfter, MinPause), MaxPause))}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil && l.refused.until.After(r.until) {
		r.until = l.refused.until
	}
	l.refused = &r
	l.work()
	l.nudge()
}

// work sees that a dispatcher runs. mu is held.
func (l *Limiter) work() {
	if !l.working {
		l.working = true
		go l.dispatch()
	}
}

func (l *Limiter) nudge() {
	select {
	case l.nudged <- struct{}{}:
	default:
	}
}

// dispatch lets the requests in the line go, one a slot, and tells of refusals. It
// ends when nothing is left to do.
func (l *Limiter) dispatch() {
	for {
		l.mu.Lock()
		refused, waiting := l.refused, l.line.length
		l.refused = nil
		if refused == nil && waiting == 0 {
			l.working = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()

		if refused != nil {
			l.slots = slots{}
			l.tell(*refused)
			continue
		}
		now := time.Now()
		// The process's own token first: a slot of the budget would pass while it
		// is waited for.
		if l.token.IsZero() {
			l.token = now.Add(l.governor.own.ReserveN(now, 1).DelayFrom(now))
		}
		if l.token.After(now) {
			l.until(l.token)
			continue
		}
		at, ok := l.slots.next(now)
		if !ok {
			l.slots = l.lease(min(waiting, 1+max(0, int(l.governor.own.TokensAt(now)))))
			continue
		}
		if at.After(now) {
			l.until(at)
			continue
		}
		if l.slots.stale(now) {
			l.recheck(now)
			continue
		}
		l.mu.Lock()
		t, ok := l.line.next()
		l.mu.Unlock()
		if ok {
			l.slots.use()
			l.token = time.Time{}
			close(t.ready)
		}
	}
}

// until waits for a moment, or for a nudge.
func (l *Limiter) until(at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.nudged:
	}
}

// lease takes up to n slots of the shared budget, or where NATS is away one of the
// budget as it is known here.
func (l *Limiter) lease(n int) slots {
	var taken slots
	if err := l.share(func(b *budget, now time.Time) { taken = b.take(now, n) }); err != nil {
		return l.budget.take(time.Now(), 1)
	}
	return taken
}

// tell cuts the shared budget after a refusal, or where NATS is away that of this
// process.
func (l *Limiter) tell(r refusal) {
	var before, after budget
	first := false
	refuse := func(b *budget, now time.Time) {
		before = *b
		first = b.refuse(now, r)
		after = *b
	}
	if err := l.share(refuse); err != nil {
		refuse(&l.budget, time.Now())
	}
	if first {
		l.logger.Warn().Float64("rate_before", before.Rate).Float64("rate", after.Rate).
			Float64("pause_seconds", time.Until(after.PausedUntil).Seconds()).Msg(logevent.PleoRateCut)
	}
}
