package fetcher

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/tracing"
)

// maxSealTries bounds the tries of a seal whose older manifest is being removed.
const maxSealTries = 3

// seal stores the items and then the manifest that makes them the job's. Until
// the manifest stands nobody reads the items, so a crash leaves nothing behind
// but an attempt for the janitor.
func (f *Fetcher) seal(ctx context.Context, t *task, entries []entry, logger zerolog.Logger) error {
	// Cancelled while its pages were read: nothing is stored for it. One that is
	// cancelled after this look ends by the consumer that gets its manifest.
	state, err := f.state(ctx, t.job)
	if err != nil {
		return err
	}
	if state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED && state.GetRun() >= t.run {
		logger.Info().Msg(logevent.SealLost)
		return errTaken
	}
	staging, span := f.config.Traces.Start(ctx, tracing.SpanStage, tracing.Number(tracing.AttrItems, len(entries)))
	manifest, err := f.stage(staging, t, entries)
	span.End(err)
	if err != nil {
		f.discard(ctx, t, logger)
		return fmt.Errorf("store the items of job %s: %w", t.job, err)
	}
	data, err := proto.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("encode the manifest of job %s: %w", t.job, err)
	}
	sealing, span := f.config.Traces.Start(ctx, tracing.SpanSeal)
	err = f.putManifest(sealing, t, data, manifest.GetTraceparent())
	span.End(err)
	if errors.Is(err, cas.ErrConflict) {
		f.discard(ctx, t, logger)
		logger.Info().Msg(logevent.SealLost)
		return errTaken
	}
	if err != nil {
		// Whether the manifest stands is not known: the items stay.
		return fmt.Errorf("seal job %s: %w", t.job, err)
	}
	logger.Info().Uint32("count", manifest.GetCount()).Str("attempt", t.attempt).Uint32("run", t.run).Msg(logevent.JobSealed)
	// An earlier run's manifest stays: it may be in a worker's hand, not acked yet,
	// and its holder, or tend, removes it.
	f.noteSealed(ctx, t, manifest, logger)
	return nil
}

// putManifest is the seal: of all fetchers that drained the job, one passes. The
// manifest of an earlier run may be removed by its worker in between; that is no
// conflict.
func (f *Fetcher) putManifest(ctx context.Context, t *task, data []byte, traceparent string) error {
	for range maxSealTries {
		msg := nats.NewMsg(subject.Ready(t.job))
		msg.Data = data
		if traceparent != "" {
			// For whoever looks at the stream: consumers read the manifest's own.
			msg.Header.Set(subject.HeaderTraceparent, traceparent)
		}
		crashpoint.Before(crashpoint.FetcherSeal)
		_, err := cas.PutMsg(ctx, f.js, f.pipe, msg, t.replaces)
		crashpoint.After(crashpoint.FetcherSeal)
		if !errors.Is(err, cas.ErrConflict) {
			return err
		}
		rival, at, readErr := f.manifest(ctx, t.job)
		if readErr != nil {
			return readErr
		}
		if rival.GetRun() >= t.run {
			return err
		}
		t.replaces = at
	}
	return fmt.Errorf("%w: the manifest changed %d times", errLater, maxSealTries)
}

// stage stores the items in chained atomic batches and returns the manifest for
// them.
func (f *Fetcher) stage(ctx context.Context, t *task, entries []entry) (*ledgerlinev1.Manifest, error) {
	manifest := &ledgerlinev1.Manifest{
		JobId:            t.job.String(),
		CompanyId:        t.company.String(),
		Run:              t.run,
		Attempt:          t.attempt,
		Count:            uint32(len(entries)),
		Order:            string(f.config.Order),
		Deadline:         timestamppb.New(t.read.Deadline()),
		ExpiresInSeconds: int32(t.read.ExpiresIn / time.Second),
		SealedAt:         timestamppb.Now(),
		Traceparent:      t.traceparent,
	}
	if !t.read.CreatedAt.IsZero() {
		manifest.CreatedAt = timestamppb.New(t.read.CreatedAt)
	}
	digest := sha256.New()
	subj := subject.Items(t.job, t.attempt)
	payloads := make([][]byte, 0, min(len(entries), maxStaged))
	for i, e := range entries {
		digest.Write(e.id[:])
		data, err := encodeItem(e, uint32(i+1))
		if err != nil {
			return nil, err
		}
		payloads = append(payloads, data)
		if len(payloads) < maxStaged && i+1 < len(entries) {
			continue
		}
		// Each batch expects the last sequence of the one before: a chain that
		// anybody else writes into breaks.
		crashpoint.Before(crashpoint.FetcherStage)
		last, err := cas.PutBatch(ctx, f.js, f.pipe, subj, payloads, manifest.GetLastSequence())
		crashpoint.After(crashpoint.FetcherStage)
		if err != nil {
			return nil, err
		}
		if manifest.GetFirstSequence() == 0 {
			manifest.FirstSequence = last - uint64(len(payloads)) + 1
		}
		manifest.LastSequence = last
		f.metrics.ItemsPublished.Add(float64(len(payloads)))
		payloads = payloads[:0]
	}
	manifest.Digest = digest.Sum(nil)
	return manifest, nil
}

