package endtoend

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	isPaused    = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED
	isCancelled = ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED
	isWaiting   = ledgerlinev1.JobPhase_JOB_PHASE_WAITING
	isSealed    = ledgerlinev1.JobPhase_JOB_PHASE_SEALED
	isDraining  = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
)

// A verb is one of the operator's wishes.
type verb func(*steer.Steer, context.Context, uuid.UUID) (steer.Answer, error)

var (
	pause  verb = (*steer.Steer).Pause
	resume verb = (*steer.Steer).Resume
	cancel verb = (*steer.Steer).Cancel
	retry  verb = (*steer.Steer).Retry
)

func (in *installation) try(job uuid.UUID, v verb, follow time.Duration) (steer.Answer, error) {
	in.t.Helper()
	ctx := in.bounded("the wish was not answered")
	s, err := steer.Open(ctx, in.js)
	if err != nil {
		in.t.Fatal(err)
	}
	s.Patience = follow
	return v(s, ctx, job)
}

// wish sends a wish and insists that it is carried out.
func (in *installation) wish(job uuid.UUID, v verb) steer.Answer {
	in.t.Helper()
	answer, err := in.try(job, v, patience)
	if err != nil {
		in.t.Fatal(err)
	}
	if !answer.Done {
		in.t.Fatalf("the wish was not carried out: %+v", answer)
	}
	return answer
}

// leave sends a wish that nobody carries out now.
func (in *installation) leave(job uuid.UUID, v verb) {
	in.t.Helper()
	answer, err := in.try(job, v, time.Millisecond)
	if err != nil || answer.Done {
		in.t.Fatalf("%+v: %v", answer, err)
	}
}

// wishAt sends a wish while the sink has the job's item that the gate holds. The sink
// answers once a worker has seen the wish.
func (in *installation) wishAt(here *gate, job uuid.UUID, v verb) {
	in.t.Helper()
	in.wait(here, "the item at which the job is to be steered")
	in.leave(job, v)
	in.log.Wait(logevent.WishSeen)
	here.open()
}

func (in *installation) phase(job uuid.UUID, want ledgerlinev1.JobPhase) *ledgerlinev1.JobState {
	in.t.Helper()
	return in.until(job, want.String(), func(s *ledgerlinev1.JobState) bool { return s.GetPhase() == want })
}

// cancels waits until a job is cancelled, here and at the upstream, with so many
// results reported.
func (in *installation) cancels(job uuid.UUID, results int) {
	in.t.Helper()
	state := in.ends(job)[job]
	if state.GetPhase() != isCancelled || !strings.Contains(state.GetReason(), "cancelled by an operator") || state.GetRequest() != 0 {
		in.t.Errorf("job %s is %s: %s, with %s", job, state.GetPhase(), state.GetReason(), state.GetRequest())
	}
	at := in.job(job)
	if at.Status != simulator.JobFailed || at.FailureReasonType != "canceled_by_user" || !slices.Equal(eventsOf(at), []string{"failed"}) {
		in.t.Errorf("job %s at Pleo is %s (%s: %s) after %v", job, at.Status, at.FailureReasonType, at.FailureReason, eventsOf(at))
	}
	if n := in.reported(job); n != results {
		in.t.Errorf("job %s: %d results are at Pleo, want %d", job, n, results)
	}
}

// A pause holds a job between two items: the one in hand is finished and
// recorded, what was booked is reported, nothing more is sent, and a resume goes
// on with the next one.
func TestPauseHoldsBetweenItems(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 120})
	in.fetcher()
	to, here := holding(in, 3)
	in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(6)})
	in.publish(job)
	in.wishAt(here, job, pause)
	state := in.phase(job, isPaused)
	// The send of the next item may have stood in the ledger by then: it was made.
	if at := state.GetPosition(); at < 3 || at > 4 || state.GetReason() != steer.PausedReason || state.GetWorker() == "" {
		t.Errorf("it is paused at %d by %q: %s", at, state.GetWorker(), state.GetReason())
	}
	if n := len(to.deliveries()); n != int(state.GetPosition()) {
		t.Errorf("%d items were sent when it was paused after %d", n, state.GetPosition())
	}
	in.untilReported(job, int(state.GetPosition()))
	if again := in.wish(job, pause); again.State != "paused" || again.Position != state.GetPosition() {
		t.Errorf("paused twice: %+v", again)
	}
	if n := len(to.deliveries()); n != int(state.GetPosition()) {
		t.Errorf("%d items were sent, of a job that is paused after %d", n, state.GetPosition())
	}
	in.wish(job, resume)
	in.completes(job)
	to.once(in, job, 6)
	if state := in.ends(job)[job]; state.GetRequest() != 0 || state.GetEpoch() != 1 {
		t.Errorf("it ended in epoch %d with %s", state.GetEpoch(), state.GetRequest())
	}
}

