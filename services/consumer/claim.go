package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Claimer takes a job for this worker. The ledger is one; a fault wrapper in
// tests is the other.
type Claimer interface {
	Claim(ctx context.Context, r ledger.ClaimRequest) (*ledger.Tenure, error)
}

// job is one manifest in hand.
type job struct {
	c        *Consumer
	id       uuid.UUID
	company  uuid.UUID
	manifest *ledgerlinev1.Manifest
	msg      jetstream.Msg
	lease    *lease.Lease
	logger   zerolog.Logger
	// stop ends when the process shuts down: the item in hand is finished, no
	// other is begun.
	stop <-chan struct{}

	// pleo is the client of the job's company; nil where Pleo is not asked at all.
	pleo   *pleo.Client
	tenure *ledger.Tenure
	past   *ledger.Past
	// atPleo are the items' statuses as read in this tenure, nil before that.
	atPleo   map[uuid.UUID]pleo.ItemStatus
	payload  *payload
	reporter *reporter
	deadline *deadline
	// announced is the send that the last record tells of and that was not made
	// yet.
	announced *ledgerlinev1.Send
	pace      forecast
	digest    digest
	counts    counts
}

func (j *job) total() uint32 { return j.manifest.GetCount() }

func (j *job) stopping() bool {
	select {
	case <-j.stop:
		return true
	default:
		return false
	}
}

// handle brings one manifest to its end: worked to the job's end, or handed back.
// It owns a slot when it is called.
func (c *Consumer) handle(ctx context.Context, msg jetstream.Msg, taken time.Time) {
	j, err := c.readManifest(ctx, msg)
	if err != nil {
		<-c.slots
		c.refuse(ctx, msg, err)
		return
	}
	// What runs for the job ends with its lease; a shutdown ends it at the next
	// item only.
	var held context.Context
	j.lease, held = lease.Keep(context.WithoutCancel(ctx), c.config.Conn, msg.Reply(), taken, c.config.Topology.Lease, j.logger)
	slot := true
	release := func() {
		if slot {
			slot = false
			<-c.slots
		}
	}
	defer release()
	err = c.claim(held, j, &slot)
	if err == nil {
		err = j.work(held)
	}
	j.lease.Stop()
	c.settle(j, err)
}

// readManifest reads a manifest.
func (c *Consumer) readManifest(ctx context.Context, msg jetstream.Msg) (*job, error) {
	manifest := new(ledgerlinev1.Manifest)
	if err := proto.Unmarshal(msg.Data(), manifest); err != nil {
		return nil, fmt.Errorf("the manifest on %s is unreadable: %w", msg.Subject(), err)
	}
	if manifest.GetMinReader() > ledger.Version {
		return nil, fmt.Errorf("the manifest on %s: %w", msg.Subject(), ledger.ErrNewer)
	}
	id, err := subject.ParseID(manifest.GetJobId())
	if err != nil {
		return nil, fmt.Errorf("the manifest on %s: job: %w", msg.Subject(), err)
	}
	company, err := subject.ParseID(manifest.GetCompanyId())
	if err != nil {
		return nil, fmt.Errorf("the manifest on %s: company: %w", msg.Subject(), err)
	}
	return &job{
		c: c, id: id, company: company, manifest: manifest, msg: msg, stop: ctx.Done(),
		logger: c.logger.With().Stringer("job_id", id).Stringer("company_id", company).Logger(),
	}, nil
}

// refuse parks a manifest that cannot be read; one of a newer version waits for
// a worker that can.
func (c *Consumer) refuse(ctx context.Context, msg jetstream.Msg, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	c.logger.Error().Err(err).Msg(logevent.ManifestRefused)
	if errors.Is(err, ledger.ErrNewer) {
		err = msg.NakWithDelay(c.config.Topology.Lease)
	} else if err = c.parked.Event(ctx, uuid.Nil, msg.Data(), "manifest on "+msg.Subject(), err.Error()); err == nil {
		err = msg.DoubleAck(ctx)
	}
	if err != nil {
		c.logger.Warn().Err(err).Msg(logevent.JobNotSettled)
	}
}

// claim waits for the company's turn and takes the job. While it waits it gives
// the slot back.
func (c *Consumer) claim(ctx context.Context, j *job, slot *bool) error {
	created := j.manifest.GetCreatedAt().AsTime()
	counted, noted := false, false
	defer func() {
		if counted {
			c.held.Add(-1)
		}
	}()
	for {
		reason, err := c.tryClaim(ctx, j, created, slot)
		if err != nil || reason == "" {
			return err
		}
		if *slot {
			*slot = false
			<-c.slots
		}
		if !counted {
			if c.held.Add(1) > maxHeld {
				c.held.Add(-1)
				return fmt.Errorf("%w: %s", errLater, reason)
			}
			counted = true
		}
		if !noted {
			noted = true
			j.note(ctx, func(s *ledgerlinev1.JobState) {
				s.Phase, s.Reason, s.Worker = ledgerlinev1.JobPhase_JOB_PHASE_WAITING, reason, ""
			})
			j.logger.Info().Str("reason", reason).Msg(logevent.JobWaiting)
		}
		c.turns.wait(ctx, j.stop, j.company)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if j.stopping() {
			return errStopping
		}
	}
}

