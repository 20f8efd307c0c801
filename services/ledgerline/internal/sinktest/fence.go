package sinktest

import (
	"context"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// The epochs of the fence's job: a worker that was presumed dead, its successor,
// and the next one.
const (
	staleEpoch = 4
	ownerEpoch = 5
	nextEpoch  = 6
)

// staleEpoch sends a new entry from a worker whose successor the sink has heard.
func (s *suite) staleEpoch(ctx context.Context) finding {
	owner := s.item("fence owner")
	owner.Epoch, owner.Total = ownerEpoch, 3
	if b := s.book(ctx, owner); b.answer.Outcome != sink.Booked {
		return failed("an item of epoch %d: %s", ownerEpoch, said(b.answer))
	}
	s.fence = s.inFence("fence stale", 2, staleEpoch)
	a := s.settle(ctx, &s.fence)
	if a.Outcome != sink.Stale {
		return warned("not fenced: an item of epoch %d after one of epoch %d was answered %s", staleEpoch, ownerEpoch, said(a))
	}
	s.fenced = true
	if problem, _ := s.inBooks(ctx, s.fence, 0); problem != "" {
		return failed("refused, and yet %s", problem)
	}
	return passed("an item of epoch %d after one of epoch %d is refused", staleEpoch, ownerEpoch)
}

// inFence is a further item of the fence's job.
func (s *suite) inFence(name string, position uint32, epoch uint64) sink.Delivery {
	d := s.item(name)
	d.JobID = s.item("fence owner").JobID
	d.Position, d.Total, d.Epoch = position, 3, epoch
	d.Item = s.export(d, nil)
	return d
}

// liveEpoch sends what must get through the fence: the owner's next item, the
// refused item from the next owner, and an item of another job at a lower epoch.
func (s *suite) liveEpoch(ctx context.Context) finding {
	own := s.inFence("fence own", 3, ownerEpoch)
	other := s.item("fence other job")
	refused := s.fence
	refused.Epoch = nextEpoch
	for _, c := range []struct {
		what string
		d    sink.Delivery
	}{
		{"another item of the same epoch", own},
		{"the refused item, from the next epoch", refused},
		{"an item of another job at epoch 1", other},
	} {
		if a := s.settle(ctx, &c.d); a.Outcome != sink.Booked {
			// The checks behind this one are about something else.
			s.epoch = nextEpoch
			return failed("%s was answered %s", c.what, said(a))
		}
	}
	return passed("the same epoch, the next one and other jobs go on")
}

// restart asks again for what was booked before the sink was restarted.
func (s *suite) restart(ctx context.Context) finding {
	switch {
	case s.Restart != nil:
		if err := s.Restart(ctx); err != nil {
			return failed("the restart: %v", err)
		}
	case s.Reopen:
		if err := s.sink.Close(); err != nil {
			return failed("the end of its process: %v", err)
		}
		reopened, err := s.Open()
		if err != nil {
			return failed("the start of its process: %v", err)
		}
		s.sink = reopened
	default:
		return skipped("not asked: --restart gives the command that restarts your sink")
	}
	ready, cancel := context.WithTimeout(ctx, restartLimit)
	defer cancel()
	for {
		err := s.sink.Ready(ready)
		if err == nil {
			break
		}
		if !pause(ready, restartPoll) {
			return failed("not ready %s after the restart: %v", restartLimit, err)
		}
	}
	f := s.same(ctx, s.first.Delivery, s.first.answer, s.settle(ctx, &s.first.Delivery))
	if f.result == Fail || !s.fenced {
		return f
	}
	forgotten := s.inFence("fence after the restart", 2, staleEpoch)
	if a := s.settle(ctx, &forgotten); a.Outcome != sink.Stale {
		return worse(f, warned("the bookings are remembered, the epoch is not: an item of epoch %d was answered %s", staleEpoch, said(a)))
	}
	return f
}
