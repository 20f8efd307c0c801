package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Options are the settings that shape the topology.
type Options struct {
	// Replicas of streams and bucket, 1 or more.
	Replicas int
	// Lease is how long the job or event of a dead worker stays unclaimed.
	Lease time.Duration
	// LedgerMaxAge is how long bookings are remembered; 0 = for ever.
	LedgerMaxAge time.Duration
}

// maxAPITimeout is the time-out of one NATS request where the lease is long.
const maxAPITimeout = 5 * time.Second

// APITimeout bounds one NATS request of a worker: below the lease, since a call
// that hangs through a fail-over of the server would hold its slot beyond it.
func APITimeout(lease time.Duration) time.Duration { return min(lease*3/4, maxAPITimeout) }

const (
	// ensureRetryMin and ensureRetryMax bound the wait between tries: servers
	// that start or elect a leader refuse look-ups for seconds.
	ensureRetryMin = 100 * time.Millisecond
	ensureRetryMax = 2 * time.Second
)

// Ensure creates what is missing and checks what exists. While NATS is away or
// cannot answer it tries again until ctx ends. It returns an error that wraps
// ErrDiffers when something exists that the promises cannot rest on, and
// ErrImpossible when the server will never create what is missing.
func Ensure(ctx context.Context, js jetstream.JetStream, o Options, logger zerolog.Logger) error {
	// What was looked at is not looked at again: while leaders are lost, a worker
	// that began anew each time would not get through.
	steps, done := o.steps(js, logger), 0
	return Until(ctx, logger, func(ctx context.Context) error {
		for done < len(steps) {
			err := steps[done](ctx)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				done = 0 // one that was there is gone
			}
			if err != nil {
				return err
			}
			done++
		}
		return nil
	})
}

// Until tries a look-up again until it succeeds, ctx ends, or its error wraps
// ErrDiffers or ErrImpossible. What is looked up right after Ensure needs it too: a
// leader may be lost in between.
func Until(ctx context.Context, logger zerolog.Logger, look func(context.Context) error) error {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(ensureRetryMin),
		backoff.WithMaxInterval(ensureRetryMax),
		// Waiting for NATS has no end but ctx's.
		backoff.WithMaxElapsedTime(0),
	)
	return backoff.RetryNotify(func() error {
		err := look(ctx)
		if errors.Is(err, ErrDiffers) || errors.Is(err, ErrImpossible) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx), func(err error, next time.Duration) {
		logger.Warn().Err(err).Dur("retry_in", next).Msg(logevent.TopologyWaited)
	})
}

// Check reports whether every stream, durable and bucket is there, without
// creating or waiting. It is what readiness asks.
func Check(ctx context.Context, js jetstream.JetStream) error {
	for _, name := range streamNames {
		if _, err := js.Stream(ctx, name); err != nil {
			return fmt.Errorf("look up stream %s: %w", name, err)
		}
	}
	for _, d := range durables {
		if _, err := js.Consumer(ctx, d.stream, d.name); err != nil {
			return fmt.Errorf("look up durable %s of stream %s: %w", d.name, d.stream, err)
		}
	}
	return nil
}

func ensure(ctx context.Context, js jetstream.JetStream, o Options, logger zerolog.Logger) error {
	for _, step := range o.steps(js, logger) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// steps are the look-ups, in their order: a durable needs its stream.
func (o Options) steps(js jetstream.JetStream, logger zerolog.Logger) []func(context.Context) error {
	var steps []func(context.Context) error
	for _, want := range []jetstream.StreamConfig{o.events(), o.pipe(), o.ledger(), o.parked(), o.detected()} {
		steps = append(steps, func(ctx context.Context) error { return ensureStream(ctx, js, want, logger) })
	}
	for _, want := range []jetstream.KeyValueConfig{o.jobs(), o.tokens()} {
		steps = append(steps, func(ctx context.Context) error { return ensureBucket(ctx, js, want) })
	}
	for _, durable := range []struct {
		stream string
		want   jetstream.ConsumerConfig
	}{{subject.StreamEvents, o.fetcher()}, {subject.StreamDetected, o.gateway()}, {subject.StreamPipe, o.consumer()}} {
		steps = append(steps, func(ctx context.Context) error {
			return ensureDurable(ctx, js, durable.stream, durable.want)
		})
	}
	return steps
}

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, logger zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// Another process created it at the same moment: look again.
			stream, err = js.Stream(ctx, want.Name)
		} else if err == nil {
			logger.Info().Str("stream", want.Name).Int("replicas", want.Replicas).Msg(logevent.StreamCreated)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("look up or create stream %s: %w", want.Name, impossible(err))
	}
	have := stream.CachedInfo().Config
	if d := streamDifferences(have, want); len(d) > 0 {
		return fmt.Errorf("stream %s %w: %s; mend it with `nats stream edit %s`, or move it away and let it be created anew; nothing was changed",
			want.Name, ErrDiffers, strings.Join(d, "; "), want.Name)
	}
	if want.MaxAge != 0 && (have.MaxAge == 0 || have.MaxAge > want.MaxAge) {
		logger.Warn().Str("stream", want.Name).Dur("has", have.MaxAge).Dur("wants", want.MaxAge).Msg(logevent.LedgerKeptLonger)
	}
	return nil
}

