package consumer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// wakeLeases is how many leases pass before the event of a lost job is asked for
// again: the fetchers may be busy with others.
const wakeLeases = 2

// wake has the event published again of the job that has the company's turn, where
// the ledger alone knows it: it was restored from a backup that was made while that
// job ran. Or the ledger alone does not know that it has ended: the record was lost.
// The fetcher that gets the event has what is still open of it worked, or
// ends it here as it ended at Pleo; nobody else would.
func (c *Consumer) wake(ctx context.Context, j *job, holder uuid.UUID) error {
	if time.Since(j.woke) < wakeLeases*c.config.Topology.Lease {
		return nil
	}
	// The state after the manifest: a job that ends has its state written first.
	here, err := c.sealed(ctx, holder)
	if err != nil || here {
		return err
	}
	state, err := c.state(ctx, holder)
	if err != nil || state != nil && !ledger.Final(state.GetPhase()) {
		return err
	}
	j.woke = time.Now()
	if err := c.publishStarted(ctx, holder, j.company); err != nil {
		return err
	}
	j.logger.Warn().Stringer("holder", holder).Msg(logevent.HolderWoken)
	return nil
}

// olderFirst tells why the job must wait for an older one of its company.
func (c *Consumer) olderFirst(ctx context.Context, j *job) (reason string, err error) {
	for _, older := range c.turns.older(j.company, j.id, j.manifest.GetCreatedAt().AsTime()) {
		if stuck, err := c.stuck(ctx, older); err != nil {
			return "", err
		} else if stuck {
			continue
		}
		if older.phase != ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
			// The bucket may tell of a job whose manifest is lost, or of one that has
			// just ended; the next one counts then.
			here, err := c.sealed(ctx, older.id)
			if err != nil {
				return "", err
			}
			if !here {
				continue
			}
		}
		if has, err := c.hasTurn(ctx, j); has || err != nil {
			return "", err
		}
		if older.phase == ledgerlinev1.JobPhase_JOB_PHASE_PAUSED {
			return fmt.Sprintf("job %s of the same company is older, and paused: resume or cancel it", older.id), nil
		}
		return fmt.Sprintf("job %s of the same company is older", older.id), nil
	}
	return "", nil
}

// sealedPatience is how many leases a sealed job may wait for a worker before it is
// looked at whether it can get one at all.
const sealedPatience = 4

// stuck tells whether no worker can get the older job: as many manifests are handed out
// as may be, and those that wait for it are among them. They go first then; which job
// is older is a preference, that two never run at once is not.
func (c *Consumer) stuck(ctx context.Context, older olderJob) (bool, error) {
	if older.phase != ledgerlinev1.JobPhase_JOB_PHASE_SEALED || time.Since(older.at) < sealedPatience*c.config.Topology.Lease {
		return false, nil
	}
	return c.places.taken(ctx, c.lookAtPlaces)
}

// lookAtPlaces tells whether as many manifests are handed out as may be.
func (c *Consumer) lookAtPlaces(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.APITimeout)
	defer cancel()
	durable, err := c.js.Consumer(ctx, subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		return false, fmt.Errorf("look at the durable of the manifests: %w", err)
	}
	info := durable.CachedInfo()
	return info.Config.MaxAckPending > 0 && info.NumAckPending >= info.Config.MaxAckPending, nil
}

// places remembers for turnRecheck whether all are taken: hundreds of jobs that wait
// would ask.
type places struct {
	mu   sync.Mutex
	at   time.Time
	full bool
}

func (p *places) taken(ctx context.Context, look func(context.Context) (bool, error)) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < turnRecheck {
		return p.full, nil
	}
	full, err := look(ctx)
	if err == nil {
		p.at, p.full = time.Now(), full
	}
	return full, err
}

// hasTurn tells whether the job was interrupted while it had its company's turn. It
// goes on then: an older one that was sealed meanwhile waits for it. Looked up once a
// lease: nobody but this worker takes the turn for the job, but for one that has the
// manifest too (see claim).
func (c *Consumer) hasTurn(ctx context.Context, j *job) (bool, error) {
	if j.interrupted == nil {
		has, err := c.ledger.HasTurn(ctx, j.company, j.id)
		if err != nil {
			return false, fmt.Errorf("look up the turn of job %s: %w", j.id, err)
		}
		j.interrupted = &has
	}
	return *j.interrupted, nil
}
