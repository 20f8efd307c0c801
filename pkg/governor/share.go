package governor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// maxShareTries bounds the compare-and-set of one slice. With ten writes a
	// second in all, two replicas meet now and then.
	maxShareTries = 20
	// maxSharePause bounds the random wait between tries, in which a replica of
	// the bucket that was read and lags catches up.
	maxSharePause = 5 * time.Millisecond
)

// share changes the budget in the bucket. After an error nothing may rest on
// change having happened.
func (l *Limiter) share(change func(b *budget, now time.Time)) error {
	return l.askNATS(func(ctx context.Context, kv jetstream.KeyValue) error { return l.compareAndSet(ctx, kv, change) })
}

// askNATS does something with the bucket. After an error, which is logged, the
// process is on its own for AloneFor.
func (l *Limiter) askNATS(do func(ctx context.Context, kv jetstream.KeyValue) error) error {
	if time.Now().Before(l.alone) {
		return errAlone
	}
	err := l.withBucket(do)
	switch {
	case err == nil && l.unshared:
		l.unshared = false
		l.logger.Info().Msg(logevent.PleoRateShared)
	case err != nil:
		l.revision = 0
		l.governor.forget()
		l.alone = time.Now().Add(AloneFor)
		if !l.unshared {
			l.unshared = true
			l.logger.Warn().Err(err).Float64("rate", l.governor.rate).Msg(logevent.PleoRateUnshared)
		}
	}
	return err
}

func (l *Limiter) withBucket(do func(ctx context.Context, kv jetstream.KeyValue) error) error {
	if conn := l.governor.js.Conn(); conn != nil && !conn.IsConnected() {
		return errAway // asking would only cost the time-out
	}
	ctx, cancel := context.WithTimeout(context.Background(), KVTimeout)
	defer cancel()
	kv, err := l.governor.open(ctx)
	if err != nil {
		return err
	}
	return do(ctx, kv)
}

func (l *Limiter) compareAndSet(ctx context.Context, kv jetstream.KeyValue, change func(b *budget, now time.Time)) error {
	for try := range maxShareTries {
		// What was written last by this process is tried first: while it is the only
		// one at work, a slice is one request to NATS.
		if try > 0 || l.revision == 0 {
			if err := l.read(ctx, kv); err != nil {
				return err
			}
		}
		next := l.budget
		change(&next, time.Now())
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encode the rate of credential %s: %w", l.key, err)
		}
		var revision uint64
		if l.revision == 0 {
			revision, err = kv.Create(ctx, l.key, value)
		} else {
			revision, err = kv.Update(ctx, l.key, value, l.revision)
		}
		if err == nil {
			l.budget, l.revision = next, revision
			return nil
		}
		if !cas.IsConflict(err) && !errors.Is(err, jetstream.ErrKeyExists) {
			// It may have been written all the same.
			return fmt.Errorf("write the rate of credential %s: %w", l.key, err)
		}
		if try > 0 {
			wait(ctx, rand.N(maxSharePause))
		}
	}
	return errContended
}

// recheck drops slots that a refusal elsewhere has made void.
func (l *Limiter) recheck(now time.Time) {
	if err := l.askNATS(func(ctx context.Context, kv jetstream.KeyValue) error { return l.read(ctx, kv) }); err != nil {
		l.slots.checked = now // by its own rate, then
		return
	}
	l.slots.check(l.budget, now)
}

// read takes the budget from the bucket; where there is none, that of this process
// stands.
func (l *Limiter) read(ctx context.Context, kv jetstream.KeyValue) error {
	entry, err := kv.Get(ctx, l.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		l.revision = 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the rate of credential %s: %w", l.key, err)
	}
	var b budget
	if json.Unmarshal(entry.Value(), &b) != nil {
		// Nobody's promise rests on it: written anew.
		b = l.budget
	}
	l.budget, l.revision = b, entry.Revision()
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