// Answers of the server that no wait mends.
const (
	replicasNotSupported jetstream.ErrorCode = 10074 // more than one, and no cluster
	subjectsOverlap      jetstream.ErrorCode = 10065 // with a stream that is not ours
)

// impossible marks such answers.
func impossible(err error) error {
	var apiErr *jetstream.APIError
	if errors.As(err, &apiErr) && (apiErr.ErrorCode == replicasNotSupported || apiErr.ErrorCode == subjectsOverlap) {
		return fmt.Errorf("%w: %w", ErrImpossible, err)
	}
	return err
}

// streamDifferences lists the differences that a promise rests on, each as
// "field is X, must be Y (why)".
func streamDifferences(have, want jetstream.StreamConfig) []string {
	var d []string
	differ := func(field string, have, must any, why string) {
		d = append(d, fmt.Sprintf("%s is %v, must be %v (%s)", field, have, must, why))
	}
	if have.Retention != want.Retention {
		differ("retention", have.Retention, want.Retention, "decides what an ack removes")
	}
	if have.Storage != want.Storage {
		differ("storage", have.Storage, want.Storage, "memory does not survive a restart")
	}
	if have.Discard != want.Discard {
		differ("discard", have.Discard, want.Discard, "a full stream must not forget")
	}
	for _, s := range want.Subjects {
		if !slices.Contains(have.Subjects, s) {
			differ("subjects", have.Subjects, "with "+s, "messages would find no stream")
		}
	}
	if have.Replicas < want.Replicas {
		differ("replicas", have.Replicas, fmt.Sprintf("at least %d", want.Replicas), "LEDGERLINE_REPLICAS asks for it")
	}
	if have.MaxAge != 0 && (want.MaxAge == 0 || have.MaxAge < want.MaxAge) {
		differ("max_age", have.MaxAge, want.MaxAge, "messages would expire before they are done with")
	}
	if have.MaxMsgsPerSubject != want.MaxMsgsPerSubject && (have.MaxMsgsPerSubject > 0 || want.MaxMsgsPerSubject > 0) {
		differ("max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, "a subject's history would be cut")
	}
	if want.AllowAtomicPublish && !have.AllowAtomicPublish {
		differ("allow_atomic", false, true, "items are stored in atomic batches")
	}
	if have.AllowDirect {
		differ("allow_direct", true, false, "the last message must be read from the leader")
	}
	if want.MaxConsumers > 0 && have.MaxConsumers > 0 && have.MaxConsumers < want.MaxConsumers {
		differ("max_consumers", have.MaxConsumers, want.MaxConsumers, "each claimed job has a consumer")
	}
	if have.Sealed {
		differ("sealed", true, false, "nothing could be stored")
	}
	if have.NoAck {
		differ("no_ack", true, false, "a publish would not be confirmed")
	}
	if have.PersistMode == jetstream.AsyncPersistMode {
		differ("persist_mode", "async", "default", "a publish would be confirmed before it is stored")
	}
	if have.ConsumerLimits.InactiveThreshold != 0 {
		differ("consumer_limits.inactive_threshold", have.ConsumerLimits.InactiveThreshold, 0, "positions would be deleted")
	}
	if have.DenyPurge && want.Name != subject.StreamLedger {
		differ("deny_purge", true, false, "what is done with could not be removed")
	}
	if have.DenyDelete && want.Name == subject.StreamPipe {
		differ("deny_delete", true, false, "the manifest of an ended run could not be removed")
	}
	if have.Mirror != nil || len(have.Sources) > 0 {
		differ("mirror or sources", "set", "unset", "messages must come from us alone")
	}
	if have.RePublish != nil || have.SubjectTransform != nil {
		differ("republish or subject transform", "set", "unset", "subjects would not be the ones that were written")
	}
	return d
}

func ensureBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) error {
	ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	name := "KV_" + want.Bucket
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateKeyValue(ctx, want)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrBucketExists) {
			return fmt.Errorf("create bucket %s: %w", want.Bucket, impossible(err))
		}
		stream, err = js.Stream(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("look up bucket %s: %w", want.Bucket, err)
	}
	if d := bucketDifferences(stream.CachedInfo().Config, want); len(d) > 0 {
		return fmt.Errorf("bucket %s %w: %s; mend it with `nats stream edit %s`, or move it away and let it be created anew; nothing was changed",
			want.Bucket, ErrDiffers, strings.Join(d, "; "), name)
	}
	return nil
}

