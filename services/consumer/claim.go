package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/tracing"
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
	// slot is whether the job has one of the process's slots: one that waits or is
	// paused has none.
	slot bool
	// cancelling is set where the job was claimed to be cancelled.
	cancelling bool
	// closing is set once every item is settled: a pause comes too late then.
	closing bool

	// pleo is the client of the job's company; nil where Pleo is not asked at all.
	pleo   *pleo.Client
	tenure *ledger.Tenure
	// begun is the position at which this tenure began.
	begun uint32
	// interrupted is whether the job had its company's turn before this worker got
	// it, nil until it was looked up, once a lease.
	interrupted *bool
	// woke is when the event of the job before it in the company was asked for.
	woke time.Time
	// floor is the epoch that the bucket knew before this claim.
	floor uint64
	// last is the job's last record as it stood when the manifest came, nil for none,
	// and looked when the ledger was looked at last.
	last   *ledger.Entry
	looked time.Time
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
	hindrance hindrance
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
	j.slot = true
	defer j.giveSlot()
	held = tracing.Continue(held, j.id, j.manifest.GetTraceparent())
	claiming, span := c.config.Traces.Start(held, tracing.SpanClaim, tracing.Text(tracing.AttrJob, j.id.String()),
		tracing.Text(tracing.AttrCompany, j.company.String()), tracing.Number(tracing.AttrRun, j.manifest.GetRun()))
	err = c.claim(claiming, j)
	if err == nil {
		span.Set(tracing.Number(tracing.AttrEpoch, j.tenure.Epoch), tracing.Number(tracing.AttrPosition, j.tenure.Position))
	}
	span.End(err)
	if err == nil {
		j.begun = j.tenure.Position
		err = j.work(held)
	}
	if err != nil && errors.Is(context.Cause(held), lease.ErrLost) {
		err = fmt.Errorf("%w, after: %w", lease.ErrLost, err) // whatever was met when it ended
	}
	j.lease.Stop()
	c.settle(j, err)
}

// giveSlot lets another job of this process run.
func (j *job) giveSlot() {
	if j.slot {
		j.slot = false
		<-j.c.slots
	}
}

