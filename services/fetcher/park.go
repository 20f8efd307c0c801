package fetcher

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

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
		contentType := msg.Headers().Get(subject.HeaderContentType)
		if err := f.parked.Event(ctx, job, msg.Data(), contentType, p.reason); err != nil {
			return err
		}
		logger.Error().Str("reason", p.reason).Msg(logevent.EventParked)
		return msg.DoubleAck(ctx)
	}
	switch overtaken, err := f.endRun(ctx, job, p); {
	case err != nil:
		return err
	case overtaken:
		logger.Info().Str("reason", p.reason).Msg(logevent.EventKnown)
		return msg.DoubleAck(ctx)
	}
	state, err := f.jobs.Update(ctx, job, func(s *ledgerlinev1.JobState) error {
		s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
		s.Reason = p.reason
		s.EndedAt = timestamppb.Now()
		s.Run = max(s.GetRun(), 1)
		return nil
	})
	if err != nil {
		return err
	}
	company, err := subject.ParseID(state.GetCompanyId())
	if err != nil {
		company = uuid.Nil // the job could not be read, so its company is not known
	}
	if err := f.parked.Job(ctx, job, company, p.reason); err != nil {
		return err
	}
	logger.Error().Str("reason", p.reason).Msg(logevent.JobParked)
	return msg.DoubleAck(ctx)
}

// endRun writes the end of a job that was worked on before into its ledger: it has
// its company's turn, and the company's next job waits for that record. It tells
// whether the run was overtaken: another fetcher sealed it, so the job is not to
// be parked.
func (f *Fetcher) endRun(ctx context.Context, job uuid.UUID, p *parkError) (overtaken bool, err error) {
	sealed, _, err := f.manifest(ctx, job)
	if err != nil || sealed.GetRun() >= p.run {
		return err == nil, err
	}
	last, err := f.ledger.LastOfJob(ctx, job)
	if err != nil || last == nil || last.Record.GetRun() >= p.run {
		return last != nil && err == nil, err
	}
	tenure, err := f.ledger.Claim(ctx, ledger.ClaimRequest{Company: last.Company, Job: job, Run: p.run, Worker: parkingWorker})
	var busy *ledger.CompanyBusyError
	switch {
	case errors.As(err, &busy):
		return false, nil // another job has the turn: nobody waits for this one
	case errors.Is(err, ledger.ErrEnded) || errors.Is(err, ledger.ErrSuperseded):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, tenure.Append(ctx, &ledgerlinev1.LedgerRecord{
		End: &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, Reason: p.reason},
	})
}

// parkingWorker stands in the ledger where a fetcher, not a consumer, ended a run.
const parkingWorker = "fetcher"

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
