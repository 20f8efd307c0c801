package pleo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// MinRetryWait and MaxRetryWait bound the growing waits, jitter included:
	// half a second lets a deployment's hiccup pass, thirty seconds still give a
	// hundred tries in a job's hour.
	MinRetryWait = 500 * time.Millisecond
	MaxRetryWait = 30 * time.Second

	// MaxRetryAfter bounds what a Retry-After may ask for. A job lives an hour
	// without a sign from us; five minutes leave it several more tries.
	MaxRetryAfter = 5 * time.Minute

	// retryJitter spreads replicas that failed in the same moment.
	retryJitter = 0.2

	// retryGrowth: 0.6, 1.2, 2.5, 5, 10, 20 and then 25 seconds, before jitter.
	retryGrowth = 2

	// retryAfterJitter is added to a Retry-After, never taken off it.
	retryAfterJitter = 0.1

	// CredentialAlertInterval: an alert a minute is noticed, and does not bury
	// the log while dozens of calls keep trying.
	CredentialAlertInterval = time.Minute

	// codeNoCredential marks trouble of the Authorizer; no request was sent, so
	// it is never seen in a Call.
	codeNoCredential = "no_credential" //nolint:gosec // a word in a counter
)

// verdict is what an error of one try means for its call.
type verdict int

const (
	giveUp      verdict = iota // nothing changes by trying again
	tryAgain                   // may pass
	credentials                // may pass once a person or a refresh changes the credential
)

// judge is the one place that decides between the three.
func judge(err error) verdict {
	var passing *trouble
	if errors.As(err, &passing) {
		if passing.code == codeNoCredential {
			return credentials
		}
		return tryAgain
	}
	var refusal *APIError
	if errors.As(err, &refusal) {
		switch {
		case refusal.Status == http.StatusUnauthorized:
			return credentials
		case refusal.Status == http.StatusTooManyRequests,
			refusal.Status == http.StatusRequestTimeout, // a proxy's word for a time-out
			refusal.Status >= 500:
			return tryAgain
		}
	}
	return giveUp
}

// do tries k until it succeeds, is refused for good, or ctx is done. The number
// of tries has no bound of its own: the job's deadline, given as ctx's, is the
// bound. Only an impatient client's ends with a refused credential.
func (c *Client) do(ctx context.Context, k call) error {
	waits := newWaits()
	var last error // of the tries so far
	askRefresh := true
	for attempt := 1; ; attempt++ {
		if err := c.takeToken(ctx); err != nil {
			return stopped(ctx, k, attempt-1, last)
		}
		req, err := c.try(ctx, k, attempt)
		if err == nil {
			return nil
		}
		v := judge(err)
		if v == giveUp {
			return fmt.Errorf("%s: %w", k.doing, err)
		}
		if ctx.Err() != nil {
			// A try that ctx's end cut off says little; what a person needs to
			// read is the trouble before it.
			var passing *trouble
			cutOff := errors.As(err, &passing) && (passing.code == CodeCanceled || passing.code == codeNoCredential)
			if last == nil || !cutOff {
				last = err
			}
			return stopped(ctx, k, attempt, last)
		}
		last = err
		if v == credentials {
			if askRefresh && req != nil {
				renewed, refreshErr := c.auth.Refresh(ctx, req)
				askRefresh = refreshErr != nil
				if refreshErr != nil {
					last = fmt.Errorf("%w; refresh of the credential: %w", err, refreshErr)
				}
				if renewed && refreshErr == nil {
					continue
				}
			}
			c.alert(k, last)
			if c.impatient {
				return fmt.Errorf("%s: %w", k.doing, last)
			}
		}
		wait := waitFor(waits, err)
		c.log.Warn().Func(about(k, last)).Int("attempt", attempt).
			Float64("wait_seconds", wait.Seconds()).Msg(logevent.PleoRequestRetried)
		if sleep(ctx, wait) != nil {
			return stopped(ctx, k, attempt, last)
		}
	}
}

// newWaits gives the growing waits of one call.
func newWaits() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		// Jitter goes both ways; the two ends are set so that no wait leaves
		// MinRetryWait…MaxRetryWait.
		backoff.WithInitialInterval(time.Duration(float64(MinRetryWait)/(1-retryJitter))),
		backoff.WithMaxInterval(time.Duration(float64(MaxRetryWait)/(1+retryJitter))),
		backoff.WithRandomizationFactor(retryJitter),
		backoff.WithMultiplier(retryGrowth),
		// 0 = never give up. The library's default ends after 15 minutes, a
		// quarter of a job's life.
		backoff.WithMaxElapsedTime(0),
	)
}

// waitFor is the wait after err: what the upstream asked for, otherwise the
// next growing one.
func waitFor(waits *backoff.ExponentialBackOff, err error) time.Duration {
	grown := waits.NextBackOff()
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.RetryAfter == 0 {
		return grown
	}
	asked := max(refusal.RetryAfter, MinRetryWait)
	return asked + time.Duration(rand.Float64()*retryAfterJitter*float64(asked))
}

// retryAfter reads the header in both its forms, seconds and HTTP date. 0 when
// it is absent, unreadable or in the past; at most MaxRetryAfter. A date is
// compared with the answer's own Date where there is one, so that our clock
// need not agree with the upstream's.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil || time.Duration(seconds)*time.Second > MaxRetryAfter {
			return MaxRetryAfter // digits only: an error means a number too large
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

// takeToken waits for the rate limits. (rate.Limiter.Wait gives up at once when
// the token would come after the deadline; a call ends when its context does, and
// not before.)
func (c *Client) takeToken(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.limiter != nil {
		token := c.limiter.Reserve()
		if err := sleep(ctx, token.Delay()); err != nil {
			token.Cancel()
			return err
		}
	}
	if c.shared != nil {
		return c.shared.Wait(ctx, c.company)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stopped is the error of a call whose context ended: the cause, the context's
// own error where the cause is another one, and the last trouble.
func stopped(ctx context.Context, k call, attempts int, last error) error {
	why := context.Cause(ctx)
	if !errors.Is(why, ctx.Err()) {
		why = fmt.Errorf("%w (%w)", why, ctx.Err())
	}
	if last == nil {
		return fmt.Errorf("%s: %w", k.doing, why)
	}
	return fmt.Errorf("%s: %w; tries: %d; last trouble: %w", k.doing, why, attempts, last)
}

// alert tells that a person must look at the credential, at most once in
// CredentialAlertInterval for the whole client.
func (c *Client) alert(k call, err error) {
	c.alertMu.Lock()
	now := time.Now()
	due := c.lastAlert.IsZero() || now.Sub(c.lastAlert) >= CredentialAlertInterval
	if due {
		c.lastAlert = now
	}
	c.alertMu.Unlock()
	if due {
		c.log.Error().Func(about(k, err)).Msg(logevent.PleoCredentialsRefused)
	}
}

// about adds the fields of a call and its error.
func about(k call, err error) func(*zerolog.Event) {
	return func(e *zerolog.Event) {
		e.Str("operation", string(k.op))
		if k.jobID != "" {
			e.Str("job_id", k.jobID)
		}
		var refusal *APIError
		if errors.As(err, &refusal) {
			e.Int("status", refusal.Status)
			if refusal.RequestID != "" {
				e.Str("request_id", refusal.RequestID)
			}
		}
		e.AnErr("error", err)
	}
}
