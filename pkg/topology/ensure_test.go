package topology_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// limit ends a test that hangs.
const limit = time.Minute

const bucketStream = "KV_" + subject.BucketJobs

var (
	streams  = []string{subject.StreamEvents, subject.StreamPipe, subject.StreamLedger, subject.StreamParked, bucketStream}
	standard = topology.Options{Replicas: 1, Lease: 10 * time.Second}
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func ensure(t *testing.T, js jetstream.JetStream, o topology.Options) error {
	t.Helper()
	return topology.Ensure(within(t), js, o, zerolog.Nop())
}

func mustEnsure(t *testing.T, js jetstream.JetStream, o topology.Options) {
	t.Helper()
	if err := ensure(t, js, o); err != nil {
		t.Fatal(err)
	}
}

func config(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	stream, err := js.Stream(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config
}

func durable(t *testing.T, js jetstream.JetStream, stream, name string) jetstream.ConsumerConfig {
	t.Helper()
	consumer, err := js.Consumer(within(t), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo().Config
}

func TestCreatesWhatIsMissing(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	if err := topology.Check(within(t), js); err == nil {
		t.Error("an empty server is ready")
	}
	mustEnsure(t, js, standard)
	if err := topology.Check(within(t), js); err != nil {
		t.Error(err)
	}
	for _, name := range streams {
		if c := config(t, js, name); c.Storage != jetstream.FileStorage || c.Replicas != 1 || c.MaxAge != 0 {
			t.Errorf("%s is %+v", name, c)
		}
	}
	for stream, name := range map[string]string{subject.StreamEvents: subject.DurableFetcher, subject.StreamPipe: subject.DurableConsumer} {
		if c := durable(t, js, stream, name); c.AckWait != standard.Lease || c.MaxDeliver != -1 || c.AckPolicy != jetstream.AckExplicitPolicy {
			t.Errorf("%s is %+v", name, c)
		}
	}
	// Again, with everything there.
	mustEnsure(t, js, standard)
	// One of the durables is gone.
	if err := js.DeleteConsumer(within(t), subject.StreamPipe, subject.DurableConsumer); err != nil {
		t.Fatal(err)
	}
	if err := topology.Check(within(t), js); err == nil {
		t.Error("ready without the durable of the consumers")
	}
	mustEnsure(t, js, standard)
	if err := topology.Check(within(t), js); err != nil {
		t.Error(err)
	}
}

func TestManyCreateItAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options topology.Options
		url     func(*testing.T) string
	}{
		"one node":    {standard, func(t *testing.T) string { return natstest.Start(t).URL() }},
		"three nodes": {topology.Options{Replicas: 3, Lease: 10 * time.Second}, func(t *testing.T) string { return natstest.StartCluster(t).URL() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := c.url(t)
			const processes = 4
			results := make(chan error, processes)
			for range processes {
				js := natstest.JetStream(t, url)
				go func() { results <- ensure(t, js, c.options) }()
			}
			for range processes {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			js := natstest.JetStream(t, url)
			for _, name := range streams {
				if got := config(t, js, name).Replicas; got != c.options.Replicas {
					t.Errorf("%s has %d replicas", name, got)
				}
			}
		})
	}
}

// recreate replaces a stream of ours by a changed one, as somebody else might
// have made it.
func recreate(t *testing.T, js jetstream.JetStream, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	c := config(t, js, name)
	change(&c)
	if err := js.DeleteStream(within(t), name); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t), c); err != nil {
		t.Fatal(err)
	}
}

func TestAStreamThatDiffersIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field, stream string
		change        func(*jetstream.StreamConfig)
	}{
		{"retention", subject.StreamEvents, func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }},
		{"retention", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }},
		{"storage", subject.StreamLedger, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{"discard", subject.StreamLedger, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{"subjects", subject.StreamLedger, func(c *jetstream.StreamConfig) { c.Subjects = []string{subject.AllLedger, subject.AllBooked} }},
		{"max_age", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"max_msgs_per_subject", subject.StreamLedger, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }},
		{"max_msgs_per_subject", subject.StreamParked, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }},
		{"allow_atomic", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
		{"allow_direct", subject.StreamLedger, func(c *jetstream.StreamConfig) { c.AllowDirect = true }},
		{"max_consumers", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.MaxConsumers = 10 }},
		{"no_ack", subject.StreamParked, func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{"deny_purge", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
		{"persist_mode", subject.StreamParked, func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }},
		{"consumer_limits", subject.StreamPipe, func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Minute }},
		{"sources", subject.StreamLedger, func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}}
		}},
		{"republish", subject.StreamPipe, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}},
		{"subject transform", subject.StreamEvents, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "moved.>"}
		}},
		{"storage", bucketStream, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{"max_age", bucketStream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"allow_msg_ttl", bucketStream, func(c *jetstream.StreamConfig) { c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = false, 0 }},
	} {
		t.Run(c.field+" of "+c.stream, func(t *testing.T) {
			t.Parallel()
			js := natstest.Start(t).JetStream(t)
			mustEnsure(t, js, standard)
			recreate(t, js, c.stream, c.change)
			refused(t, js, standard, c.stream, c.field)
		})
	}
}