// untilReported waits until so many results of a job are at the upstream.
func (in *installation) untilReported(job uuid.UUID, n int) {
	in.t.Helper()
	ctx := in.bounded("")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for in.reported(job) != n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			in.t.Fatalf("%d results are at Pleo, want %d", in.reported(job), n)
		}
	}
}

// A pause reaches a job whose item is sent again and again, between two sends.
func TestPauseBetweenTwoSendsOfAnItem(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 121})
	in.fetcher()
	var mu sync.Mutex
	away := true
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		mu.Lock()
		defer mu.Unlock()
		if d.Position == 2 && away {
			return sink.Answer{Outcome: sink.Retry, RetryAfter: time.Hour, Detail: "the accounting system is away"}
		}
		return bookedAs(d)
	}}
	in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(3)})
	in.publish(job)
	in.log.Wait(logevent.ItemRetried)
	if answer := in.wish(job, pause); answer.Position != 1 {
		t.Errorf("%+v", answer)
	}
	mu.Lock()
	away = false
	mu.Unlock()
	in.wish(job, resume)
	in.completes(job)
	var attempts []uint32
	for _, d := range to.deliveries() {
		if d.Position == 2 {
			attempts = append(attempts, d.Attempt)
		}
	}
	if !slices.Equal(attempts, []uint32{1, 2}) || len(to.deliveries()) != 4 {
		t.Errorf("the second item was sent with the attempts %v, %d sends in all", attempts, len(to.deliveries()))
	}
}

// A pause outlives the worker that held the job: whoever gets it next holds it as
// well, without claiming it, and costs no slot.
func TestPauseSurvivesItsWorker(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 122})
	in.fetcher()
	to, here := holding(in, 2)
	first := in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(5)})
	in.publish(job)
	in.wishAt(here, job, pause)
	at := in.phase(job, isPaused).GetPosition()
	first.die()
	in.consumer(to, func(c *consumer.Config) { c.ConcurrentJobs = 1 })
	held := in.until(job, "held by the second worker", func(s *ledgerlinev1.JobState) bool {
		return s.GetPhase() == isPaused && s.GetWorker() == ""
	})
	if held.GetReason() != steer.PausedReason {
		t.Errorf("it waits for %q", held.GetReason())
	}
	other := in.add(simulator.JobSpec{Entries: entries(3), CompanyID: uuid.New()})
	in.publish(other)
	in.completes(other)
	if n := len(to.ids(job)); n != int(at) {
		t.Errorf("%d items were sent of a job that is paused after %d", n, at)
	}
	in.wish(job, resume)
	in.completes(job)
	to.sentWith(in, job, 5, 0)
}

// A job that nobody works on yet is paused at once, holds its company's turn and
// says so; cancelled, it frees the turn.
func TestPausedJobHoldsItsCompanysTurn(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 123})
	in.fetcher()
	older := in.add(simulator.JobSpec{Entries: entries(3), CreatedAt: time.Now().Add(-time.Minute)})
	younger := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(older, younger)
	in.phase(older, isSealed)
	in.phase(younger, isSealed)
	in.wish(older, pause)
	to := &book{}
	in.consumer(to)
	waits := in.phase(younger, isWaiting)
	if r := waits.GetReason(); !strings.Contains(r, older.String()) || !strings.Contains(r, "paused: resume or cancel it") {
		t.Errorf("the younger job waits for %q", r)
	}
	answer := in.wish(older, cancel)
	if answer.State != "cancelled" || answer.Position != 0 {
		t.Errorf("%+v", answer)
	}
	in.completes(younger)
	in.cancels(older, 0)
	if n := len(to.ids(older)); n != 0 {
		t.Errorf("%d items of the cancelled job were sent", n)
	}
}

