package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// JobView is a job as the commands print it; the names are the outside
// contract's.
type JobView struct {
	JobID     string     `json:"jobId"`
	CompanyID string     `json:"companyId"`
	State     string     `json:"state"`
	Position  uint32     `json:"position"`
	Total     uint32     `json:"total"`
	Lag       uint64     `json:"lag"`
	Epoch     uint64     `json:"epoch"`
	Worker    string     `json:"worker"`
	Deadline  *time.Time `json:"deadline"`
	Reason    string     `json:"reason"`

	phase   ledgerlinev1.JobPhase
	created time.Time
	sealed  time.Time
}

// view reads what is known of the jobs.
type view struct {
	js     jetstream.JetStream
	jobs   *jobstate.Store
	ledger *ledger.Ledger
	pipe   jetstream.Stream
}

func openView(ctx context.Context, js jetstream.JetStream) (*view, error) {
	v := &view{js: js}
	var err error
	if v.pipe, err = js.Stream(ctx, subject.StreamPipe); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if v.jobs, err = jobstate.Open(ctx, js); err != nil {
		return nil, err
	}
	v.ledger, err = ledger.Open(ctx, js)
	return v, err
}

// all lists the jobs, oldest first.
func (v *view) all(ctx context.Context) ([]JobView, error) {
	lags, err := v.lags(ctx)
	if err != nil {
		return nil, err
	}
	jobs := []JobView{}
	var states []*ledgerlinev1.JobState
	if err := v.jobs.List(ctx, func(s *ledgerlinev1.JobState, _ time.Time) { states = append(states, s) }); err != nil {
		return nil, err
	}
	for _, s := range states {
		job, err := v.of(ctx, s, lags)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	slices.SortFunc(jobs, func(a, b JobView) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.JobID, b.JobID)
	})
	return jobs, nil
}

// one is a job by its id.
func (v *view) one(ctx context.Context, id uuid.UUID) (JobView, error) {
	state, _, err := v.jobs.Get(ctx, id)
	if errors.Is(err, jobstate.ErrNotFound) {
		// The bucket forgets ended jobs, the ledger does not.
		return v.fromLedger(ctx, id)
	}
	if err != nil {
		return JobView{}, err
	}
	lags := map[string]uint64{}
	consumer, err := v.pipe.Consumer(ctx, subject.DurableJob(id))
	switch {
	case err == nil:
		info := consumer.CachedInfo()
		lags[subject.DurableJob(id)] = info.NumPending + uint64(info.NumAckPending)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return JobView{}, fmt.Errorf("look up the consumer of job %s: %w", id, err)
	}
	return v.of(ctx, state, lags)
}

func (v *view) fromLedger(ctx context.Context, id uuid.UUID) (JobView, error) {
	last, err := v.ledger.LastOfJob(ctx, id)
	if err != nil {
		return JobView{}, err
	}
	if last == nil {
		return JobView{}, fmt.Errorf("job %s: %w; `ledgerline jobs` lists the ones that are", id, jobstate.ErrNotFound)
	}
	return JobView{
		JobID: id.String(), CompanyID: last.Company.String(), Position: last.Record.GetPosition(), Epoch: last.Record.GetEpoch(),
		State: jobstate.PhaseName(last.Record.GetEnd().GetPhase()), Reason: last.Record.GetEnd().GetReason(),
	}, nil
}

// of completes a state by what the ledger and the job's consumer say.
func (v *view) of(ctx context.Context, s *ledgerlinev1.JobState, lags map[string]uint64) (JobView, error) {
	job := JobView{
		JobID: s.GetJobId(), CompanyID: s.GetCompanyId(), State: jobstate.PhaseName(s.GetPhase()),
		Position: s.GetPosition(), Total: s.GetTotal(), Epoch: s.GetEpoch(), Worker: s.GetWorker(), Reason: s.GetReason(),
		Deadline: timeOf(s.GetDeadline()), phase: s.GetPhase(),
	}
	if t := timeOf(s.GetCreatedAt()); t != nil {
		job.created = *t
	}
	if t := timeOf(s.GetSealedAt()); t != nil {
		job.sealed = *t
	}
	if ledger.Final(s.GetPhase()) || s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
		return job, nil
	}
	id, err := subject.ParseID(s.GetJobId())
	if err != nil {
		return job, fmt.Errorf("the bucket has the key %q: %w", s.GetJobId(), err)
	}
	last, err := v.ledger.LastOfJob(ctx, id)
	if err != nil {
		return job, err
	}
	if last != nil && last.Record.GetRun() == s.GetRun() {
		job.Position, job.Epoch = last.Record.GetPosition(), last.Record.GetEpoch()
	}
	lag, claimed := lags[subject.DurableJob(id)]
	if !claimed {
		lag = uint64(job.Total - min(job.Position, job.Total))
	}
	job.Lag = lag
	return job, nil
}

// lags are the pending and ack-pending items of each job's consumer, by its name.
func (v *view) lags(ctx context.Context) (map[string]uint64, error) {
	lags := map[string]uint64{}
	consumers := v.pipe.ListConsumers(ctx)
	for info := range consumers.Info() {
		if strings.HasPrefix(info.Name, "job-") {
			lags[info.Name] = info.NumPending + uint64(info.NumAckPending)
		}
	}
	if err := consumers.Err(); err != nil {
		return nil, fmt.Errorf("list the jobs' consumers: %w", err)
	}
	return lags, nil
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil || t.AsTime().Unix() == 0 {
		return nil
	}
	at := t.AsTime()
	return &at
}