// refused wants an error that names the stream and the field, and nothing changed.
func refused(t *testing.T, js jetstream.JetStream, o topology.Options, stream string, fields ...string) {
	t.Helper()
	before := config(t, js, stream)
	err := ensure(t, js, o)
	if !errors.Is(err, topology.ErrDiffers) {
		t.Fatalf("%v", err)
	}
	for _, part := range append(fields, strings.TrimPrefix(stream, "KV_"), "nothing was changed") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if after := config(t, js, stream); !reflect.DeepEqual(before, after) {
		t.Errorf("%s was changed to %+v", stream, after)
	}
}

func TestSealedIsRefused(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	c := config(t, js, subject.StreamParked)
	c.Sealed = true
	if _, err := js.UpdateStream(within(t), c); err != nil {
		t.Fatal(err)
	}
	refused(t, js, standard, subject.StreamParked, "sealed")
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	recreate(t, js, subject.StreamLedger, func(c *jetstream.StreamConfig) {
		c.AllowDirect, c.MaxAge, c.Storage = true, time.Hour, jetstream.MemoryStorage
	})
	refused(t, js, topology.Options{Replicas: 3, Lease: time.Second, LedgerMaxAge: 2 * time.Hour}, subject.StreamEvents, "replicas is 1")
	refused(t, js, standard, subject.StreamLedger, "allow_direct", "max_age", "storage")
}

func TestWhatAnOperatorMadeLargerIsTaken(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t)
	js := natstest.JetStream(t, cluster.URL())
	replicated := topology.Options{Replicas: 3, Lease: 10 * time.Second}
	mustEnsure(t, js, replicated)
	for _, name := range streams {
		c := config(t, js, name)
		c.MaxMsgs, c.MaxBytes, c.Description = c.MaxMsgs*2, 1<<28, "an operator's own"
		if c.MaxMsgs < 0 {
			c.MaxMsgs = 1 << 40
		}
		if name != bucketStream {
			c.Subjects = append(c.Subjects, "extra."+name)
		}
		if _, err := js.UpdateStream(within(t), c); err != nil {
			t.Fatal(name, err)
		}
	}
	log := logtest.New(t)
	weaker := topology.Options{Replicas: 1, Lease: 10 * time.Second, LedgerMaxAge: 24 * time.Hour}
	if err := topology.Ensure(within(t), js, weaker, log.Logger()); err != nil {
		t.Fatal(err)
	}
	if line := log.Wait(logevent.LedgerKeptLonger); line["stream"] != subject.StreamLedger {
		t.Errorf("logged %v", line)
	}
	for _, name := range streams {
		if c := config(t, js, name); c.Replicas != 3 || c.MaxBytes != 1<<28 || c.Description != "an operator's own" {
			t.Errorf("%s was changed to %+v", name, c)
		}
	}
}

func TestADurableThatDiffersIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field  string
		change func(*jetstream.ConsumerConfig)
	}{
		{"ack policy", func(c *jetstream.ConsumerConfig) {
			c.AckPolicy, c.AckWait, c.MaxAckPending, c.MaxDeliver = jetstream.AckNonePolicy, 0, 0, -1
		}},
		{"filter", func(c *jetstream.ConsumerConfig) { c.FilterSubject = subject.AllItems }},
		{"max_deliver", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }},
		{"inactive_threshold", func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }},
		{"deliver policy", func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }},
		{"headers_only", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }},
		{"mem_storage", func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }},
		{"backoff", func(c *jetstream.ConsumerConfig) {
			c.BackOff, c.MaxDeliver = []time.Duration{10 * time.Second, time.Second}, -1
		}},
		{"priority_policy", func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"g"}
		}},
	} {
		t.Run(c.field, func(t *testing.T) {
			t.Parallel()
			js := natstest.Start(t).JetStream(t)
			mustEnsure(t, js, standard)
			changed := durable(t, js, subject.StreamPipe, subject.DurableConsumer)
			c.change(&changed)
			if err := js.DeleteConsumer(within(t), subject.StreamPipe, subject.DurableConsumer); err != nil {
				t.Fatal(err)
			}
			if _, err := js.CreateConsumer(within(t), subject.StreamPipe, changed); err != nil {
				t.Fatal(err)
			}
			before := durable(t, js, subject.StreamPipe, subject.DurableConsumer)
			err := ensure(t, js, standard)
			if !errors.Is(err, topology.ErrDiffers) || !strings.Contains(err.Error(), c.field) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%v", err)
			}
			if after := durable(t, js, subject.StreamPipe, subject.DurableConsumer); !reflect.DeepEqual(before, after) {
				t.Errorf("changed to %+v", after)
			}
		})
	}
}

