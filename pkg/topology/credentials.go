package topology

import (
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

// maxTokenBytes bounds one OAuth pair with its state; tokens have a few KB.
const maxTokenBytes = 64 << 10

func (o Options) tokens() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      subject.BucketTokens,
		Description: "The present OAuth pair of each credential for Pleo: restrict who may read it",
		// A pair that is lost cannot be had again: the one before it is void.
		Storage:  jetstream.FileStorage,
		Replicas: o.Replicas,
		// Nothing of a former pair is kept.
		History:      1,
		MaxValueSize: maxTokenBytes,
	}
}