// tryClaim takes the job, or tells why it must wait.
func (c *Consumer) tryClaim(ctx context.Context, j *job, created time.Time, slot *bool) (reason string, err error) {
	older, phase, found := c.turns.older(j.company, j.id, created)
	if found {
		here := phase == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
		if !here {
			// The bucket may tell of a job whose manifest is lost.
			if here, err = c.sealed(ctx, older); err != nil {
				return "", err
			}
		}
		if here {
			return fmt.Sprintf("job %s of the same company is older", older), nil
		}
	}
	if !*slot {
		select {
		case c.slots <- struct{}{}:
			*slot = true
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-j.stop:
			return "", errStopping
		}
	}
	floor, err := c.epochFloor(ctx, j.id)
	if err != nil {
		return "", err
	}
	j.tenure, err = c.claimer.Claim(ctx, ledger.ClaimRequest{
		Company: j.company, Job: j.id, Run: j.manifest.GetRun(), Worker: c.config.Worker, EpochFloor: floor,
		Attempt: j.manifest.GetAttempt(), Total: j.manifest.GetCount(), Digest: j.manifest.GetDigest(),
	})
	var busy *ledger.CompanyBusyError
	if errors.As(err, &busy) {
		return busy.Error(), nil
	}
	return "", err
}

func (c *Consumer) sealed(ctx context.Context, id uuid.UUID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	_, err := c.pipe.GetLastMsgForSubject(ctx, subject.Ready(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up the manifest of job %s: %w", id, err)
	}
	return true, nil
}

// epochFloor is the epoch that the bucket knows, in case the ledger was lost.
func (c *Consumer) epochFloor(ctx context.Context, id uuid.UUID) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	state, _, err := c.jobs.Get(ctx, id)
	if errors.Is(err, jobstate.ErrNotFound) {
		return 0, nil
	}
	return state.GetEpoch(), err
}

// note writes to the bucket what people ask of a job. It decides nothing, so
// trouble is only logged.
func (j *job) note(ctx context.Context, change func(*ledgerlinev1.JobState)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	_, err := j.c.jobs.Update(ctx, j.id, func(s *ledgerlinev1.JobState) error {
		s.CompanyId, s.Run, s.Total = j.company.String(), j.manifest.GetRun(), j.total()
		if s.GetCreatedAt() == nil {
			s.CreatedAt = j.manifest.GetCreatedAt()
		}
		if s.GetSealedAt() == nil {
			s.SealedAt = j.manifest.GetSealedAt()
		}
		change(s)
		return nil
	})
	if err != nil {
		j.logger.Warn().Err(err).Msg(logevent.StateNotWritten)
	}
}

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
	var ackErr error
	switch {
	case errors.Is(err, errStopping):
		j.logger.Info().Msg(logevent.JobHandedBack)
		ackErr = j.msg.Nak()
	case errors.Is(err, ledger.ErrFenced) || errors.Is(err, lease.ErrLost):
		// Somebody else has the job, or will when the lease has run out; the
		// manifest is theirs.
		j.logger.Warn().Err(err).Msg(logevent.JobDropped)
	case errors.Is(err, errStale):
		j.logger.Warn().Err(err).Msg(logevent.JobDropped)
		ackErr = j.msg.NakWithDelay(c.config.Topology.Lease)
	default:
		delay := j.handBackDelay()
		j.logger.Warn().Err(err).Dur("retry_in", delay).Msg(logevent.JobHandedBack)
		ackErr = j.msg.NakWithDelay(delay)
	}
	if ackErr != nil {
		// The lease runs out and the job comes again: nothing is lost.
		j.logger.Warn().Err(ackErr).Msg(logevent.JobNotSettled)
	}
}

// handBackDelay grows with the deliveries of a manifest, from a second to half a
// minute; jobs that only wait for a place to be held wait heldDelay.
func (j *job) handBackDelay() time.Duration {
	const least, most = time.Second, 30 * time.Second
	if j.tenure == nil {
		return heldDelay
	}
	meta, err := j.msg.Metadata()
	if err != nil {
		return least
	}
	return min(most, least<<min(meta.NumDelivered-1, 5))
}