// A pause does not outlive the job's deadline: what was booked is reported, and
// the job parked.
func TestPausedJobAtItsDeadline(t *testing.T) {
	t.Parallel()
	for name, claimed := range map[string]bool{"between items": true, "before its claim": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 124})
			in.fetcher(orderEntry)
			to, here := holding(in, 2)
			if claimed {
				in.consumer(to)
				in.log.Wait(logevent.ConsumerReady)
			}
			in.log.Wait(logevent.FetcherReady)
			job := in.add(simulator.JobSpec{Entries: entries(4), ExpiresIn: 8 * slowness})
			in.publish(job)
			if !claimed {
				in.phase(job, isSealed)
				in.wish(job, pause)
				in.consumer(to)
				in.parks(job, "job_expired", "0 of 4")
				return
			}
			in.wishAt(here, job, pause)
			in.phase(job, isPaused)
			in.parks(job, "job_expired", "of 4")
			if n, sent := in.reported(job), len(to.deliveries()); n != sent {
				t.Errorf("%d results are at Pleo, of %d items that were sent", n, sent)
			}
		})
	}
}

// A cancel ends a job after the item in hand: what was booked is reported, Pleo
// is told, and the company's next job begins.
func TestCancelReportsWhatWasBooked(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 125})
	fetching := in.fetcher()
	to, here := holding(in, 3)
	consuming := in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(6), CreatedAt: time.Now().Add(-time.Minute)})
	next := in.add(simulator.JobSpec{Entries: entries(6)})
	in.publish(job, next)
	in.wishAt(here, job, cancel)
	in.completes(next)
	sent := len(to.ids(job))
	if sent < 3 || sent > 4 {
		t.Errorf("%d items were sent of a job that was cancelled at the third", sent)
	}
	in.cancels(job, sent)
	if n := len(to.ids(next)); n != 6-sent {
		t.Errorf("%d items were sent in the next job, %d were booked before", n, sent)
	}
	fetching.stop()
	consuming.stop()
	in.nothingLeft()
}

// A cancel of a paused job ends it as well.
func TestCancelOfAPausedJob(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 126})
	in.fetcher()
	to, here := holding(in, 2)
	in.consumer(to)
	job := in.add(simulator.JobSpec{Entries: entries(4)})
	in.publish(job)
	in.wishAt(here, job, pause)
	at := in.phase(job, isPaused).GetPosition()
	in.wish(job, cancel)
	in.cancels(job, int(at))
}

// A job that nobody works on is cancelled at once, by a worker that is asked.
func TestCancelOfAJobThatNobodyWorksOn(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, in *installation, to *book) (job uuid.UUID, release func()){
		"sealed, and every slot is taken": func(t *testing.T, in *installation, _ *book) (uuid.UUID, func()) {
			busy := in.add(simulator.JobSpec{Entries: entries(3), CompanyID: uuid.New()})
			in.publish(busy)
			in.until(busy, "active", func(s *ledgerlinev1.JobState) bool { return s.GetEpoch() > 0 })
			job := in.add(simulator.JobSpec{Items: items(3)})
			in.publish(job)
			in.phase(job, isSealed)
			return job, func() {}
		},
		"waiting for its company's turn": func(t *testing.T, in *installation, to *book) (uuid.UUID, func()) {
			in.consumer(to)
			busy := in.add(simulator.JobSpec{Entries: entries(3), CreatedAt: time.Now().Add(-time.Minute)})
			in.publish(busy)
			in.until(busy, "active", func(s *ledgerlinev1.JobState) bool { return s.GetEpoch() > 0 })
			job := in.add(simulator.JobSpec{Items: items(3)})
			in.publish(job)
			in.phase(job, isWaiting)
			return job, func() {}
		},
		"being drained": func(t *testing.T, in *installation, _ *book) (uuid.UUID, func()) {
			inDrain := in.gate()
			in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if readsItems(r) {
					inDrain.pass(r.Context())
				}
				next.ServeHTTP(w, r)
			})
			job := in.add(simulator.JobSpec{Items: items(3)})
			in.publish(job)
			in.phase(job, isDraining)
			in.wait(inDrain, "the first page")
			return job, func() {
				in.intercept(nil)
				inDrain.open()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 127})
			fetching := in.fetcher()
			to, here := holding(in, 2)
			consuming := in.consumer(to, func(c *consumer.Config) { c.ConcurrentJobs = 1 })
			job, release := prepare(t, in, to)
			in.wish(job, cancel)
			in.cancels(job, 0)
			release()
			here.open()
			in.waitForManifests()
			in.settled(1)
			if n := len(to.ids(job)); n != 0 {
				t.Errorf("%d items of the cancelled job were sent", n)
			}
			fetching.stop()
			consuming.stop()
			in.nothingLeft()
			in.cancels(job, 0)
		})
	}
}

