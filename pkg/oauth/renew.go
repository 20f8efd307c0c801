package oauth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// minRetryWait doubles to maxRetryWait between tries that failed, over all
	// replicas together.
	minRetryWait = 500 * time.Millisecond
	maxRetryWait = 30 * time.Second
	// clientRetryWait is the wait after the client itself was refused: a person
	// has to change a setting first.
	clientRetryWait = time.Minute
	// retryDoublings bounds the exponent.
	retryDoublings = 6
)

// renewed is a new pair, and the entry that was locked for it.
type renewed struct {
	pair
	locked entry
	at     uint64 // revision
	// shown tells that the log has the trouble of storing it.
	shown bool
}

// renew is the way to an access token other than refused: read, lock, ask, store.
func (a *Authorizer) renew(ctx context.Context, refused string) (string, error) {
	for asked := false; ; {
		if err := a.storePending(ctx); err != nil {
			return "", err
		}
		seed, err := a.settingsToken()
		if err != nil {
			return "", err
		}
		stored, revision, err := a.read(ctx)
		if err != nil {
			return "", err
		}
		e, replaced := stored.seeded(seed)
		now := a.now()
		other := e.Access != refused
		// One that was issued in this very flight is not judged by its age: a clock
		// that is wrong would renew it for ever.
		if other && (e.live(now, e.margin()) || asked && e.Access != "") {
			a.hold(e, seed)
			return e.Access, nil
		}
		usable := other && e.live(now, 0) // to fall back on while no other is to be had

		var wait time.Duration
		switch {
		case e.Refused == hashOf(a.options.TokenURL):
			err := a.lost(e)
			if usable {
				a.hold(e, seed)
				return e.Access, nil
			}
			return "", err
		case !other && now.Sub(e.Issued) < minAge:
			return "", errYoung
		case e.RefreshingBy != "" && e.RefreshingBy != a.name && now.Before(e.RefreshingUntil):
			wait = min(lookInterval, e.RefreshingUntil.Sub(now))
		case now.Before(e.RetryAt):
			if usable {
				return e.Access, nil
			}
			wait = min(e.RetryAt.Sub(now), maxRetryWait)
		}
		if wait > 0 {
			if !a.pause(ctx, wait) {
				return "", a.ended(ctx)
			}
			continue
		}
		if a.ending() {
			return "", errClosed
		}

		e.RefreshingBy, e.RefreshingUntil = a.name, now.Add(lockTime)
		revision, err = a.write(ctx, e, revision)
		if errors.Is(err, errOvertaken) {
			continue
		}
		if err != nil {
			// The lock may stand all the same; the next flight knows it by its name.
			return "", err
		}
		if replaced {
			a.logger.Info().Msg(logevent.PleoTokenReplaced)
		}
		if asked, err = a.ask(ctx, e, revision); err != nil {
			return "", err
		}
	}
}

// ask is the refresh itself; the entry is locked by this replica. given: there is
// a new pair, to be stored. Without an error the entry is to be read again.
func (a *Authorizer) ask(ctx context.Context, e entry, revision uint64) (given bool, err error) {
	secret, err := a.options.ClientSecret()
	if err != nil {
		return false, a.unlock(e, revision, clientRetryWait, fmt.Errorf("read the client secret: %w", err))
	}
	// Neither the end of the call nor of the process cuts it off: what Pleo has
	// carried out must be stored.
	got, err := a.endpoint.exchange(context.WithoutCancel(ctx), strings.TrimSpace(secret), e.Refresh, a.now)
	var void *refusedTokenError
	var client *refusedClientError
	switch {
	case err == nil:
		a.mu.Lock()
		a.pending = &renewed{pair: got, locked: e, at: revision}
		a.mu.Unlock()
		return true, nil
	case errors.As(err, &void):
		e.RefreshingBy, e.RefreshingUntil = "", time.Time{}
		e.Refused, e.Reason = hashOf(a.options.TokenURL), void.text
		if e.Tries > 0 {
			e.Reason += "; the answer to an earlier refresh was lost"
		}
		return false, a.overwrite(ctx, e, revision)
	case errors.As(err, &client):
		return false, a.unlock(e, revision, clientRetryWait, fmt.Errorf("%w; check the client id, the client secret and the token URL", err))
	}
	wait := min(minRetryWait<<min(e.Tries, retryDoublings), maxRetryWait)
	return false, a.unlock(e, revision, wait+rand.N(minRetryWait), err)
}

