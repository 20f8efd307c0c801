package fetcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// park puts an event or its job where a person finds it, and acks the event only
// then: nothing waits behind it, and nothing is lost.
func (f *Fetcher) park(ctx context.Context, msg jetstream.Msg, job uuid.UUID, p *parkError, logger zerolog.Logger) error {
	if p.event {
		crashpoint.Before(crashpoint.FetcherParkEvent)
		err := f.parked.Event(ctx, job, msg.Data(), contentTypeOf(msg), p.reason)
		crashpoint.After(crashpoint.FetcherParkEvent)
		if err != nil {
			return err
		}
		f.metrics.EventsParked.Inc()
		logger.Error().Str("reason", p.reason).Msg(logevent.EventParked)
		return parkedAck(ctx, msg)
	}
	switch overtaken, err := f.endRun(ctx, job, p); {
	case err != nil:
		return err
	case overtaken:
		logger.Info().Str("reason", p.reason).Msg(logevent.EventKnown)
		return parkedAck(ctx, msg)
	}
	crashpoint.Before(crashpoint.FetcherParkState)
	state, err := f.jobs.Update(ctx, job, func(s *ledgerlinev1.JobState) error {
		if s.GetRun() > p.run {
			return errTaken
		}
		s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
		s.Reason = p.reason
		s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		s.EndedAt = timestamppb.Now()
		s.Run = max(s.GetRun(), 1)
		if s.GetCompanyId() == "" && p.company != uuid.Nil {
			s.CompanyId = p.company.String() // parked before it could be read
		}
		return nil
	})
	crashpoint.After(crashpoint.FetcherParkState)
	if errors.Is(err, errTaken) {
		logger.Info().Str("reason", p.reason).Msg(logevent.EventKnown)
		return parkedAck(ctx, msg)
	}
	if err != nil {
		return err
	}
	company, err := subject.ParseID(state.GetCompanyId())
	if err != nil {
		company = uuid.Nil // the job could not be read, so its company is not known
	}
	// Who has seen the state may have retried the job already.
	if state, err = f.state(ctx, job); err != nil {
		return err
	}
	if state.GetRun() > p.run {
		return parkedAck(ctx, msg)
	}
	crashpoint.Before(crashpoint.FetcherParkJob)
	err = f.parked.Job(ctx, job, company, p.reason)
	crashpoint.After(crashpoint.FetcherParkJob)
	if err != nil {
		return err
	}
	f.metrics.JobEnded(ledgerlinev1.JobPhase_JOB_PHASE_PARKED)
	logger.Error().Str("reason", p.reason).Msg(logevent.JobParked)
	return parkedAck(ctx, msg)
}

// parkedAck is the last step of each park.
func parkedAck(ctx context.Context, msg jetstream.Msg) error {
	crashpoint.Before(crashpoint.FetcherParkAck)
	err := msg.DoubleAck(ctx)
	crashpoint.After(crashpoint.FetcherParkAck)
	return err
}

// endRun has a consumer write the end of a job that was worked on before into its
// ledger, which a fetcher's credential may not write: the job has its company's
// turn, and the company's next one waits for that record. It tells whether the run
// was overtaken: another fetcher sealed it, so the job is not to be parked.
//
// Where no consumer answers, the event is handed back and the job drained again.
func (f *Fetcher) endRun(ctx context.Context, job uuid.UUID, p *parkError) (overtaken bool, err error) {
	sealed, _, err := f.manifest(ctx, job)
	if err != nil || sealed.GetRun() >= p.run {
		return err == nil, err
	}
	last, err := f.ledger.LastOfJob(ctx, job)
	if err != nil || last == nil || last.Record.GetRun() > p.run {
		return last != nil && err == nil, err
	}
	asking, cancel := context.WithTimeout(ctx, f.config.APITimeout)
	defer cancel()
	var ended endpoint.DrainEnded
	ask := endpoint.EndDrain{JobID: job.String(), Run: p.run, Reason: p.reason}
	crashpoint.Before(crashpoint.FetcherParkEnd)
	err = endpoint.Ask(asking, f.config.Conn, subject.ConsumerEnd, ask, &ended)
	crashpoint.After(crashpoint.FetcherParkEnd)
	if err != nil {
		return false, fmt.Errorf("%w: have a consumer end run %d of job %s: %w", errLater, p.run, job, err)
	}
	return ended.Overtaken, nil
}

// tellEnd brings the bucket to what the ledger says of a job that has ended: who
// wrote that record died before telling people.
func (f *Fetcher) tellEnd(ctx context.Context, state *ledgerlinev1.JobState, last *ledger.Entry) error {
	end := last.Record.GetEnd()
	if state == nil || ledger.Final(state.GetPhase()) {
		return nil
	}
	if end.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		if err := f.tellParked(ctx, last.Job, last.Company, end.GetReason()); err != nil {
			return err
		}
	}
	crashpoint.Before(crashpoint.FetcherTell)
	_, err := f.jobs.Update(ctx, last.Job, func(s *ledgerlinev1.JobState) error {
		if s.GetRun() > last.Record.GetRun() || ledger.Final(s.GetPhase()) {
			return errTaken
		}
		s.Phase, s.Reason, s.EndedAt, s.Worker = end.GetPhase(), end.GetReason(), last.Record.GetAt(), ""
		s.Request = ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_UNSPECIFIED
		return nil
	})
	crashpoint.After(crashpoint.FetcherTell)
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// tellParked puts a job before a person that is parked by its state or its ledger,
// where that was not done: who wrote that died before.
func (f *Fetcher) tellParked(ctx context.Context, job, company uuid.UUID, reason string) error {
	if there, err := f.parked.HasJob(ctx, job); there || err != nil {
		return err
	}
	crashpoint.Before(crashpoint.FetcherTellPark)
	err := f.parked.Job(ctx, job, company, reason)
	crashpoint.After(crashpoint.FetcherTellPark)
	return err
}

// state is what the bucket tells of a job, or nil.
func (f *Fetcher) state(ctx context.Context, job uuid.UUID) (*ledgerlinev1.JobState, error) {
	ctx, cancel := context.WithTimeout(ctx, f.config.APITimeout)
	defer cancel()
	state, _, err := f.jobs.Get(ctx, job)
	if errors.Is(err, jobstate.ErrNotFound) {
		return nil, nil
	}
	return state, err
}
