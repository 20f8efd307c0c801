package steer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// nudgeTimeout bounds the request that has a worker look at a job at once; the
	// wish itself is stored by then.
	nudgeTimeout = 2 * time.Second
	// nudgePause is the wait between two such requests.
	nudgePause = 500 * time.Millisecond
	// DefaultPatience is how long a wish is followed until it is carried out: an
	// item in hand is finished first, and most sinks answer within that. It is below
	// the commands' own bound.
	DefaultPatience = 20 * time.Second
)

// PausedReason stands as the reason of a job that is paused.
const PausedReason = "paused by an operator"

// Answer tells what became of a wish. The JSON names are those of the commands.
type Answer struct {
	JobID string `json:"jobId"`
	// State is the job's by the outside contract's names.
	State string `json:"state"`
	// Done is true once a worker has carried the wish out; before that it stands in
	// the job's state and is carried out whenever a worker gets to it.
	Done bool `json:"done"`
	// Position and Total are the items settled and sealed.
	Position uint32 `json:"position"`
	Total    uint32 `json:"total"`
	// Text says it in a sentence.
	Text string `json:"text"`
}

// Steer steers jobs. It is safe for concurrent use.
type Steer struct {
	js     jetstream.JetStream
	jobs   *jobstate.Store
	ledger *ledger.Ledger
	parked *parked.Store
	// Patience is how long a wish is followed; DefaultPatience from Open.
	Patience time.Duration
	// Started publishes the job-started event of a further run; Open sets one that
	// publishes it itself. Who may not publish events has a fetcher do it:
	// ThroughFetcher.
	Started func(ctx context.Context, job uuid.UUID, company string) error
}

// Open looks the stores up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*Steer, error) {
	s := &Steer{js: js, Patience: DefaultPatience}
	s.Started = func(ctx context.Context, job uuid.UUID, company string) error {
		_, err := Publish(ctx, js, job, company)
		return err
	}
	var err error
	if s.jobs, err = jobstate.Open(ctx, js); err != nil {
		return nil, err
	}
	if s.ledger, err = ledger.Open(ctx, js); err != nil {
		return nil, err
	}
	s.parked, err = parked.Open(ctx, js)
	return s, err
}

// errNothingToDo ends a change whose wish stands already.
var errNothingToDo = errors.New("nothing to do")

// wish changes a job's state, asks a worker to look at it, and follows it until
// done says so.
func (s *Steer) wish(ctx context.Context, job uuid.UUID, verb string, change func(*ledgerlinev1.JobState) error, done func(*ledgerlinev1.JobState) bool) (*ledgerlinev1.JobState, bool, error) {
	state, err := s.jobs.Update(ctx, job, func(state *ledgerlinev1.JobState) error {
		switch {
		case state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED:
			return unknown(job)
		case ledger.Final(state.GetPhase()):
			return ended(job, state.GetPhase(), verb)
		case jobstate.Starting(state):
			return refuse("job %s is being started by the gateway %s: its event is not published yet; ask again once `ledgerline job %s` shows no worker", job, state.GetWorker(), job)
		}
		return change(state)
	})
	if errors.Is(err, errNothingToDo) {
		state, _, err = s.jobs.Get(ctx, job)
	}
	if err != nil {
		return nil, false, err
	}
	if done(state) {
		return state, true, nil
	}
	following, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	nudged := make(chan struct{})
	go func() {
		defer close(nudged)
		s.nudge(following, job)
	}()
	defer func() {
		cancel()
		<-nudged
	}()
	now, err := s.jobs.Until(following, job, done)
	if err != nil && following.Err() == nil {
		return nil, false, err
	}
	if now == nil {
		now = state
	}
	return now, done(now), nil
}

// nudge has a worker look at a job that nobody may have in hand, again and again
// until ctx ends: a worker may just be starting. Nobody there, or no answer, changes
// nothing: the wish is stored, and whoever gets the job next finds it.
func (s *Steer) nudge(ctx context.Context, job uuid.UUID) {
	for {
		asking, cancel := context.WithTimeout(ctx, nudgeTimeout)
		_ = endpoint.Ask(asking, s.js.Conn(), subject.ConsumerSteer, Request{JobID: job.String()}, nil)
		cancel()
		timer := time.NewTimer(nudgePause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Request asks a consumer to carry out what was asked of a job, where nobody has
// the job in hand.
type Request struct {
	JobID string `json:"jobId"`
}

func answer(job uuid.UUID, state *ledgerlinev1.JobState, done bool, text string) Answer {
	return Answer{
		JobID: job.String(), State: jobstate.PhaseName(state.GetPhase()), Done: done,
		Position: state.GetPosition(), Total: state.GetTotal(), Text: text,
	}
}

// waits says that a wish is stored and not carried out yet.
func waits(verb string) string {
	return fmt.Sprintf("the wish to %s is stored; it is carried out as soon as a worker has finished the item in hand, or takes the job", verb)
}
