package ledger_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	booked  = ledgerlinev1.Outcome_OUTCOME_BOOKED
	already = ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED
	failed  = ledgerlinev1.Outcome_OUTCOME_FAILED
)

func remembered(past *ledger.Past) []uuid.UUID {
	return slices.SortedFunc(maps.Keys(past.Bookings), func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
}

func TestAJobKnowsWhatEarlierJobsBooked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	first := b.claim(request(company, uuid.New(), 1))
	if past := b.past(first, all); !first.FirstTurn || len(past.Bookings) != 0 {
		t.Errorf("the first job of a company: %v, %v", first.FirstTurn, past)
	}
	b.book(first, entries(0, 5)...)
	b.append(first, settle(first, failed, entry(5)))
	b.end(first, completed)

	second := b.claim(request(company, uuid.New(), 1))
	// It books entry 2 again, which a ledger never does, and one of its own.
	b.book(second, entry(2), entry(6))
	b.append(second, settle(second, already, entry(3)))
	b.end(second, completed)

	stranger := b.claim(request(uuid.New(), uuid.New(), 1))
	b.book(stranger, entry(8))
	b.end(stranger, completed)

	third := b.claim(request(company, uuid.New(), 1))
	past := b.past(third, all)
	if want := append(entries(0, 5), entry(6)); third.FirstTurn || !slices.Equal(remembered(past), want) {
		t.Errorf("remembered are %v, not %v", remembered(past), want)
	}
	if past := b.past(third, func(id uuid.UUID) bool { return id == entry(4) || id == entry(7) }); !slices.Equal(remembered(past), entries(4, 5)) {
		t.Errorf("of the wanted, remembered are %v", remembered(past))
	}
}

func TestTheFirstBookingOfAnEntryCounts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	for _, external := range []string{"first", "second"} {
		tenure := b.claim(request(company, uuid.New(), 1))
		record := settle(tenure, booked, entry(0))
		record.Settled[0].ExternalId = external
		b.append(tenure, record)
		b.end(tenure, completed)
	}
	if got := b.past(b.claim(request(company, uuid.New(), 1)), all).Bookings[entry(0)].GetExternalId(); got != "first" {
		t.Errorf("the %s booking", got)
	}
}

func TestASuccessorKnowsWhereTheJobStands(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := request(uuid.New(), uuid.New(), 1)
	crashed := b.claim(r)
	b.append(crashed, &ledgerlinev1.LedgerRecord{Send: send(1, entry(0), 1)})
	record := settle(crashed, booked, entry(0), entry(1))
	record.Send = send(3, entry(2), 1)
	b.append(crashed, record)
	b.append(crashed, &ledgerlinev1.LedgerRecord{Send: send(3, entry(2), 2)})

	owner := b.claim(r)
	past := b.past(owner, all)
	if owner.FirstTurn || owner.Position != 2 || len(past.Settled) != 2 || past.Settled[1].GetPosition() != 2 {
		t.Errorf("position %d, settled %v", owner.Position, past.Settled)
	}
	// The item in doubt, and no other.
	if want := map[uuid.UUID]uint32{entry(2): 2}; !maps.Equal(past.Attempts, want) {
		t.Errorf("attempts %v, not %v", past.Attempts, want)
	}
	// What this run booked is its position's affair, not a booking of before.
	if len(past.Bookings) != 0 {
		t.Errorf("bookings %v", past.Bookings)
	}
}

func TestAFurtherRunKnowsTheRunBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	first := b.claim(request(company, job, 1))
	record := settle(first, booked, entry(0))
	record.Send = send(2, entry(1), 3)
	b.append(first, record)
	b.end(first, parked)
	second := b.claim(request(company, job, 2))
	past := b.past(second, all)
	if second.Position != 0 || len(past.Settled) != 0 || !slices.Equal(remembered(past), entries(0, 1)) || past.Attempts[entry(1)] != 3 {
		t.Errorf("position %d, %v", second.Position, past)
	}
	if past := b.past(second, func(uuid.UUID) bool { return false }); len(past.Bookings) != 0 {
		t.Errorf("nothing is wanted: %v", past.Bookings)
	}
}

func TestABookingIsKnownWithoutItsTurn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	tenure := b.claim(request(company, uuid.New(), 1))
	b.book(tenure, entry(0))
	b.end(tenure, completed)
	// The turn expires first: it is older than the bookings made in it.
	b.purge(subject.Turn(company))
	if past := b.past(b.claim(request(company, uuid.New(), 1)), all); !slices.Equal(remembered(past), entries(0, 1)) {
		t.Errorf("remembered are %v", remembered(past))
	}
}

func ids(messages [][]*ledgerlinev1.Booking) (all []uuid.UUID) {
	for _, bookings := range messages {
		for _, booking := range bookings {
			all = append(all, uuid.UUID(booking.GetEntryId()))
		}
	}
	return all
}

