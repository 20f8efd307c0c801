package topology

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Limits of the streams. They are far above what an installation holds at one
// time; they exist so that a fault upstream fills a bound and not a disk.
const (
	// maxEvents is ten events for each of ten thousand companies, and then some.
	// A full stream refuses the publisher, which keeps the event.
	maxEvents = 1_000_000
	// maxPipeMessages bounds the items that wait at one time; the drain of a
	// further job is refused and tried again.
	maxPipeMessages = 100_000_000
	// maxJobConsumers lifts the server's default of 1,000 consumers a stream:
	// one a claimed job.
	maxJobConsumers = 65_536
	// maxParked bounds what waits for a person.
	maxParked = 1_000_000
	// MaxClaimed is how many manifests may be out at workers at one time in the
	// installation, running or waiting for their company's turn.
	MaxClaimed = 10_000
	// maxClaimedReplicated is the same where each claimed job costs a replicated
	// consumer: about 2,000 replicated assets a cluster are the guide value of
	// the server's maintainers, so a quarter of that. Three servers on two cores bear
	// it (scripts/bench --cluster; docs/operations.md has the figures).
	maxClaimedReplicated = 500
	// maxDrains is how many job-started events may be out at fetchers.
	maxDrains = 1_024
	// noiseWindow drops a publisher's own repetition early; no promise rests on
	// it.
	noiseWindow = 2 * time.Minute
)

func (o Options) events() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        subject.StreamEvents,
		Description: "Job-started events, until a fetcher has sealed or parked the job",
		Subjects:    []string{subject.JobStarted},
		// An acked event is done with; nobody else reads it.
		Retention: jetstream.WorkQueuePolicy,
		Storage:   jetstream.FileStorage,
		Replicas:  o.Replicas,
		MaxMsgs:   maxEvents,
		// A full queue must refuse the newest, never forget the oldest.
		Discard:    jetstream.DiscardNew,
		MaxAge:     0,
		Duplicates: noiseWindow,
	}
}

func (o Options) pipe() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subject.StreamPipe,
		// Items and manifests in one log: a torn tail cannot keep a manifest and
		// lose its items.
		Description: "Items by job and drain, and the manifests that seal them",
		Subjects:    []string{subject.AllItems, subject.AllReady},
		// Not a work queue: a takeover resets the job's consumer and must find
		// the items again. Ended jobs are purged.
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           o.Replicas,
		MaxMsgs:            maxPipeMessages,
		Discard:            jetstream.DiscardNew,
		MaxAge:             0,
		MaxConsumers:       maxJobConsumers,
		Duplicates:         noiseWindow,
		AllowAtomicPublish: true,
		// The last message of a subject decides a lost reply, so it is read from
		// the leader, not from a replica that may lag.
		AllowDirect: false,
	}
}

func (o Options) ledger() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               subject.StreamLedger,
		Description:        "Each step of each item, the bookings of ended jobs, and each company's turn",
		Subjects:           []string{subject.AllLedger, subject.AllBooked, subject.AllTurns},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           o.Replicas,
		Discard:            jetstream.DiscardNew,
		MaxAge:             o.LedgerMaxAge,
		Duplicates:         noiseWindow,
		AllowAtomicPublish: true,
		AllowDirect:        false,
	}
}

func (o Options) parked() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        subject.StreamParked,
		Description: "What a person must look at",
		Subjects:    []string{subject.AllParked},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    o.Replicas,
		MaxMsgs:     maxParked,
		// The same thing parked again replaces itself.
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardOld,
		MaxAge:            0,
		Duplicates:        noiseWindow,
		AllowDirect:       false,
	}
}

func (o Options) jobs() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      subject.BucketJobs,
		Description: "Each job's state, worker and deadline, and what an operator asked for",
		Storage:     jetstream.FileStorage,
		Replicas:    o.Replicas,
		History:     1,
		// Lets the entry of an ended job expire by itself.
		LimitMarkerTTL: jobstate.KeepEnded,
	}
}

func (o Options) fetcher() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       subject.DurableFetcher,
		Description:   "Job-started events waiting for or held by a fetcher",
		FilterSubject: subject.JobStarted,
		AckPolicy:     jetstream.AckExplicitPolicy,
		// The lease: an event whose fetcher died is handed out again.
		AckWait: o.Lease,
		// An event ends sealed or parked, never by a count of deliveries.
		MaxDeliver:    -1,
		MaxAckPending: maxDrains,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		Metadata:      map[string]string{subject.MetadataRole: subject.RoleEvents},
	}
}

func (o Options) consumer() jetstream.ConsumerConfig {
	claimed := MaxClaimed
	if o.Replicas > 1 {
		claimed = maxClaimedReplicated
	}
	return jetstream.ConsumerConfig{
		Durable:       subject.DurableConsumer,
		Description:   "Sealed jobs waiting for or held by a consumer",
		FilterSubject: subject.AllReady,
		AckPolicy:     jetstream.AckExplicitPolicy,
		// The lease: a job whose worker died is handed out again.
		AckWait:       o.Lease,
		MaxDeliver:    -1,
		MaxAckPending: claimed,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		Metadata:      map[string]string{subject.MetadataRole: subject.RoleReady},
	}
}
