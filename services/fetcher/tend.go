package fetcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// maxTended bounds one look. As a rule nothing stands behind the floor.
	maxTended = 1_000
	// tendLeases is for how many leases a job must show no sign of life, besides
	// the time between two looks, before its manifest counts as nobody's.
	tendLeases = 2
)

// left is a manifest behind the ack floor, and how its job stood when it was seen
// there first.
type left struct {
	since            time.Time
	record, revision uint64
}

// tender remembers from look to look.
type tender struct {
	f    *Fetcher
	seen map[uint64]left // by sequence
}

// tend looks after manifests that stand behind the ack floor of the consumers'
// durable: the server holds them for acked, so nobody gets them any more. It runs
// until ctx ends.
func (f *Fetcher) tend(ctx context.Context) {
	t := &tender{f: f, seen: map[uint64]left{}}
	for pause(ctx, f.config.TendInterval/2+rand.N(f.config.TendInterval)) {
		if err := t.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			f.logger.Warn().Err(err).Msg(logevent.TendFailed)
		}
	}
}

// look goes through the manifests behind the floor. One whose run has ended is
// removed. One whose run has not ended was lost: it is offered again.
func (t *tender) look(ctx context.Context, now time.Time) error {
	durable, err := t.f.js.Consumer(ctx, subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		return fmt.Errorf("read the floor of durable %s: %w", subject.DurableConsumer, err)
	}
	floor := durable.CachedInfo().AckFloor.Stream
	seen := map[uint64]left{}
	var faults []error
	for next, n := uint64(1), 0; n < maxTended; n++ {
		msg, err := t.f.pipe.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject.AllReady))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return errors.Join(append(faults, fmt.Errorf("read the manifest from sequence %d on: %w", next, err))...)
		}
		if msg.Sequence > floor { // waiting, or in somebody's hand
			break
		}
		next = msg.Sequence + 1
		was, err := t.judge(ctx, msg, now)
		if err != nil {
			faults = append(faults, err)
		} else if was != nil {
			seen[msg.Sequence] = *was
		}
	}
	t.seen = seen
	return errors.Join(faults...)
}

// judge does what one manifest behind the floor asks for; it returns what to
// remember of one that a later look decides.
func (t *tender) judge(ctx context.Context, msg *jetstream.RawStreamMsg, now time.Time) (*left, error) {
	manifest, job, err := readable(msg.Data)
	switch {
	case errors.Is(err, ledger.ErrNewer):
		return nil, nil // left to a worker that can read it
	case err != nil:
		return nil, t.giveUp(ctx, msg, err)
	}
	logger := t.f.logger.With().Stringer("job_id", job).Uint32("run", manifest.GetRun()).Logger()
	_, newest, err := t.f.manifest(ctx, job)
	if err != nil {
		return nil, err
	}
	if newest > msg.Sequence {
		// A later run's, or this one offered again: that one counts.
		return nil, t.remove(ctx, msg.Sequence, logger)
	}
	last, err := t.f.ledger.LastOfJob(ctx, job)
	if err != nil {
		return nil, err
	}
	stands := left{since: now}
	if last != nil {
		stands.record = last.Sequence
	}
	state, revision, err := t.f.jobs.Get(ctx, job)
	if err != nil && !errors.Is(err, jobstate.ErrNotFound) {
		return nil, err
	}
	stands.revision = revision
	if over(manifest, last) && told(manifest, state) {
		return nil, t.remove(ctx, msg.Sequence, logger)
	}
	before, found := t.seen[msg.Sequence]
	if !found || before.record != stands.record || before.revision != stands.revision {
		return &stands, nil
	}
	if now.Sub(before.since) < tendLeases*t.f.config.Topology.Lease {
		return &before, nil
	}
	if free, err := t.turnIsFree(ctx, manifest, job); err != nil || !free {
		// Whoever has it waits for its turn and has nothing to show for it.
		return &before, err
	}
	return nil, t.offer(ctx, msg, job, logger)
}

