package sinktest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// newItem books the item that later checks come back to.
func (s *suite) newItem(ctx context.Context) finding {
	s.first = s.book(ctx, s.item("first"))
	a := s.first.answer
	switch {
	case a.Outcome == sink.Failed:
		return failed("%s; --company and --item give it a company and an item that it knows", said(a))
	case a.Outcome != sink.Booked:
		return failed("%s", said(a))
	}
	if problem, _ := s.inBooks(ctx, s.first.Delivery, 1); problem != "" {
		return failed("%s; %s", said(a), problem)
	}
	if a.Detail != "" {
		return warned("%s; %s", said(a), a.Detail)
	}
	if a.ExternalID == "" {
		return warned("%s", said(a))
	}
	return passed("%s", said(a))
}

// twice sends what is booked again: an answer was lost.
func (s *suite) twice(ctx context.Context) finding {
	again := s.settle(ctx, &s.first.Delivery)
	return s.same(ctx, s.first.Delivery, s.first.answer, again)
}

// atOnce sends an item again while its first attempt is still in work: that one
// timed out on our side and not on the sink's.
func (s *suite) atOnce(ctx context.Context) finding {
	worst := finding{}
	// Several pairs: two requests do not always meet.
	for _, name := range []string{"at once 1", "at once 2", "at once 3"} {
		d := s.item(name)
		var answers [2]sink.Answer
		var both sync.WaitGroup
		for i := range answers {
			both.Go(func() {
				one := d
				one.Attempt += uint32(i)
				answers[i] = s.send(ctx, one)
			})
		}
		both.Wait()
		d.Attempt += 2
		// One of the two may be put off ("in work"): it is decided by the next try.
		for i := range answers {
			if answers[i].Outcome == sink.Retry {
				answers[i] = s.settle(ctx, &d)
			}
		}
		worst = worse(worst, s.same(ctx, d, answers[0], answers[1]))
	}
	return worst
}

// late sends the first attempt after the second: a proxy held it up.
func (s *suite) late(ctx context.Context) finding {
	d := s.item("late")
	d.Attempt = 2
	second := s.book(ctx, d)
	d.Attempt = 1
	first := s.send(ctx, d)
	if second.answer.Outcome == sink.Booked && first.Outcome == sink.Stale {
		return passed("refused as stale")
	}
	return s.same(ctx, d, second.answer, first)
}

// laterJob sends a booked entry in another job.
func (s *suite) laterJob(ctx context.Context) finding {
	d := s.item("later job")
	first := s.book(ctx, d)
	d.JobID = s.id("the later job").String()
	d.Position, d.Total = 7, 9
	return s.same(ctx, d, first.answer, s.settle(ctx, &d))
}

// dropMoments is how many moments of a booking's usual time are tried.
const dropMoments = 4

// dropped gives up waiting at several moments and sends the item again, as a
// worker does after a broken connection.
func (s *suite) dropped(ctx context.Context) finding {
	worst := finding{}
	usual := max(s.median(), time.Millisecond)
	for moment := range dropMoments {
		after := time.Duration(float64(usual) * float64(moment+1) / dropMoments)
		d := s.item("dropped after " + after.String())
		dropping, cancel := context.WithTimeoutCause(ctx, after, errGivenUp)
		unheard := s.sink.Deliver(dropping, d)
		cancel()
		d.Attempt++
		second := s.settle(ctx, &d)
		third := s.settle(ctx, &d)
		f := s.same(ctx, d, second, third)
		// Where the answer came all the same, the next one must agree with it.
		if unheard.Outcome == sink.Booked {
			f = worse(f, s.same(ctx, d, unheard, second))
		}
		worst = worse(worst, f)
	}
	return worst
}

// same judges two answers about one entry: both must be "booked", of one booking.
func (s *suite) same(ctx context.Context, d sink.Delivery, first, again sink.Answer) finding {
	both := said(first) + ", then " + said(again)
	if first.Outcome != sink.Booked || again.Outcome != sink.Booked {
		return failed("%s", both)
	}
	problem, counted := s.inBooks(ctx, d, 1)
	switch {
	case problem != "":
		return failed("%s; %s", both, problem)
	case first.ExternalID != "" && again.ExternalID != "" && first.ExternalID != again.ExternalID:
		return failed("booked twice: as %s and as %s", first.ExternalID, again.ExternalID)
	case first.ExternalID != again.ExternalID:
		return warned("%s: the externalId is not the same, and Pleo may be left without it", both)
	case first.ExternalID == "" && !counted:
		return warned("%s: whether that was one booking cannot be told from outside; --count asks your books", both)
	}
	return passed("%s", strings.Replace(both, ", then booked as ", ", then the same: ", 1))
}
