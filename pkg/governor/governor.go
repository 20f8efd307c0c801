package governor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// KVTimeout bounds what one slice may wait for NATS, on a server that has other
	// things to do.
	KVTimeout = time.Second
	// AloneFor is how long a process goes by its own rate after NATS did not
	// answer, so that a NATS in trouble costs one KVTimeout in that time.
	AloneFor = 3 * time.Second
	// maxRateBytes bounds the entry of one credential.
	maxRateBytes = 4 << 10
)

// Options are what a governor needs.
type Options struct {
	JetStream jetstream.JetStream
	// Replicas of the bucket, where it is to be made; 1 or more.
	Replicas int
	// Rate is the process's own, in requests per second over all credentials, with
	// a burst of one second's worth. It is also where the shared budget begins.
	Rate   float64
	Logger zerolog.Logger
}

// Governor holds the process's own rate. It runs nothing while no request waits,
// and needs no closing.
type Governor struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValueConfig
	rate   float64
	own    *rate.Limiter
	logger zerolog.Logger

	mu       sync.Mutex
	kv       jetstream.KeyValue
	limiters map[string]*Limiter
}

// New checks the options; nothing is contacted yet.
func New(o Options) (*Governor, error) {
	var faults []error
	if o.JetStream == nil {
		faults = append(faults, errors.New("governor: JetStream is missing"))
	}
	if o.Replicas < 1 {
		faults = append(faults, errors.New("governor: Replicas must be 1 or more"))
	}
	if !(o.Rate > 0) || math.IsInf(o.Rate, 0) {
		faults = append(faults, errors.New("governor: Rate must be above 0"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Governor{
		js: o.JetStream, rate: o.Rate, logger: o.Logger,
		bucket: jetstream.KeyValueConfig{
			Bucket:      subject.BucketRate,
			Description: "How many requests each credential for Pleo may still send, over all replicas",
			// Ten small writes a second, on which nothing rests: not worth waiting
			// for a disk.
			Storage:      jetstream.MemoryStorage,
			Replicas:     o.Replicas,
			History:      1,
			MaxValueSize: maxRateBytes,
		},
		own:      rate.NewLimiter(rate.Limit(o.Rate), int(math.Ceil(o.Rate))),
		limiters: map[string]*Limiter{},
	}, nil
}

// Limiter is the limiter of one credential, by its key in the bucket
// (subject.CredentialKey): the same one each time.
func (g *Governor) Limiter(key string) *Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.limiters[key]
	if l == nil {
		l = &Limiter{
			governor: g, key: key, nudged: make(chan struct{}, 1),
			logger: g.logger.With().Str("credential", key).Logger(),
			budget: budget{Rate: clampRate(g.rate)},
		}
		g.limiters[key] = l
	}
	return l
}

// open gives the bucket, which is made where it is missing: a server that starts
// anew without a cluster has forgotten what it held in memory.
func (g *Governor) open(ctx context.Context) (jetstream.KeyValue, error) {
	g.mu.Lock()
	kv := g.kv
	g.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := g.js.KeyValue(ctx, g.bucket.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = g.js.CreateKeyValue(ctx, g.bucket)
		if errors.Is(err, jetstream.ErrBucketExists) {
			// Another process made it in this moment.
			kv, err = g.js.KeyValue(ctx, g.bucket.Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", g.bucket.Bucket, err)
	}
	g.mu.Lock()
	g.kv = kv
	g.mu.Unlock()
	return kv, nil
}

// forget makes the next call look for the bucket again.
func (g *Governor) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kv = nil
}