func readable(data []byte) (*ledgerlinev1.Manifest, uuid.UUID, error) {
	manifest := new(ledgerlinev1.Manifest)
	if err := proto.Unmarshal(data, manifest); err != nil {
		return nil, uuid.Nil, fmt.Errorf("unreadable: %w", err)
	}
	if manifest.GetMinReader() > ledger.Version {
		return nil, uuid.Nil, ledger.ErrNewer
	}
	if _, err := subject.ParseID(manifest.GetCompanyId()); err != nil {
		return nil, uuid.Nil, fmt.Errorf("company: %w", err)
	}
	job, err := subject.ParseID(manifest.GetJobId())
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("job: %w", err)
	}
	return manifest, job, nil
}

// giveUp removes a manifest that nobody can read: while it stands its job cannot be
// drained again. The consumer that met it has parked it; parked once more it stands
// there once.
func (t *tender) giveUp(ctx context.Context, msg *jetstream.RawStreamMsg, why error) error {
	crashpoint.Before(crashpoint.FetcherGiveUp)
	err := t.f.parked.Event(ctx, uuid.Nil, msg.Data, "manifest on "+msg.Subject, fmt.Sprintf("the manifest on %s: %v", msg.Subject, why))
	crashpoint.After(crashpoint.FetcherGiveUp)
	if err != nil {
		return err
	}
	return t.remove(ctx, msg.Sequence, t.f.logger)
}

// over tells whether the ledger has the last record of the manifest's run.
func over(m *ledgerlinev1.Manifest, last *ledger.Entry) bool {
	return last != nil && (last.Record.GetRun() > m.GetRun() ||
		last.Record.GetRun() == m.GetRun() && last.Record.GetEnd() != nil)
}

// told tells whether the end of the manifest's run was announced. Where it was not,
// whoever takes the manifest does so.
func told(m *ledgerlinev1.Manifest, state *ledgerlinev1.JobState) bool {
	return ledger.Final(state.GetPhase()) || state.GetRun() > m.GetRun()
}

func (t *tender) turnIsFree(ctx context.Context, m *ledgerlinev1.Manifest, job uuid.UUID) (bool, error) {
	company, err := subject.ParseID(m.GetCompanyId())
	if err != nil {
		return false, fmt.Errorf("the manifest of job %s: company: %w", job, err)
	}
	err = t.f.ledger.TurnFree(ctx, company, job)
	var busy *ledger.CompanyBusyError
	if errors.As(err, &busy) {
		return false, nil
	}
	return err == nil, err
}

// offer publishes the manifest again, the same in every byte, so that the durable
// hands it out. Where somebody has it all the same, the ledger lets one of the two
// go on.
func (t *tender) offer(ctx context.Context, msg *jetstream.RawStreamMsg, job uuid.UUID, logger zerolog.Logger) error {
	crashpoint.Before(crashpoint.FetcherOffer)
	_, err := cas.Put(ctx, t.f.js, t.f.pipe, subject.Ready(job), msg.Data, msg.Sequence)
	crashpoint.After(crashpoint.FetcherOffer)
	if errors.Is(err, cas.ErrConflict) {
		return nil // a later run was sealed, or the job has ended
	}
	if err != nil {
		return fmt.Errorf("offer the manifest of job %s again: %w", job, err)
	}
	logger.Warn().Msg(logevent.ManifestOffered)
	crashpoint.Before(crashpoint.FetcherOffered)
	err = cas.Remove(ctx, t.f.pipe, msg.Sequence)
	crashpoint.After(crashpoint.FetcherOffered)
	return err
}

func (t *tender) remove(ctx context.Context, sequence uint64, logger zerolog.Logger) error {
	crashpoint.Before(crashpoint.FetcherRemove)
	err := cas.Remove(ctx, t.f.pipe, sequence)
	crashpoint.After(crashpoint.FetcherRemove)
	if err != nil {
		return fmt.Errorf("remove a manifest behind the floor: %w", err)
	}
	logger.Info().Msg(logevent.ManifestRemoved)
	return nil
}