func TestAFoldIsRepeatedWithoutTrace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	crashed := b.claim(request(company, job, 1))
	b.book(crashed, entries(0, 3)...)
	for range 2 {
		if err := crashed.Fold(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	successor := b.claim(request(company, job, 1))
	b.end(successor, completed)
	if got := ids(b.folded(company, job)); !slices.Equal(got, entries(0, 3)) {
		t.Errorf("folded are %v", got)
	}
}

// A worker folds, to park its job, and dies before it ends it; its successor can
// go on after all. A zombie folds what it knows at any time.
func TestAFoldAddsWhatAnEarlierOneDidNotKnow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	zombie := b.claim(request(company, job, 1))
	b.book(zombie, entries(0, 2)...)
	if err := zombie.Fold(b.ctx); err != nil {
		t.Fatal(err)
	}
	owner := b.claim(request(company, job, 1))
	b.book(owner, entries(2, 4)...)
	if err := zombie.Fold(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.end(owner, completed)
	if got := ids(b.folded(company, job)); !slices.Equal(got, entries(0, 4)) {
		t.Errorf("folded are %v", got)
	}
	if past := b.past(b.claim(request(company, uuid.New(), 1)), all); len(past.Bookings) != 4 {
		t.Errorf("the next job knows %v", remembered(past))
	}
}

// More bookings than a tenure holds in memory: the fold has them all the same.
func TestTheFoldOfAVeryLargeJobIsWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	tenure := b.claim(request(company, job, 1))
	const n, together = 10_500, 1_500
	for from := 0; from < n; from += together {
		b.book(tenure, entries(from, from+together)...)
	}
	b.end(tenure, completed)
	if got := ids(b.folded(company, job)); !slices.Equal(got, entries(0, n)) {
		t.Errorf("%d are folded, not %d in their order", len(got), n)
	}
}

func TestALargeFoldIsCutIntoMessages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []struct {
		name     string
		n        int
		external string
		most     int
	}{
		{"by number", 2_500, "id", 1_000},
		{"by size", 1_200, strings.Repeat("x", 2<<10), 300},
	} {
		company, job := uuid.New(), uuid.New()
		tenure := b.claim(request(company, job, 1))
		for from := 0; from < c.n; from += 100 {
			record := settle(tenure, booked, entries(from, from+100)...)
			for _, s := range record.Settled {
				s.ExternalId = c.external
			}
			b.append(tenure, record)
		}
		b.end(tenure, completed)
		messages := b.folded(company, job)
		if !slices.Equal(ids(messages), entries(0, c.n)) {
			t.Errorf("%s: %d bookings are folded, not %d", c.name, len(ids(messages)), c.n)
		}
		for i, bookings := range messages {
			if len(bookings) > c.most {
				t.Errorf("%s: message %d has %d bookings", c.name, i, len(bookings))
			}
		}
		if past := b.past(b.claim(request(company, uuid.New(), 1)), all); len(past.Bookings) != c.n {
			t.Errorf("%s: the next job knows %d bookings", c.name, len(past.Bookings))
		}
	}
}

// A company may fold more messages than one atomic batch holds.
func TestMoreMessagesThanABatchAreRemembered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	b.end(b.claim(request(company, job, 1)), completed)
	const n = 1_100
	for i := range n {
		id := entry(i)
		b.store(subject.Booked(company, job), &ledgerlinev1.Bookings{Run: 1, Bookings: []*ledgerlinev1.Booking{{EntryId: id[:]}}})
	}
	second := b.claim(request(company, job, 2))
	b.book(second, entry(n))
	b.end(second, completed)
	if past := b.past(b.claim(request(company, uuid.New(), 1)), all); len(past.Bookings) != n+1 {
		t.Errorf("the next job knows %d bookings, not %d", len(past.Bookings), n+1)
	}
}

func TestSettledReadsThisRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	first := b.claim(request(company, job, 1))
	b.book(first, entry(0))
	b.end(first, draining)
	second := b.claim(request(company, job, 2))
	b.append(second, settle(second, failed, entry(1)))
	b.append(second, settle(second, booked, entry(2)))
	settled, err := second.Settled(b.ctx)
	if err != nil || len(settled) != 2 || settled[0].GetPosition() != 1 || settled[1].GetPosition() != 2 {
		t.Errorf("%v: %v", settled, err)
	}
}

func TestAFencedTenureStillReadsWhatItHas(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := request(uuid.New(), uuid.New(), 1)
	zombie := b.claim(r)
	b.book(zombie, entry(0))
	b.book(b.claim(r), entry(1))
	settled, err := zombie.Settled(b.ctx)
	if err != nil || len(settled) != 1 {
		t.Errorf("%v: %v", settled, err)
	}
	if err := zombie.Append(b.ctx, ending(completed)); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("%v", err)
	}
}