// unlock lets the next try begin after wait. The error is told where the trouble
// needs a person; nil lets the flight wait and try again.
func (a *Authorizer) unlock(e entry, revision uint64, wait time.Duration, trouble error) error {
	e.RefreshingBy, e.RefreshingUntil = "", time.Time{}
	e.Tries++
	e.RetryAt = a.now().Add(wait)
	var endpoint *passing
	passes := errors.As(trouble, &endpoint)
	event := a.logger.Warn()
	if !passes {
		event = a.logger.Error()
	}
	event.Err(trouble).Int("try", e.Tries).Float64("retry_in", wait.Seconds()).Msg(logevent.PleoTokenNotRefreshed)
	if err := a.overwrite(context.Background(), e, revision); err != nil {
		return err
	}
	if !passes {
		return trouble
	}
	return nil
}

// overwrite writes an entry that this replica has locked. Somebody who wrote in
// between, such as an operator's new token, is right.
func (a *Authorizer) overwrite(ctx context.Context, e entry, revision uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), kvTimeout)
	defer cancel()
	if _, err := a.write(ctx, e, revision); err != nil && !errors.Is(err, errOvertaken) {
		return err
	}
	return nil
}

// storePending stores a pair that Pleo has given, if there is one. The end of the
// process does not cut it off either: without the new pair a person has to authorise
// again.
func (a *Authorizer) storePending(ctx context.Context) error {
	a.mu.Lock()
	p := a.pending
	a.mu.Unlock()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	for {
		done, err := a.store(ctx, p)
		if done {
			a.mu.Lock()
			a.pending = nil
			a.mu.Unlock()
			return nil
		}
		if !p.shown && !errors.Is(err, errOvertaken) { // which passes, or is told below
			p.shown = true
			a.logger.Error().Err(err).Msg(logevent.PleoTokenNotStored)
		}
		timer := time.NewTimer(lookInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", errUnstored, err)
		}
	}
}

// store puts a new pair in the place of the entry that was locked for it. done: it
// stands there, or another pair does that this one is not the successor of.
func (a *Authorizer) store(ctx context.Context, p *renewed) (done bool, err error) {
	e := entry{Access: p.access, Refresh: p.refresh, Issued: p.issued, Expires: p.expires, Seeds: p.locked.Seeds}
	_, err = a.write(ctx, e, p.at)
	if err == nil {
		a.logger.Info().Time("expires", p.expires).Msg(logevent.PleoTokenRefreshed)
		return true, nil
	}
	if !errors.Is(err, errOvertaken) {
		return false, err
	}
	// A first try whose reply was lost, or somebody who wrote in between, such as an
	// operator's new token.
	now, revision, err := a.read(ctx)
	switch {
	case err != nil:
		return false, err
	case revision <= p.at:
		// A replica that does not know of the lock yet has answered, and this write
		// fails; or the bucket is a new one.
		_, err = a.write(ctx, e, revision)
		return err == nil, err
	case now.Refresh != p.locked.Refresh:
		return true, nil
	}
	// The same refresh token, under another's lock.
	p.locked, p.at = now, revision
	return false, errOvertaken
}

// lost is the error of a refresh token that Pleo refuses; the log has it once.
func (a *Authorizer) lost(e entry) error {
	wayOut := "authorise again and set " + a.options.Setting + " anew"
	err := fmt.Errorf("%w (%s): %s", ErrAuthorise, e.Reason, wayOut)
	refused := hashOf(e.Refresh)
	a.mu.Lock()
	told := a.alerted == refused
	a.alerted = refused
	a.mu.Unlock()
	if !told {
		a.logger.Error().Str("error", fmt.Sprintf("%v: %s", ErrAuthorise, e.Reason)).Str("way_out", wayOut).Msg(logevent.PleoAuthorisationLost)
	}
	return err
}

func (a *Authorizer) ending() bool {
	select {
	case <-a.closing:
		return true
	default:
		return false
	}
}

func (a *Authorizer) ended(ctx context.Context) error {
	if a.ending() {
		return errClosed
	}
	return context.Cause(ctx)
}
