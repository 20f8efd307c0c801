package consumer

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/metrics"
)

// pass lets time pass: these tests run on a clock of their own.
func pass(d time.Duration) { <-time.After(d) }

// Results wait for one another for a second after the oldest, or until a hundred
// wait, whichever comes first.
func TestResultsWaitASecondOrForAHundred(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &job{c: &Consumer{config: Config{Report: true}}}
		r := &reporter{j: j, pending: map[uint32]*result{}, moved: make(chan struct{})}
		add := func(position uint32) {
			id := uuid.New()
			if err := r.add(t.Context(), &ledgerlinev1.Settlement{Position: position, EntryId: id[:]}, nil); err != nil {
				t.Fatal(err)
			}
		}
		add(1)
		pass(400 * time.Millisecond)
		add(2)
		if batch, wait, _ := r.ready(reportBatch); batch != nil || wait != 600*time.Millisecond {
			t.Errorf("%d results after 0.4 s, the next in %s", len(batch), wait)
		}
		pass(600 * time.Millisecond)
		if batch, _, _ := r.ready(reportBatch); len(batch) != 2 {
			t.Errorf("%d results after a second, not 2", len(batch))
		}
		for position := uint32(3); position <= reportBatch; position++ {
			add(position)
		}
		if batch, _, _ := r.ready(reportBatch); len(batch) != reportBatch {
			t.Errorf("%d results go at once, not %d", len(batch), reportBatch)
		}
	})
}

// At the deadline the job stops, and not before.
func TestTheDeadlineIsAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deadline{at: time.Now().Add(time.Hour), lifetime: time.Hour, readAt: time.Now(), logger: zerolog.Nop()}
		pass(time.Hour - time.Nanosecond)
		if err := d.check(t.Context()); err != nil {
			t.Errorf("a nanosecond before: %v", err)
		}
		pass(time.Nanosecond)
		if err := d.check(t.Context()); !errors.Is(err, errExpired) {
			t.Errorf("at the deadline: %v", err)
		}
	})
}

// A job whose time will not do at its own rate is warned of in the second half of
// its lifetime, and not again for a while.
func TestTheForecastGoesByTheJobsOwnRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		warnings := func() int { return strings.Count(log.String(), logevent.DeadlineNear) }
		j := &job{
			c: &Consumer{metrics: metrics.OrNew(nil)}, logger: zerolog.New(&log), manifest: &ledgerlinev1.Manifest{Count: 100},
			tenure: &ledger.Tenure{}, pace: forecast{began: time.Now()},
			deadline: &deadline{at: time.Now().Add(time.Hour), lifetime: time.Hour, readAt: time.Now()},
		}
		for _, c := range []struct {
			sleep    time.Duration
			position uint32
			warnings int
		}{
			{20 * time.Minute, 1, 0},  // the first half: a report renews it
			{20 * time.Minute, 90, 0}, // two thirds gone, nine tenths done
			{10 * time.Minute, 20, 1}, // 80 items at one in two and a half minutes
		} {
			pass(c.sleep)
			j.tenure.Position = c.position
			j.forecast()
			if n := warnings(); n != c.warnings {
				t.Errorf("%d warnings at position %d, %s before the end, not %d", n, j.tenure.Position, time.Until(j.deadline.at), c.warnings)
			}
		}
		j.forecast()
		if n := warnings(); n != 1 {
			t.Errorf("%d warnings at once, not 1", n)
		}
		pass(time.Hour / deadlineReads)
		j.forecast()
		if n := warnings(); n != 2 {
			t.Errorf("%d warnings after a while, not 2", n)
		}
	})
}

// A job that waits for its turn looks when something changes, and now and then.
func TestAWaitingJobLooksNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns, company := newTurns(time.Minute), uuid.New()
		began := time.Now()
		turns.wait(t.Context(), nil, turns.changes(company))
		if waited := time.Since(began); waited != turnRecheck {
			t.Errorf("looks again after %s", waited)
		}
		changed := turns.changes(company)
		began = time.Now()
		go func() {
			pass(turnRecheck / 4)
			turns.visit(&ledgerlinev1.JobState{JobId: uuid.NewString(), CompanyId: company.String()}, time.Now(), false)
		}()
		turns.wait(t.Context(), nil, changed)
		if waited := time.Since(began); waited != turnRecheck/4 {
			t.Errorf("looks %s after a change", waited-turnRecheck/4)
		}
	})
}
