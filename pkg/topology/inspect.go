package topology

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Part is one stream, bucket or durable as it was found.
type Part struct {
	// Name of the stream, of a bucket's stream, or STREAM > DURABLE.
	Name string
	// Differences say what the promises cannot rest on, each as a sentence.
	Differences []string
	// Missing is true where it is not there; whichever service starts creates it.
	Missing bool
	// Replicas are those asked for, Current how many of them are up to date; one
	// node alone is 1 of 1. 0 for a durable.
	Replicas, Current int
}

// OK tells whether it is there, as it must be, and up to date.
func (p Part) OK() bool { return !p.Missing && len(p.Differences) == 0 && p.Current >= p.Replicas }

// Inspect looks at everything without creating or changing it.
func Inspect(ctx context.Context, js jetstream.JetStream, o Options) ([]Part, error) {
	var parts []Part
	for _, want := range []jetstream.StreamConfig{o.events(), o.pipe(), o.ledger(), o.parked(), o.detected()} {
		part, err := inspectStream(ctx, js, want.Name, func(have jetstream.StreamConfig) []string { return streamDifferences(have, want) })
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	for _, want := range []jetstream.KeyValueConfig{o.jobs(), o.tokens()} {
		part, err := inspectStream(ctx, js, "KV_"+want.Bucket, func(have jetstream.StreamConfig) []string { return bucketDifferences(have, want) })
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	for _, d := range []struct {
		stream string
		want   jetstream.ConsumerConfig
	}{{subject.StreamEvents, o.fetcher()}, {subject.StreamDetected, o.gateway()}, {subject.StreamPipe, o.consumer()}} {
		stream, want := d.stream, d.want
		part := Part{Name: stream + " > " + want.Durable}
		durable, err := js.Consumer(ctx, stream, want.Durable)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound):
			part.Missing = true
		case err != nil:
			return nil, fmt.Errorf("look up durable %s of %s: %w", want.Durable, stream, err)
		default:
			part.Differences = durableDifferences(durable.CachedInfo().Config, want)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func inspectStream(ctx context.Context, js jetstream.JetStream, name string, differences func(jetstream.StreamConfig) []string) (Part, error) {
	part := Part{Name: name}
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		part.Missing = true
		return part, nil
	}
	if err != nil {
		return part, fmt.Errorf("look up stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	part.Differences, part.Replicas, part.Current = differences(info.Config), info.Config.Replicas, 1
	if info.Cluster != nil {
		for _, peer := range info.Cluster.Replicas {
			if peer.Current && !peer.Offline {
				part.Current++
			}
		}
	}
	return part, nil
}
