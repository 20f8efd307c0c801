package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/fetcher"
)

// stopwatch runs from one log event of the fetcher to another: from a job's
// drain to its seal the fetcher stores the items and nothing else.
type stopwatch struct {
	drained time.Time
	sealed  chan time.Duration
}

// Run is called by the logger within the fetcher's own call.
func (s *stopwatch) Run(_ *zerolog.Event, _ zerolog.Level, message string) {
	switch message {
	case logevent.JobDrained:
		s.drained = time.Now()
	case logevent.JobSealed:
		s.sealed <- time.Since(s.drained)
	}
}

// measureStaging compares the fetcher's own staging and seal with raw atomic
// batches of the very bytes that it stored.
func (b *bench) measureStaging(ctx context.Context, bed *testbed, found *findings) error {
	watch := &stopwatch{sealed: make(chan time.Duration, 1)}
	// The events are made, for the stopwatch, and written from warnings on only.
	logger := zerolog.New(&zerolog.FilteredLevelWriter{
		Writer: zerolog.LevelWriterAdapter{Writer: os.Stderr}, Level: zerolog.WarnLevel,
	}).Level(zerolog.InfoLevel).Hook(watch)
	stop, err := bed.fetcher(ctx, fetcher.OrderDate, logger)
	if err != nil {
		return err
	}
	var raw, ours rates
	round := func() error {
		jobs, err := bed.seal(ctx, 1, b.sizes.staged)
		if err != nil {
			return err
		}
		ours.add(b.sizes.staged, <-watch.sealed)
		payloads, err := bed.items(ctx, jobs[0])
		if err != nil {
			return err
		}
		_, took, err := publishBatches(ctx, bed.js, payloads)
		if err != nil {
			return err
		}
		raw.add(len(payloads), took)
		// Nobody processes what was staged here; a sealed job without a manifest would
		// be drained again.
		if err := bed.pipe.Purge(ctx); err != nil {
			return fmt.Errorf("purge the pipe: %w", err)
		}
		return bed.forget(ctx, jobs[0])
	}
	if err := round(); err != nil { // the first one warms up
		return err
	}
	raw, ours = nil, nil
	err = b.profiled(".staging", func() error {
		for range b.sizes.rounds {
			if err := round(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	found.raw("synced atomic batches of 1,000, chained, the items' own bytes", raw)
	found.ours("staging: a drained job stored and sealed", ours, ours.sharesOf(raw), "the raw atomic batches", askedStaging)
	return stop()
}

// forget removes a job's state.
func (b *testbed) forget(ctx context.Context, job uuid.UUID) error {
	states, err := b.js.KeyValue(ctx, subject.BucketJobs)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", subject.BucketJobs, err)
	}
	if err := states.Delete(ctx, job.String()); err != nil {
		return fmt.Errorf("remove the state of job %s: %w", job, err)
	}
	return nil
}

// items are the stored items of a job, as they lie in the pipe.
func (b *testbed) items(ctx context.Context, job uuid.UUID) ([][]byte, error) {
	var payloads [][]byte
	err := history.Snapshot(ctx, b.pipe, []string{subject.ItemsOf(job)}, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		payloads = append(payloads, msg.Data())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the items of job %s: %w", job, err)
	}
	return payloads, nil
}
