package topology

import (
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// maxDetected is one wish for each of a hundred thousand companies. A full
	// queue refuses the webhook, which is sent again, and the poll finds the job.
	maxDetected = 100_000
	// maxDetectedOut is how many may be in hand or handed back with a delay: all
	// of them, while the sink is not ready.
	maxDetectedOut = maxDetected
)

func (o Options) detected() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        subject.StreamDetected,
		Description: "Companies and jobs that a gateway is to look at",
		Subjects:    []string{subject.AllDetected},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    o.Replicas,
		MaxMsgs:     maxDetected,
		// A detection says "look", not what is to be seen: the newest of a company
		// stands for all before it.
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		MaxAge:            0,
		// Nothing here carries a message id: a wish that comes again after it was
		// settled is a wish.
		Duplicates:  noiseWindow,
		AllowDirect: false,
	}
}

func (o Options) gateway() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       subject.DurableGateway,
		Description:   "Detections waiting for or held by a gateway",
		FilterSubject: subject.AllDetected,
		AckPolicy:     jetstream.AckExplicitPolicy,
		// The lease: a detection whose gateway died is handed out again.
		AckWait: o.Lease,
		// A detection ends when it was looked at, never by a count of deliveries.
		MaxDeliver:    -1,
		MaxAckPending: maxDetectedOut,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		Metadata:      map[string]string{subject.MetadataRole: subject.RoleDetected},
	}
}
