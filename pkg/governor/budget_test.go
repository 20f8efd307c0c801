package governor

import (
	"math"
	"testing"
	"time"
)

// server is a limit as somebody may have built it. It tells whether a request at t
// seconds is taken.
type server func(t float64) bool

func tokenBucket(rate, burst float64) server {
	tokens, last := burst, 0.0
	return func(t float64) bool {
		tokens = min(burst, tokens+(t-last)*rate)
		last = t
		if tokens < 1 {
			return false
		}
		tokens--
		return true
	}
}

func fixedWindow(rate int) server {
	window, count := -1.0, 0
	return func(t float64) bool {
		if w := math.Floor(t); w != window {
			window, count = w, 0
		}
		count++
		return count <= rate
	}
}

// measure lets replicas that always have work run against a server for some
// minutes of a clock that is not the world's, and counts.
func measure(limit server, replicas int, begin float64) (taken, refused int, seconds float64) {
	seconds = 60
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := budget{Rate: begin}
	held := make([]slots, replicas)
	for ms := range int(seconds * 1000) {
		now := epoch.Add(time.Duration(ms) * time.Millisecond)
		for i := range held {
			for {
				at, ok := held[i].next(now)
				if !ok {
					held[i] = b.take(now, 8)
					if at, ok = held[i].next(now); !ok {
						break
					}
				}
				if at.After(now) {
					break
				}
				if held[i].stale(now) {
					held[i].check(b, now)
					continue
				}
				held[i].use()
				if limit(float64(ms) / 1000) {
					taken++
					continue
				}
				refused++
				held[i] = slots{}
				b.refuse(now, refusal{sent: now, until: now.Add(time.Second)})
			}
		}
	}
	return taken, refused, seconds
}

// The budget finds a limit that nobody told it, keeps near it, and costs few
// refusals, whatever kind of limit it is.
func TestBudgetFindsTheLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit   func() server
		rate    float64
		begin   float64
		used    float64
		refused float64
	}{
		"bucket of a second":     {func() server { return tokenBucket(50, 50) }, 50, 40, 0.95, 0.01},
		"bucket of five seconds": {func() server { return tokenBucket(50, 250) }, 50, 40, 0.90, 0.01},
		"begun at a trickle":     {func() server { return tokenBucket(50, 50) }, 50, 1, 0.90, 0.01},
		"begun far above":        {func() server { return tokenBucket(50, 50) }, 50, 1000, 0.90, 0.02},
		"high":                   {func() server { return tokenBucket(500, 500) }, 500, 10, 0.85, 0.01},
		"low":                    {func() server { return tokenBucket(3, 3) }, 3, 10, 0.85, 0.15},
		// No bucket that fills up in a pause: each pause is lost.
		"small bucket": {func() server { return tokenBucket(50, 5) }, 50, 40, 0.65, 0.01},
		"fixed window": {func() server { return fixedWindow(50) }, 50, 40, 0.65, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, replicas := range []int{1, 3, 20} {
				taken, refused, seconds := measure(c.limit(), replicas, c.begin)
				used := float64(taken) / (c.rate * seconds)
				lost := float64(refused) / float64(taken+refused)
				t.Logf(name+", %d replicas: %.1f %% used, %.2f %% refused", replicas, 100*used, 100*lost)
				if used < c.used || lost > c.refused {
					t.Errorf("%d replicas: %.1f %% used, %.2f %% refused", replicas, 100*used, 100*lost)
				}
			}
		})
	}
}

// Demand below the limit leaves the rate as it is: what is not used is not known to
// be allowed.
func TestBudgetGrowsOnlyWhileItIsUsedUp(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := budget{Rate: 50}
	for range 1000 {
		b.take(now, 1)
		now = now.Add(50 * time.Millisecond)
	}
	if b.Rate != 50 {
		t.Errorf("the rate is %v", b.Rate)
	}
}

// A few requests after a quiet spell go out at once, as long as nothing was ever
// refused; then they are spaced, so that the pause of all is not one's burst.
func TestQuietSpellAllowsABurst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for believed, want := range map[float64]int{0: 11, 10: 2} {
		b := budget{Rate: 10, Believed: believed, Next: now.Add(-time.Hour)}
		ready := 0
		for range 40 { // not so many that the next slot lies too far ahead to be true
			s := b.take(now, 8)
			if at, ok := s.next(now); ok && !at.After(now) {
				ready++
			}
		}
		if ready != want {
			t.Errorf("believed %v: %d requests at once, want %d", believed, ready, want)
		}
	}
}

// Refusals of requests that were sent before the cut are of the same trouble: they
// lengthen the pause and cut nothing.
func TestOneTroubleCutsOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := budget{Rate: 100, Since: now, Granted: 60}
	now = now.Add(time.Second)
	sent := now.Add(-time.Millisecond)
	if !b.refuse(now, refusal{sent: sent, until: now.Add(time.Second)}) || b.Rate != 60 {
		t.Fatalf("the rate is %v", b.Rate)
	}
	after := b
	if s := after.take(now, 1); !s.first.Equal(now.Add(time.Second)) {
		t.Errorf("the next slot is %s after the refusal", s.first.Sub(now))
	}
	if b.refuse(now, refusal{sent: sent, until: now.Add(3 * time.Second)}) || b.Rate != 60 {
		t.Errorf("cut twice: %v", b.Rate)
	}
	if s := b.take(now, 1); !s.first.Equal(now.Add(3 * time.Second)) {
		t.Errorf("the next slot is %s after the refusal", s.first.Sub(now))
	}
	// Late news of a request sent in time.
	if late := now.Add(time.Minute); b.refuse(late, refusal{sent: sent, until: late}) {
		t.Error("cut by old news")
	}
	if late := now.Add(time.Minute); !b.refuse(late, refusal{sent: late, until: late}) {
		t.Error("not cut by news")
	}
}

// An entry that a wrong clock or a hand has written stops nobody.
func TestUnsoundEntryIsMadeUsable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, b := range map[string]budget{
		"empty": {}, "negative": {Rate: -1}, "not a number": {Rate: math.NaN()}, "endless": {Rate: math.Inf(1)},
		"next year": {Rate: 10, Next: now.AddDate(1, 0, 0)}, "long ago": {Rate: 10, Next: now.AddDate(-1, 0, 0)},
		"grown next year": {Rate: 10, Next: now.Add(time.Second), Grown: now.AddDate(1, 0, 0)},
	} {
		s := b.take(now, 5)
		if at, ok := s.next(now); !ok || at.After(now.Add(maxAhead)) || s.spacing <= 0 {
			t.Errorf("%s: %+v of %+v", name, s, b)
		}
	}
	b := budget{Rate: 10, PausedUntil: now.AddDate(1, 0, 0)}
	if s := b.take(now, 1); s.first.After(now.Add(MaxPause)) {
		t.Errorf("a pause until %s", s.first)
	}
}
