package jobview

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// parallelLookups bounds how many ledger records one listing asks for at a time:
// each open job needs one, and a server that is far away answers each after the
// same while.
const parallelLookups = 16

// Row is one job; the JSON names are the outside contract's, section 8.
type Row struct {
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

	// What programs sort and decide by, beside the contract's fields. The times
	// are zero where they are not known.
	Phase   ledgerlinev1.JobPhase        `json:"-"`
	Request ledgerlinev1.OperatorRequest `json:"-"`
	Created time.Time                    `json:"-"`
	Sealed  time.Time                    `json:"-"`
	Ended   time.Time                    `json:"-"`
}

// Open tells whether the job has not ended.
func (r Row) Open() bool { return !ledger.Final(r.Phase) }

// View reads what is known of the jobs. It is safe for concurrent use.
type View struct {
	js      jetstream.JetStream
	jobs    *jobstate.Store
	ledger  *ledger.Ledger
	pipe    jetstream.Stream
	waiting *lag.Reader
}

// Open looks the streams and the bucket up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*View, error) {
	v := &View{js: js}
	var err error
	if v.pipe, err = js.Stream(ctx, subject.StreamPipe); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if v.jobs, err = jobstate.Open(ctx, js); err != nil {
		return nil, err
	}
	if v.waiting, err = lag.Open(ctx, js); err != nil {
		return nil, err
	}
	v.ledger, err = ledger.Open(ctx, js)
	return v, err
}

// All lists the jobs, oldest first; empty, not nil, where there are none. With a
// jobstate.ErrUnreadable come those that can be read.
func (v *View) All(ctx context.Context) ([]Row, error) {
	lags, err := v.lags(ctx)
	if err != nil {
		return nil, err
	}
	var states []*ledgerlinev1.JobState
	unreadable := v.jobs.List(ctx, func(s *ledgerlinev1.JobState, _ time.Time) { states = append(states, s) })
	if unreadable != nil && !errors.Is(unreadable, jobstate.ErrUnreadable) {
		return nil, unreadable
	}
	jobs := make([]Row, len(states))
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(parallelLookups)
	for i, s := range states {
		group.Go(func() (err error) {
			jobs[i], err = v.of(asking, s, lags)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(jobs, func(a, b Row) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.JobID, b.JobID)
	})
	return jobs, unreadable
}

// One is a job by its id; ErrUnknown where nothing is known of it.
func (v *View) One(ctx context.Context, id uuid.UUID) (Row, error) {
	state, _, err := v.jobs.Get(ctx, id)
	if errors.Is(err, jobstate.ErrNotFound) {
		// The bucket forgets ended jobs, the ledger does not.
		return v.fromLedger(ctx, id)
	}
	if err != nil {
		return Row{}, err
	}
	lags := map[string]uint64{}
	consumer, err := v.pipe.Consumer(ctx, subject.DurableJob(id))
	switch {
	case err == nil:
		info := consumer.CachedInfo()
		lags[subject.DurableJob(id)] = info.NumPending + uint64(info.NumAckPending)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return Row{}, fmt.Errorf("look up the consumer of job %s: %w", id, err)
	}
	return v.of(ctx, state, lags)
}

func (v *View) fromLedger(ctx context.Context, id uuid.UUID) (Row, error) {
	last, err := v.ledger.LastOfJob(ctx, id)
	if err != nil {
		return Row{}, err
	}
	if last == nil {
		return Row{}, fmt.Errorf("job %s: %w", id, ErrUnknown)
	}
	phase := last.Record.GetEnd().GetPhase()
	if last.Record.GetEnd() == nil {
		// The bucket was lost while the job runs; its worker's next word restores it.
		phase = ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
	}
	return Row{
		JobID: id.String(), CompanyID: last.Company.String(), Position: last.Record.GetPosition(), Epoch: last.Record.GetEpoch(),
		State: jobstate.PhaseName(phase), Reason: last.Record.GetEnd().GetReason(), Phase: phase,
	}, nil
}

// of completes a state by what the ledger and the job's consumer say.
func (v *View) of(ctx context.Context, s *ledgerlinev1.JobState, lags map[string]uint64) (Row, error) {
	job := Row{
		JobID: s.GetJobId(), CompanyID: s.GetCompanyId(), State: jobstate.PhaseName(s.GetPhase()),
		Position: s.GetPosition(), Total: s.GetTotal(), Epoch: s.GetEpoch(), Worker: s.GetWorker(), Reason: s.GetReason(),
		Deadline: timeOf(s.GetDeadline()), Phase: s.GetPhase(), Request: s.GetRequest(),
	}
	if t := timeOf(s.GetCreatedAt()); t != nil {
		job.Created = *t
	}
	if t := timeOf(s.GetSealedAt()); t != nil {
		job.Sealed = *t
	}
	if t := timeOf(s.GetEndedAt()); t != nil {
		job.Ended = *t
	}
	if job.Reason == "" && job.Open() {
		job.Reason = wish(s)
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
func (v *View) lags(ctx context.Context) (map[string]uint64, error) {
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

// wish says what an operator asked for and no worker has carried out yet.
func wish(s *ledgerlinev1.JobState) string {
	switch {
	case s.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL:
		return "cancel asked for"
	case s.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE && s.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PAUSED:
		return "pause asked for"
	}
	return ""
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil || t.AsTime().Unix() == 0 {
		return nil
	}
	at := t.AsTime()
	return &at
}
