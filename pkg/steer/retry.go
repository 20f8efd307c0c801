package steer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Retry asks for a further run of a parked job: it is drained again, results that
// Pleo has not taken are reported, and what is open is worked under the same
// promises. The parked entry is removed last, so that a crash in between leaves
// something to retry.
func (s *Steer) Retry(ctx context.Context, job uuid.UUID) (Answer, error) {
	things, err := s.parked.Of(ctx, job)
	if err != nil {
		return Answer{}, err
	}
	state, err := s.furtherRun(ctx, job, things)
	if err != nil {
		return Answer{}, err
	}
	if err := s.Started(ctx, job, companyOf(state, things)); err != nil {
		return Answer{}, err
	}
	if err := s.parked.Remove(ctx, things); err != nil {
		return Answer{}, err
	}
	return Answer{
		JobID: job.String(), State: jobstate.PhaseName(ledgerlinev1.JobPhase_JOB_PHASE_DRAINING), Done: true,
		Text: fmt.Sprintf("the job is drained again; `ledgerline job %s` shows how it goes", job),
	}, nil
}

// companyOf is the job's company, so that a fetcher knows whose credential to read
// with: a job that was parked before it could be read has it in what is parked only.
// Empty where nobody has said.
func companyOf(state *ledgerlinev1.JobState, things []parked.Thing) string {
	company := state.GetCompanyId()
	for _, t := range things {
		var event struct {
			CompanyID string `json:"companyId"`
		}
		if company == "" {
			company = t.Parked.GetCompanyId()
		}
		if company == "" && json.Unmarshal(t.Parked.GetEvent(), &event) == nil {
			// What is no id was the reason for the park.
			if id, err := subject.ParseID(event.CompanyID); err == nil {
				company = id.String()
			}
		}
	}
	return company
}

// furtherRun marks a parked job to be drained again, as the run after the ledger's
// last. Where only an event of the job is parked there is nothing to mark.
func (s *Steer) furtherRun(ctx context.Context, job uuid.UUID, things []parked.Thing) (*ledgerlinev1.JobState, error) {
	last, err := s.ledger.LastOfJob(ctx, job)
	if err != nil {
		return nil, err
	}
	var found *ledgerlinev1.JobState
	state, err := s.jobs.Update(ctx, job, func(state *ledgerlinev1.JobState) error {
		found = state
		if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
			return errNotParked
		}
		state.Phase, state.Reason, state.EndedAt, state.Worker = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, "", nil, ""
		// What was asked of the run that ended is not asked of this one.
		state.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		state.Run = max(state.GetRun(), last.RunOrZero()) + 1
		return nil
	})
	if !errors.Is(err, errNotParked) {
		return state, err
	}
	phase := found.GetPhase()
	jobItself := slices.ContainsFunc(things, func(t parked.Thing) bool { return subject.IsParkedJob(t.Subject) })
	switch {
	case len(things) == 0 && phase == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED:
		return nil, fmt.Errorf("job %s: %w, and no event of it is parked; `ledgerline start %s` publishes one", job, jobstate.ErrNotFound, job)
	case len(things) == 0:
		return nil, refuse("job %s is %s, not parked: nothing to retry; `ledgerline parked` lists what is", job, jobstate.PhaseName(phase))
	case jobItself && phase != ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED && phase != ledgerlinev1.JobPhase_JOB_PHASE_DRAINING && !ledger.Final(phase):
		return nil, refuse("job %s is being parked just now and still %s: ask again in a moment", job, jobstate.PhaseName(phase))
	}
	return found, nil
}

// errNotParked ends the change of a state that is not parked.
var errNotParked = errors.New("the job is not parked")

// ThroughFetcher has a fetcher publish the job-started event.
func (s *Steer) ThroughFetcher(ctx context.Context, job uuid.UUID, company string) error {
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	again := endpoint.Again{JobID: job.String(), CompanyID: company}
	if err := endpoint.Ask(ctx, s.js.Conn(), subject.FetcherAgain, again, nil); err != nil {
		return fmt.Errorf("ask a fetcher for a further run of job %s: %w", job, err)
	}
	return nil
}

// Publish publishes the job-started event of a job and waits until it is stored.
// company, which tells the fetcher whose credential to read with, may be empty.
func Publish(ctx context.Context, js jetstream.JetStream, job uuid.UUID, company string) (*jetstream.PubAck, error) {
	event, err := json.Marshal(struct {
		JobID     string `json:"jobId"`
		CompanyID string `json:"companyId,omitempty"`
	}{job.String(), company})
	if err != nil {
		return nil, fmt.Errorf("encode the event of job %s: %w", job, err)
	}
	ack, err := js.Publish(ctx, subject.JobStarted, event)
	if err != nil {
		return nil, fmt.Errorf("publish the event of job %s: %w", job, err)
	}
	return ack, nil
}