func bucketDifferences(have jetstream.StreamConfig, want jetstream.KeyValueConfig) (d []string) {
	if have.Storage != want.Storage {
		d = append(d, "storage is memory, must be file (what an operator asked for, and a rotated token, must survive a restart)")
	}
	if have.Replicas < want.Replicas {
		d = append(d, fmt.Sprintf("replicas are %d, must be at least %d (LEDGERLINE_REPLICAS asks for it)", have.Replicas, want.Replicas))
	}
	if have.MaxAge != 0 {
		d = append(d, fmt.Sprintf("max_age is %s, must be 0 (a running job's state, or a token, would expire)", have.MaxAge))
	}
	if want.LimitMarkerTTL > 0 && !have.AllowMsgTTL {
		d = append(d, "allow_msg_ttl is false, must be true (the entries of ended jobs expire one by one)")
	}
	return d
}

// serverMetadata begins the keys that the server itself writes.
const serverMetadata = "_nats."

func ensureDurable(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) error {
	ctx, cancel := context.WithTimeout(ctx, js.Options().DefaultTimeout)
	defer cancel()
	consumer, err := js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = js.CreateConsumer(ctx, stream, want)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return fmt.Errorf("create durable %s of %s: %w", want.Durable, stream, err)
		}
		consumer, err = js.Consumer(ctx, stream, want.Durable)
	}
	if err != nil {
		return fmt.Errorf("look up durable %s of %s: %w", want.Durable, stream, err)
	}
	have := consumer.CachedInfo().Config
	if d := durableDifferences(have, want); len(d) > 0 {
		return fmt.Errorf("durable %s of stream %s %w: %s; nothing was changed", want.Durable, stream, ErrDiffers, strings.Join(d, "; "))
	}
	// The lease and the bound are settings, no promise rests on their value: the
	// one who starts last sets them.
	// What the durable is for is told to whoever lists consumers, beside what an
	// operator wrote there.
	described := true
	for key, value := range want.Metadata {
		described = described && have.Metadata[key] == value
	}
	for key, value := range have.Metadata {
		if _, ours := want.Metadata[key]; !ours && !strings.HasPrefix(key, serverMetadata) {
			want.Metadata[key] = value
		}
	}
	if have.AckWait != want.AckWait || have.MaxAckPending != want.MaxAckPending || !described {
		if _, err := js.UpdateConsumer(ctx, stream, want); err != nil {
			return fmt.Errorf("update durable %s of %s: %w", want.Durable, stream, err)
		}
	}
	return nil
}

func durableDifferences(have, want jetstream.ConsumerConfig) (d []string) {
	if have.AckPolicy != want.AckPolicy {
		d = append(d, fmt.Sprintf("ack policy is %v, must be %v (an unfinished message must come again)", have.AckPolicy, want.AckPolicy))
	}
	if have.FilterSubject != want.FilterSubject {
		d = append(d, fmt.Sprintf("filter is %q, must be %q", have.FilterSubject, want.FilterSubject))
	}
	if have.MaxDeliver != want.MaxDeliver {
		d = append(d, fmt.Sprintf("max_deliver is %d, must be %d (a message would be given up in silence)", have.MaxDeliver, want.MaxDeliver))
	}
	if have.DeliverSubject != "" {
		d = append(d, "it pushes, must be pulled")
	}
	if have.InactiveThreshold != 0 {
		d = append(d, fmt.Sprintf("inactive_threshold is %s, must be 0 (its position would be deleted)", have.InactiveThreshold))
	}
	if have.DeliverPolicy != want.DeliverPolicy {
		d = append(d, fmt.Sprintf("deliver policy is %v, must be %v (messages would be left out)", have.DeliverPolicy, want.DeliverPolicy))
	}
	if have.HeadersOnly {
		d = append(d, "headers_only is true, must be false (messages would come empty)")
	}
	if have.MemoryStorage {
		d = append(d, "mem_storage is true, must be false (its position does not survive a restart)")
	}
	if len(have.BackOff) > 0 {
		d = append(d, fmt.Sprintf("backoff is %v, must be unset (the lease would not be the same at each delivery)", have.BackOff))
	}
	if have.PriorityPolicy != jetstream.PriorityPolicyNone {
		d = append(d, "priority_policy is set, must be unset (workers pull without a group)")
	}
	return d
}