// takeSlot waits for one of the process's slots, while the job is this worker's.
func (j *job) takeSlot(ctx context.Context) error {
	if j.slot {
		return nil
	}
	look := time.NewTicker(j.c.config.Topology.Lease)
	defer look.Stop()
	for !j.slot {
		select {
		case j.c.slots <- struct{}{}:
			j.slot = true
		case <-look.C:
			if err := j.stillOurs(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-j.stop:
			return errStopping
		}
	}
	return nil
}

// claim waits for the company's turn, or for the end of a pause, and takes the
// job. While it waits it gives the slot back.
//
// What the ledger says of the job is looked up before anything is waited for, and the
// claim is compared with that. A server that was killed hands a manifest out again
// which a living worker has, and then confirms the heartbeats of both, since they name
// the message and no delivery: of two that wait with it the first to claim has the job,
// and the other one leaves it alone.
func (c *Consumer) claim(ctx context.Context, j *job) error {
	var err error
	if j.last, err = c.ledger.Last(ctx, j.company, j.id); err != nil {
		return fmt.Errorf("claim job %s: %w", j.id, err)
	}
	j.looked = time.Now()
	counted, noted := false, ""
	defer func() {
		if counted {
			c.held.Add(-1)
		}
	}()
	for {
		// Before the look, so that no change after it is missed.
		changed := c.turns.changes(j.company)
		reason, err := c.tryClaim(ctx, j)
		if err != nil || reason == "" {
			return err
		}
		j.giveSlot()
		if !counted {
			if c.held.Add(1) > maxHeld {
				c.held.Add(-1)
				return fmt.Errorf("%w: %s", errLater, reason)
			}
			counted = true
		}
		if noted != reason {
			noted = reason
			j.note(ctx, func(s *ledgerlinev1.JobState) {
				s.Phase, s.Reason, s.Worker = ledgerlinev1.JobPhase_JOB_PHASE_WAITING, reason, ""
				if s.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE {
					s.Phase, s.Reason = ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, steer.PausedReason
				}
			})
			j.logger.Info().Str("reason", reason).Msg(logevent.JobWaiting)
		}
		if reason == steer.PausedReason {
			j.keepPaused(ctx)
		}
		c.turns.wait(ctx, j.stop, changed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if j.stopping() {
			return errStopping
		}
		if err := j.stillOurs(ctx); err != nil {
			return err
		}
	}
}

// epoch is the highest epoch of the job that this worker knows to be its own, or to be
// over: its tenure's, or that of the last record as its manifest came.
func (j *job) epoch() uint64 {
	if j.tenure != nil {
		return j.tenure.Epoch
	}
	return j.last.EpochOrZero()
}

// stillOurs looks once a lease, while the job waits, whether another worker has
// claimed it: ErrFenced then. Whoever waited on would keep the manifest from the next
// worker when the other one dies, and wait for a job that waits for this one.
func (j *job) stillOurs(ctx context.Context) error {
	if time.Since(j.looked) < j.c.config.Topology.Lease {
		return nil
	}
	j.looked, j.interrupted = time.Now(), nil
	overtaken, err := j.overtaken(ctx)
	if err == nil && overtaken {
		err = fmt.Errorf("wait with job %s: %w", j.id, ledger.ErrFenced)
	}
	return err
}

// overtaken tells whether another worker has claimed the job since this one got its
// manifest, or since it claimed. Of a job whose ledger was not looked up yet it is not
// known.
func (j *job) overtaken(ctx context.Context) (bool, error) {
	if j.tenure == nil && j.looked.IsZero() {
		return false, nil
	}
	last, err := j.c.ledger.Last(ctx, j.company, j.id)
	if err != nil {
		return false, fmt.Errorf("look up the ledger of job %s: %w", j.id, err)
	}
	return last.EpochOrZero() > j.epoch() && last.Record.GetWorker() != j.c.config.Worker, nil
}

// tryClaim takes the job, or tells why it must wait.
func (c *Consumer) tryClaim(ctx context.Context, j *job) (reason string, err error) {
	asked := c.turns.request(j.company, j.id)
	if j.mustHold(asked) {
		return steer.PausedReason, nil
	}
	// A job that is to be cancelled sends nothing and waits for nobody.
	if asked != ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL {
		if reason, err := c.olderFirst(ctx, j); err != nil || reason != "" {
			return reason, err
		}
	}
	if err := j.takeSlot(ctx); err != nil {
		return "", err
	}
	// Read and not remembered: a worker that has just started knows no wishes yet,
	// and the epoch must rise above the bucket's in case the ledger was lost.
	state, err := c.state(ctx, j.id)
	if err != nil {
		return "", err
	}
	if j.mustHold(state.GetRequest()) {
		return steer.PausedReason, nil
	}
	j.cancelling = state.GetRequest() == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_CANCEL
	j.floor = state.GetEpoch()
	claiming, cancel := j.recording(ctx)
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerClaim)
	j.tenure, err = c.claimer.Claim(claiming, j.claimRequest(j.floor))
	crashpoint.After(crashpoint.ConsumerClaim)
	var busy *ledger.CompanyBusyError
	if errors.As(err, &busy) {
		if busy.Claimed != nil { // by this worker
			j.last = busy.Claimed
		}
		return busy.Error(), c.wake(ctx, j, busy.Holder)
	}
	return "", err
}

// stored is when the manifest was stored, zero for not known. One that was offered
// again has a new time of storing; one without a message nobody had claimed, and it is
// cancelled here.
func (j *job) stored() time.Time {
	if j.msg == nil {
		return time.Time{}
	}
	sealed := j.manifest.GetSealedAt().AsTime()
	if meta, err := j.msg.Metadata(); err == nil && meta.Timestamp.Before(sealed) {
		return meta.Timestamp
	}
	return sealed
}

// claimRequest is what the ledger is asked for; floor is the highest epoch known
// from elsewhere.
func (j *job) claimRequest(floor uint64) ledger.ClaimRequest {
	return ledger.ClaimRequest{
		Stored:  j.stored(),
		Company: j.company, Job: j.id, Run: j.manifest.GetRun(), Worker: j.c.config.Worker, EpochFloor: floor,
		Attempt: j.manifest.GetAttempt(), Total: j.manifest.GetCount(), Digest: j.manifest.GetDigest(),
		Last:  j.last,
		Aside: j.cancelling,
	}
}

// mustHold tells whether the job is paused. At its deadline it is claimed all the
// same, to be parked.
func (j *job) mustHold(asked ledgerlinev1.OperatorRequest) bool {
	return asked == ledgerlinev1.OperatorRequest_OPERATOR_REQUEST_PAUSE && time.Now().Before(j.manifest.GetDeadline().AsTime())
}
