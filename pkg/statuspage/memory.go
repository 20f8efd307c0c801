package statuspage

import (
	"math"
	"time"
)

const (
	// rateMemory is how far back a job's rate looks: long enough to be a steady
	// figure, short enough to show that a job has stopped.
	rateMemory = 15 * time.Second
	// maxTracked bounds the jobs whose pace is remembered.
	maxTracked = 10_000
)

// memory is what is known from the readings so far.
type memory struct {
	last Reading
	// at is when last was read; zero before the first one.
	at time.Time
	// err is why the newest reading failed, since when.
	err   error
	since time.Time
	paces map[string]pace
	ring  ring
}

// pace is how a job moves.
type pace struct {
	state    string
	position uint32
	// moved is when its position or state was last seen to change.
	moved time.Time
	// rate is items a second; known once two readings were compared.
	rate  float64
	known bool
}

func newMemory() *memory { return &memory{paces: map[string]pace{}} }

func (m *memory) take(r Reading, err error, now time.Time) {
	if err != nil {
		if m.err == nil {
			m.since = now
		}
		m.err = err
	} else {
		m.compare(r, now)
		m.last, m.at, m.err = r, now, nil
	}
	s := sample{at: now, items: r.Lag.Items, known: err == nil}
	switch {
	case m.ring.due(now):
		m.ring.add(s)
	case s.known:
		m.ring.correct(s.items)
	}
}

func (m *memory) compare(r Reading, now time.Time) {
	paces := make(map[string]pace, min(len(r.Jobs), maxTracked))
	for _, j := range r.Jobs {
		if ended(j.State) || len(paces) == maxTracked {
			continue
		}
		p, seen := m.paces[j.ID]
		switch {
		case !seen, j.Position < p.position: // new here, or a further run
			p = pace{moved: now}
		default:
			apart := now.Sub(m.at).Seconds()
			fresh := float64(j.Position-p.position) / max(apart, 0.001)
			weight := 1 - math.Exp(-apart/rateMemory.Seconds())
			if !p.known {
				weight = 1
			}
			p.rate, p.known = p.rate+weight*(fresh-p.rate), true
			if j.Position != p.position || j.State != p.state {
				p.moved = now
			}
		}
		p.state, p.position = j.State, j.Position
		paces[j.ID] = p
	}
	m.paces = paces
}