func encodeItem(e entry, position uint32) ([]byte, error) {
	item := &ledgerlinev1.Item{EntryId: e.id[:], Position: position, Status: e.status}
	if e.dated {
		item.Date = &timestamppb.Timestamp{Seconds: e.seconds, Nanos: e.nanos}
	}
	data, err := proto.Marshal(item)
	if err != nil {
		return nil, fmt.Errorf("encode item %d: %w", position, err)
	}
	return data, nil
}

// discard purges the items of a drain that was not sealed. What it cannot purge
// the janitor does.
func (f *Fetcher) discard(ctx context.Context, t *task, logger zerolog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	crashpoint.Before(crashpoint.FetcherDiscard)
	err := f.pipe.Purge(ctx, jetstream.WithPurgeSubject(subject.Items(t.job, t.attempt)))
	crashpoint.After(crashpoint.FetcherDiscard)
	if err != nil {
		logger.Warn().Err(err).Str("attempt", t.attempt).Msg(logevent.AttemptNotPurged)
	}
}

// noteSealed is note for a sealed job, unless a consumer has written more already, or
// the run has ended by now and an operator has asked for another.
func (f *Fetcher) noteSealed(ctx context.Context, t *task, m *ledgerlinev1.Manifest, logger zerolog.Logger) {
	crashpoint.Before(crashpoint.FetcherSealed)
	_, err := f.jobs.Update(ctx, t.job, func(s *ledgerlinev1.JobState) error {
		if s.GetRun() > m.GetRun() {
			return errTaken
		}
		s.Total = m.GetCount()
		s.SealedAt = m.GetSealedAt()
		if s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING || s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED {
			s.Phase = ledgerlinev1.JobPhase_JOB_PHASE_SEALED
			s.CompanyId, s.Run = m.GetCompanyId(), m.GetRun()
			s.CreatedAt, s.Deadline = m.GetCreatedAt(), m.GetDeadline()
		}
		return nil
	})
	crashpoint.After(crashpoint.FetcherSealed)
	if err != nil && !errors.Is(err, errTaken) {
		logger.Warn().Err(err).Msg(logevent.StateNotWritten)
	}
}

// manifest is a job's last manifest and its sequence, or nil and 0.
func (f *Fetcher) manifest(ctx context.Context, job uuid.UUID) (*ledgerlinev1.Manifest, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, f.config.APITimeout)
	defer cancel()
	msg, err := f.pipe.GetLastMsgForSubject(ctx, subject.Ready(job))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the manifest of job %s: %w", job, err)
	}
	manifest, err := decodeManifest(job, msg.Data)
	if err != nil {
		return nil, 0, err
	}
	return manifest, msg.Sequence, nil
}

func decodeManifest(job uuid.UUID, data []byte) (*ledgerlinev1.Manifest, error) {
	manifest := new(ledgerlinev1.Manifest)
	if err := proto.Unmarshal(data, manifest); err != nil {
		return nil, fmt.Errorf("the manifest of job %s is unreadable: %w", job, err)
	}
	if manifest.GetMinReader() > ledger.Version {
		return nil, fmt.Errorf("the manifest of job %s: %w", job, ledger.ErrNewer)
	}
	return manifest, nil
}