// A wish that is stored while no worker runs waits for one.
func TestAWishWaitsForAWorker(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 128})
	in.fetcher()
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.phase(job, isSealed)
	in.leave(job, cancel)
	to := &book{}
	in.consumer(to)
	in.cancels(job, 0)
	if n := len(to.deliveries()); n != 0 {
		t.Errorf("%d items were sent", n)
	}
}

// A cancel outlives the worker that carries it out, whichever moment that dies at:
// here when Pleo has taken the event and nobody knows.
func TestCancelSurvivesItsWorker(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 129})
	in.fetcher()
	to, here := holding(in, 2)
	first := in.consumer(to)
	var once sync.Once
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		if postsEvent(r) {
			once.Do(first.die)
		}
		replay(w, answer)
	})
	job := in.add(simulator.JobSpec{Entries: entries(4)})
	in.publish(job)
	in.wishAt(here, job, cancel)
	in.log.Wait(logevent.JobHandedBack)
	sent := len(to.deliveries())
	in.consumer(to)
	in.cancels(job, sent)
	if n := len(to.deliveries()); n != sent {
		t.Errorf("%d items were sent after the cancel", n-sent)
	}
}

// A cancel that comes when Pleo has the closing event, and nobody here knows, comes
// too late: the job is completed, and says so.
func TestACancelAfterTheClosingEventIsTooLate(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 131})
	in.fetcher()
	first := in.consumer(&book{})
	closed := in.gate()
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		if postsEvent(r) {
			closed.pass(r.Context())
		}
		replay(w, answer)
	})
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.wait(closed, "the closing event")
	first.die()
	closed.open()
	in.leave(job, cancel)
	in.consumer(&book{})
	in.completes(job)
}

// What cannot be steered is refused with the way out.
func TestARefusedWishNamesTheWayOut(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 130})
	in.fetcher()
	in.consumer(&book{})
	done := in.add(simulator.JobSpec{Items: items(2)})
	in.publish(done)
	in.completes(done)
	parked := in.add(simulator.JobSpec{Items: items(2), ExpiresIn: 1, CreatedAt: time.Now().Add(-time.Hour)})
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	in.publish(parked)
	in.ends(parked)
	for _, c := range []struct {
		job  uuid.UUID
		verb verb
		says string
		is   error
	}{
		{done, pause, "`ledgerline ledger", steer.ErrRefused},
		{done, resume, "completed", steer.ErrRefused},
		{done, cancel, "has ended", steer.ErrRefused},
		{done, retry, "`ledgerline parked`", steer.ErrRefused},
		{parked, cancel, "`ledgerline retry " + parked.String(), steer.ErrRefused},
		{uuid.New(), pause, "`ledgerline start", jobstate.ErrNotFound},
		{uuid.New(), cancel, "`ledgerline jobs`", jobstate.ErrNotFound},
		{uuid.New(), retry, "`ledgerline start", jobstate.ErrNotFound},
	} {
		if _, err := in.try(c.job, c.verb, time.Millisecond); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v does not say %q", err, c.says)
		}
	}
}
