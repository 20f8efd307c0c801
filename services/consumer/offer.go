package consumer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// offer answers what operators and fetchers ask of the consumers, until ctx ends.
func (c *Consumer) offer(ctx context.Context) {
	pool := endpoint.NewPool(ctx, c.config.Conn, c.logger)
	defer pool.Wait()
	endpoint.Offer(ctx, endpoint.Service{
		Conn: c.config.Conn, Name: subject.ServiceConsumer, Description: "Works sealed jobs through the sink", Logger: c.logger,
		Metadata: map[string]string{"worker": c.config.Worker},
		Endpoints: []endpoint.Endpoint{
			{Name: "end", Subject: subject.ConsumerEnd, Handle: endpoint.Answer(pool, settleTimeout, c.endDrain)},
			{Name: "steer", Subject: subject.ConsumerSteer, Handle: endpoint.Answer(pool, steerLimit, c.steer)},
			{Name: "reconcile", Subject: subject.ConsumerReconcile, Handle: endpoint.Answer(pool, reconcile.Limit, c.reconcile)},
			{Name: "check", Subject: subject.ConsumerCheck, Handle: endpoint.Answer(pool, checkLimit, c.check)},
		},
	})
}

// endDrain writes how a drain ended a job that was worked on before into its
// ledger: the job has its company's turn, and the company's next one waits for that
// record. A job without a record holds nobody up and needs none.
//
// Asked twice for the same end it says the same.
func (c *Consumer) endDrain(ctx context.Context, ask endpoint.EndDrain) (endpoint.DrainEnded, error) {
	var ended endpoint.DrainEnded
	id, err := subject.ParseID(ask.JobID)
	if err != nil {
		return ended, endpoint.Refuse("400", err.Error())
	}
	if ask.Run == 0 || ask.Reason == "" {
		return ended, endpoint.Refuse("400", "an end has a run and a reason")
	}
	last, err := c.ledger.LastOfJob(ctx, id)
	if err != nil || last == nil {
		return ended, err
	}
	end := &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, Reason: ask.Reason}
	if last.RunOrZero() == ask.Run && proto.Equal(last.Record.GetEnd(), end) {
		return ended, nil // the answer was lost
	}
	manifest, err := c.manifest(ctx, id)
	if err != nil {
		return ended, err
	}
	if manifest.GetRun() >= ask.Run || last.RunOrZero() > ask.Run {
		ended.Overtaken = true
		return ended, nil
	}
	crashpoint.Before(crashpoint.ConsumerDrainClaim)
	tenure, err := c.ledger.Claim(ctx, ledger.ClaimRequest{
		Company: last.Company, Job: id, Run: ask.Run, Worker: c.config.Worker, Digest: digestOfNothing(), Last: last, Aside: true,
	})
	crashpoint.After(crashpoint.ConsumerDrainClaim)
	switch {
	case errors.Is(err, ledger.ErrEnded):
		ended.Overtaken = true
		return ended, nil
	case err != nil:
		return ended, err
	}
	// A run whose manifest was lost has bookings that nobody has folded.
	crashpoint.Before(crashpoint.ConsumerDrainFold)
	err = tenure.Fold(ctx)
	crashpoint.After(crashpoint.ConsumerDrainFold)
	if err != nil {
		return ended, err
	}
	crashpoint.Before(crashpoint.ConsumerDrainEnd)
	err = tenure.Append(ctx, &ledgerlinev1.LedgerRecord{End: end})
	crashpoint.After(crashpoint.ConsumerDrainEnd)
	if err != nil {
		return ended, fmt.Errorf("end run %d of job %s: %w", ask.Run, id, err)
	}
	return ended, nil
}
