package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// keepInterval is how long a stream may be gone before a running process notices: a
// dozen small requests each time.
const keepInterval = 2 * time.Second

// durables by the stream they are of.
var durables = []struct{ stream, name string }{
	{subject.StreamEvents, subject.DurableFetcher},
	{subject.StreamDetected, subject.DurableGateway},
	{subject.StreamPipe, subject.DurableConsumer},
}

// streamNames are the streams, those below the buckets included.
var streamNames = []string{
	subject.StreamEvents, subject.StreamPipe, subject.StreamLedger, subject.StreamParked, subject.StreamDetected,
	"KV_" + subject.BucketJobs, "KV_" + subject.BucketTokens,
}

// Keep looks, until ctx ends, whether the streams, buckets and durables are those
// that were there when it began. What is gone is made anew, as at a start, and
// told as an error: what it held is lost, and docs/reliability.md says what that
// means. renewed gets the names of what is not what it was, whoever made it anew,
// once all of it stands again; a durable's is its stream's and its own, with a
// slash between. It is called by one goroutine.
//
// A creation time tells them apart: another process may have made a stream anew
// before this one saw that it was gone.
func Keep(ctx context.Context, js jetstream.JetStream, o Options, logger zerolog.Logger, renewed func(names []string)) {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	var known map[string]time.Time
	trouble := false
	for {
		now, err := births(ctx, js)
		switch {
		case err != nil:
			// NATS away, or its leader: nothing is known, so nothing is done. Told once.
			if ctx.Err() == nil && !trouble {
				logger.Warn().Err(err).Msg(logevent.TopologyWaited)
			}
		default:
			lost := differing(known, now)
			if len(lost) == 0 {
				known = now // and what has come besides
				break
			}
			logger.Error().Strs("lost", lost).Msg(logevent.StoreLost)
			if known, err = renew(ctx, js, o, logger, known, renewed); err != nil && ctx.Err() == nil {
				logger.Error().Err(err).Msg(logevent.StoreNotRenewed)
			}
		}
		trouble = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// renew makes what is gone and tells what is not what it was. Where that fails, what
// was known stays known, so that the next look tries again.
func renew(ctx context.Context, js jetstream.JetStream, o Options, logger zerolog.Logger, known map[string]time.Time, renewed func([]string)) (map[string]time.Time, error) {
	if err := ensure(ctx, js, o, logger); err != nil {
		return known, err
	}
	now, err := births(ctx, js)
	if err != nil {
		return known, err
	}
	if changed := differing(known, now); len(changed) > 0 {
		renewed(changed)
	}
	return now, nil
}

// births are the creation times of what exists.
func births(ctx context.Context, js jetstream.JetStream) (map[string]time.Time, error) {
	born := map[string]time.Time{}
	for _, name := range streamNames {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up stream %s: %w", name, err)
		}
		born[name] = stream.CachedInfo().Created
	}
	for _, d := range durables {
		consumer, err := js.Consumer(ctx, d.stream, d.name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up durable %s of stream %s: %w", d.name, d.stream, err)
		}
		born[d.stream+"/"+d.name] = consumer.CachedInfo().Created
	}
	return born, nil
}

// differing are the names of what was there and is not, or is another one.
func differing(known, now map[string]time.Time) []string {
	var names []string
	for name, at := range known {
		if born, there := now[name]; !there || !born.Equal(at) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
