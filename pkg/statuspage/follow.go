package statuspage

import (
	"context"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// watchedInterval is how often the jobs are read while somebody looks: a
	// person sees no finer.
	watchedInterval = time.Second
	// watchedShare and idleShare bound what reading costs: it takes at most a
	// fifth of one processor's time while somebody looks, and a twentieth
	// otherwise.
	watchedShare = 5
	idleShare    = 20
	// watchedFor is how long after a page was asked for somebody counts as
	// looking.
	watchedFor = 15 * time.Second
	// readTimeout bounds one reading; past it the page says that NATS does not
	// answer.
	readTimeout = 10 * time.Second
)

// Follow reads the jobs until ctx ends, then lets the live pages go and returns
// nil. Call it once.
func (p *Page) Follow(ctx context.Context, source Source) error {
	p.mu.Lock()
	p.source = source
	p.mu.Unlock()
	defer p.live.close()
	memory := newMemory()
	wasGood := true
	for {
		began := time.Now()
		reading, err := p.read(ctx, source)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		if err != nil && wasGood {
			p.log.Warn().Err(err).Msg(logevent.StatusUnread)
		}
		wasGood = err == nil
		memory.take(reading, err, now)
		p.show(viewOf(memory, now), now)
		if !p.rest(ctx, began, now) {
			return nil
		}
	}
}

// Past is a reading of some time ago, or why there was none.
type Past struct {
	At      time.Time
	Reading Reading
	Err     error
}

// Preview shows the page as it would be after these readings, the newest last,
// without a source: for looking at a state that does not come at will.
func (p *Page) Preview(past []Past) {
	memory := newMemory()
	var now time.Time
	for _, each := range past {
		now = each.At
		memory.take(each.Reading, each.Err, now)
	}
	p.show(viewOf(memory, now), now)
}

func (p *Page) read(ctx context.Context, source Source) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return source.Read(ctx)
}

// rest waits until the next reading is due, which is sooner when somebody comes
// to look; false when ctx ended.
func (p *Page) rest(ctx context.Context, began, ended time.Time) bool {
	cost := ended.Sub(began)
	watched := began.Add(max(watchedInterval, watchedShare*cost))
	idle := began.Add(max(sampleInterval, idleShare*cost))
	for {
		until := idle
		if p.watched(time.Now()) {
			until = watched
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
			return true
		case <-p.wanted:
			timer.Stop()
		}
	}
}
