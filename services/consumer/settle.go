package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
)

// lookTimeout bounds the look at the ledger before a manifest is handed back: NATS may
// be why it is.
const lookTimeout = time.Second

// settle does what a job's end asks of its manifest.
func (c *Consumer) settle(j *job, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	switch {
	case errors.Is(err, ledger.ErrSuperseded):
		err = j.remove(ctx, false)
	case errors.Is(err, ledger.ErrEnded):
		// A former worker wrote the last record and died before it was through.
		if err = j.remove(ctx, true); err == nil {
			err = j.announceEnd(ctx)
		}
	}
	if err == nil {
		if err = j.release(ctx); err != nil {
			j.logger.Warn().Err(err).Msg(logevent.JobNotSettled)
		}
		return
	}
	if !errors.Is(err, ledger.ErrFenced) && !errors.Is(err, lease.ErrLost) {
		// The server takes a manifest back from whoever gives it, also from one whose
		// job another worker has: the next one would fence that.
		looking, cancel := context.WithTimeout(ctx, lookTimeout)
		overtaken, lookErr := j.overtaken(looking)
		cancel()
		switch {
		case lookErr != nil:
			j.logger.Warn().Err(lookErr).Msg(logevent.JobNotSettled)
		case overtaken:
			err = fmt.Errorf("%w, after: %w", ledger.ErrFenced, err)
		}
	}
	var ackErr error
	switch {
	case errors.Is(err, ledger.ErrFenced) || errors.Is(err, lease.ErrLost):
		// Somebody else has the job, or will when the lease has run out; the
		// manifest is theirs.
		j.logger.Warn().Err(err).Msg(logevent.JobDropped)
		if strayErr := j.removeStray(ctx); strayErr != nil {
			j.logger.Warn().Err(strayErr).Msg(logevent.JobNotSettled)
		}
	case errors.Is(err, errStopping):
		j.logger.Info().Msg(logevent.JobHandedBack)
		crashpoint.Before(crashpoint.ConsumerReturn)
		ackErr = j.msg.Nak()
		crashpoint.After(crashpoint.ConsumerReturn)
	case errors.Is(err, errStale):
		j.logger.Warn().Err(err).Msg(logevent.JobDropped)
		crashpoint.Before(crashpoint.ConsumerStale)
		ackErr = j.msg.NakWithDelay(c.config.Topology.Lease)
		crashpoint.After(crashpoint.ConsumerStale)
	default:
		delay := j.handBackDelay(err)
		j.logger.Warn().Err(err).Dur("retry_in", delay).Msg(logevent.JobHandedBack)
		crashpoint.Before(crashpoint.ConsumerDelay)
		ackErr = j.msg.NakWithDelay(delay)
		crashpoint.After(crashpoint.ConsumerDelay)
	}
	if ackErr != nil {
		// The lease runs out and the job comes again: nothing is lost.
		j.logger.Warn().Err(ackErr).Msg(logevent.JobNotSettled)
	}
}

// removeStray removes the consumer that a worker makes which was frozen between its
// claim and its reset, and wakes up when another one has ended the run: whoever
// ended it has removed the one that was there then.
func (j *job) removeStray(ctx context.Context) error {
	last, err := j.c.ledger.Last(ctx, j.company, j.id)
	if err != nil || last.RunOrZero() != j.manifest.GetRun() || last.Record.GetEnd() == nil {
		return err // the consumer is in use
	}
	return j.remove(ctx, true)
}

// handBackDelay grows with the deliveries of a manifest, from a second to half a
// minute. It does not for what is no fault of the job's and passes: NATS did not
// answer, as it does not for seconds when a leader is lost, or the job got on in
// this tenure. Jobs that only wait for a place to be held wait heldDelay.
func (j *job) handBackDelay(reason error) time.Duration {
	const least, most = time.Second, 30 * time.Second
	switch {
	case natsconn.Unanswered(reason):
		return least
	case j.tenure == nil:
		return heldDelay
	case j.tenure.Position > j.begun:
		return least
	}
	meta, err := j.msg.Metadata()
	if err != nil {
		return least
	}
	return min(most, least<<min(meta.NumDelivered-1, 5))
}