func TestTheLeaseOfADurableFollowsTheSetting(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	mustEnsure(t, js, topology.Options{Replicas: 1, Lease: 42 * time.Second})
	for stream, name := range map[string]string{subject.StreamEvents: subject.DurableFetcher, subject.StreamPipe: subject.DurableConsumer} {
		if got := durable(t, js, stream, name).AckWait; got != 42*time.Second {
			t.Errorf("%s has a lease of %s", name, got)
		}
	}
}

func TestADurableSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	roles := map[string]string{
		subject.StreamEvents: subject.RoleEvents, subject.StreamPipe: subject.RoleReady, subject.StreamDetected: subject.RoleDetected,
	}
	names := map[string]string{
		subject.StreamEvents: subject.DurableFetcher, subject.StreamPipe: subject.DurableConsumer, subject.StreamDetected: subject.DurableGateway,
	}
	// One that was made before it said so, with a word of an operator's.
	plain := durable(t, js, subject.StreamPipe, subject.DurableConsumer)
	plain.Metadata = map[string]string{"team": "erp"}
	if _, err := js.UpdateConsumer(within(t), subject.StreamPipe, plain); err != nil {
		t.Fatal(err)
	}
	mustEnsure(t, js, standard)
	for stream, name := range names {
		if got := durable(t, js, stream, name).Metadata[subject.MetadataRole]; got != roles[stream] {
			t.Errorf("%s says that it is for %q, not for %q", name, got, roles[stream])
		}
	}
	if got := durable(t, js, subject.StreamPipe, subject.DurableConsumer).Metadata["team"]; got != "erp" {
		t.Errorf("an operator's own metadata has become %q", got)
	}
}

func TestWaitsUntilNATSIsBack(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	js := srv.JetStream(t)
	srv.Stop()
	log, done := logtest.New(t), make(chan error, 1)
	go func() { done <- topology.Ensure(within(t), js, standard, log.Logger()) }()
	log.Wait(logevent.TopologyWaited)
	srv.Restart(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := topology.Check(within(t), js); err != nil {
		t.Error(err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	js := srv.JetStream(t)
	srv.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	log, done := logtest.New(t), make(chan error, 1)
	go func() { done <- topology.Ensure(ctx, js, standard, log.Logger()) }()
	log.Wait(logevent.TopologyWaited)
	cancel()
	if err := <-done; err == nil {
		t.Error("created without a server")
	}
	srv.Restart(t)
}

func TestWhatCanNeverBeCreatedIsToldAtOnce(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	// Far less than a person waits, far more than it takes.
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 3, Lease: time.Second}, zerolog.Nop()); !errors.Is(err, topology.ErrImpossible) || !strings.Contains(err.Error(), subject.StreamEvents) {
		t.Errorf("three replicas on one node: %v", err)
	}
	if _, err := js.CreateStream(within(t), jetstream.StreamConfig{Name: "ALL", Subjects: []string{"ledgerline.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := topology.Ensure(ctx, js, standard, zerolog.Nop()); !errors.Is(err, topology.ErrImpossible) || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("a stream that takes everything: %v", err)
	}
	if names := slices.Collect(func(yield func(string) bool) {
		for name := range js.StreamNames(within(t)).Name() {
			if !yield(name) {
				return
			}
		}
	}); len(names) != 1 {
		t.Errorf("the streams are %v", names)
	}
}

// unanswering counts the look-ups of streams and, where it is told to, answers every
// second one only, as servers do of which one after another is lost.
type unanswering struct {
	jetstream.JetStream
	every bool
	looks atomic.Int64
}

func (u *unanswering) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if u.looks.Add(1)%2 == 1 && !u.every {
		return nil, context.DeadlineExceeded
	}
	return u.JetStream.Stream(ctx, name)
}

// A look-up that is not answered is tried again; those that were are not.
func TestWhatWasLookedAtIsNotLookedAtAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	answering, half := &unanswering{JetStream: js, every: true}, &unanswering{JetStream: js}
	mustEnsure(t, answering, standard)
	mustEnsure(t, half, standard)
	if n, want := half.looks.Load(), 2*answering.looks.Load(); n != want {
		t.Errorf("%d look-ups, want each of %d twice", n, want/2)
	}
}
