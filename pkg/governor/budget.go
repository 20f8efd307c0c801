package governor

import (
	"math"
	"time"
)

const (
	// MaxSlice is how much of the budget a replica takes at a time: how long it may
	// still send into a pause that another one was told of, how long the others
	// wait for it, and, turned round, at most ten writes a second to the bucket
	// however many replicas there are.
	MaxSlice = 100 * time.Millisecond
	// lateness is how far back a slot may lie when it is taken: the time that
	// taking it costs would otherwise be lost to all. Until something was refused a
	// second's worth may be made up for, the burst that the process's own rate has
	// as well: a small installation's few requests need not wait for one another.
	lateness      = MaxSlice
	firstLateness = time.Second

	// MinPause is the pause after a 429 that does not say how long.
	MinPause = time.Second
	// MaxPause bounds what an entry of the bucket may ask for; package pleo takes
	// no longer Retry-After either.
	MaxPause = 5 * time.Minute
	// maxAhead is how far ahead of a clock the next slot may lie without a pause: a
	// slice of fifty replicas. Beyond it clocks differ, or the entry is wrong.
	maxAhead = 5 * time.Second

	// minRate still finds out in a second that the trouble is over.
	minRate = 1
	// maxRate bounds the budget where nothing is ever refused.
	maxRate = 10_000

	// Growth in parts of the rate per second, while the budget is used up. Without
	// a refusal so far it doubles, so that a budget that begins at 10 has passed 50
	// after three seconds. Near what is believed to be the limit it feels its way:
	// a refusal costs a pause. Far from there, either way, the belief is wrong.
	growthUnknown = 1.0
	growthNear    = 0.01
	growthFar     = 0.10
	nearBelow     = 0.9
	nearAbove     = 1.2
	// maxGrowStep bounds the time that one slice grows for.
	maxGrowStep = time.Second

	// A refusal leaves between half and nine tenths of the rate, whatever the
	// estimate says: the one so that a burst that Pleo allowed is not taken for a
	// rate, the other so that a quiet spell is not.
	minKept = 0.5
	maxKept = 0.9
	// usuallyKept stands in where too little time has passed to tell, less than
	// telling.
	usuallyKept = 0.75
	telling     = time.Second
	// idle is a spell without requests after which what Pleo has let through is
	// counted anew.
	idle = time.Second
)

// budget is the state of one credential, in the bucket for all replicas. Slots
// lie 1/Rate apart; whoever moves Next forward owns those in between.
type budget struct {
	Rate float64   `json:"rate"`
	Next time.Time `json:"next"` // the first slot that nobody has

	// Believed is what the last refusal left of the rate; 0 before the first.
	Believed    float64   `json:"believed,omitempty"`
	RefusedAt   time.Time `json:"refusedAt,omitzero"`
	PausedUntil time.Time `json:"pausedUntil,omitzero"`

	// Granted slots since Since: what Pleo has let through.
	Granted int       `json:"granted"`
	Since   time.Time `json:"since"`
	Grown   time.Time `json:"grown"` // when Rate was looked at last
}

// slots are moments at which one request each may go out.
type slots struct {
	first   time.Time
	spacing time.Duration
	left    int
	// late is how far back one may lie.
	late time.Duration
	// taken from the budget then, and last known then to be still good.
	taken, checked time.Time
}

// stale tells whether a refusal may have come that this replica has not heard of:
// where many replicas wait, a slot lies far ahead of the moment when it was taken.
func (s *slots) stale(now time.Time) bool { return now.Sub(s.checked) > MaxSlice }

// check drops the slots where the budget, as it is now, was cut since they were
// taken.
func (s *slots) check(b budget, now time.Time) {
	s.checked = now
	if b.RefusedAt.After(s.taken) || s.first.Before(b.PausedUntil) {
		s.left = 0
	}
}

// next is the earliest slot, without those that are too old.
func (s *slots) next(now time.Time) (time.Time, bool) {
	for s.left > 0 && s.first.Before(now.Add(-s.late)) {
		s.use()
	}
	return s.first, s.left > 0
}

func (s *slots) use() {
	s.first = s.first.Add(s.spacing)
	s.left--
}

func clampRate(r float64) float64 {
	if !(r >= minRate) { // also what is not a number
		return minRate
	}
	return min(r, maxRate)
}

// sound makes an entry usable that a wrong clock or a hand has written.
func (b *budget) sound(now time.Time) {
	b.Rate = clampRate(b.Rate)
	if b.Believed != 0 {
		b.Believed = clampRate(b.Believed)
	}
	if latest := now.Add(MaxPause); b.PausedUntil.After(latest) {
		b.PausedUntil = latest
	}
	soonest := now
	if b.PausedUntil.After(now) {
		soonest = b.PausedUntil
	}
	if b.Next.After(soonest.Add(maxAhead)) {
		b.Next = soonest
	}
}

// take gives up to n slots, and no more than MaxSlice of them.
func (b *budget) take(now time.Time, n int) slots {
	b.sound(now)
	if now.Sub(b.Next) > idle {
		b.Since, b.Granted = now, 0
	}
	if b.Next.After(now) {
		// No slot is free: the budget is used up.
		step := min(max(now.Sub(b.Grown), 0), maxGrowStep)
		b.Rate = clampRate(b.Rate * (1 + b.growth()*step.Seconds()))
	}
	b.Grown = now
	spacing := time.Duration(float64(time.Second) / b.Rate)
	n = max(1, min(n, int(math.Floor(b.Rate*MaxSlice.Seconds()))))
	late := firstLateness
	if b.Believed != 0 {
		late = lateness
	}
	first := b.Next
	if earliest := now.Add(-late); first.Before(earliest) {
		first = earliest
	}
	b.Next = first.Add(time.Duration(n) * spacing)
	b.Granted += n
	return slots{first: first, spacing: spacing, left: n, late: late + lateness, taken: now, checked: now}
}

func (b *budget) growth() float64 {
	switch {
	case b.Believed == 0:
		return growthUnknown
	case b.Rate < b.Believed*nearBelow || b.Rate > b.Believed*nearAbove:
		return growthFar
	}
	return growthNear
}

// refusal is a 429: when its request was sent, and when the pause that it asks for
// is over.
type refusal struct {
	sent, until time.Time
}

// refuse takes in a 429. It tells whether this was the first of its kind: those
// that were under way when it came, or that a replica sent before it heard of the
// pause, only lengthen the pause.
func (b *budget) refuse(now time.Time, r refusal) (first bool) {
	b.sound(now)
	known := !r.sent.After(b.RefusedAt) || b.PausedUntil.After(now)
	if r.until.After(b.PausedUntil) {
		b.PausedUntil = r.until
	}
	if known {
		if b.Next.Before(b.PausedUntil) {
			b.Next = b.PausedUntil
		}
		return false
	}
	// What was let through since the refusal before, its pause included, is what a
	// limit of any kind allows on average. Slots that lie ahead were not used, and
	// are void: whoever has them finds out before the time.
	ahead := max(b.Next.Sub(now).Seconds(), 0) * b.Rate
	estimate := b.Rate * usuallyKept
	if passed := now.Sub(b.Since); passed >= telling {
		estimate = max(float64(b.Granted)-ahead, 0) / passed.Seconds()
	}
	b.Next = b.PausedUntil
	b.Rate = clampRate(max(b.Rate*minKept, min(estimate, b.Rate*maxKept)))
	b.Believed = b.Rate
	b.RefusedAt, b.Since, b.Granted, b.Grown = now, now, 0, now
	return true
}
