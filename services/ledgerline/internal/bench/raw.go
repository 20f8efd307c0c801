package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/ledgerline/ledgerline/pkg/cas"
)

const (
	// diskBytes is about what one ledger record takes on the disk.
	diskBytes = 150
	// manyPublishers is how many publish at the same time in the raw measurement of
	// what synced writes that wait together reach.
	manyPublishers = 64
	// pullWait bounds one raw pull; everything that is pulled is there already.
	pullWait = 5 * time.Second
)

// measureDisk appends to a file in the store's own folder and syncs each time:
// what no store can beat that promises the same, one record at a time.
func (b *bench) measureDisk(_ context.Context, _ *testbed, found *findings) error {
	var rounds rates
	for range b.sizes.shown {
		took, err := syncedWrites(filepath.Join(b.dir, "synced"), b.sizes.writes)
		if err != nil {
			return err
		}
		rounds.add(b.sizes.writes, took)
	}
	found.raw(fmt.Sprintf("the disk: %d bytes appended and synced", diskBytes), rounds)
	return nil
}

func syncedWrites(path string, n int) (took time.Duration, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open the file: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	block := make([]byte, diskBytes)
	began := time.Now()
	for range n {
		if _, err := file.Write(block); err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		if err := file.Sync(); err != nil {
			return 0, fmt.Errorf("sync: %w", err)
		}
	}
	return time.Since(began), nil
}

// rawSubject is as long as the subjects of items and of ledger records.
func rawSubject() string { return "bench." + uuid.NewString() + "." + uuid.NewString() }

// publishRaw publishes n of the payloads in turn, each one after the other's
// acknowledgement. compare adds the expected last sequence, and so tells what the
// compare-and-set alone costs.
func publishRaw(ctx context.Context, js jetstream.JetStream, payloads [][]byte, n int, compare bool) (time.Duration, error) {
	subj := rawSubject()
	var last uint64
	began := time.Now()
	for i := range n {
		var options []jetstream.PublishOpt
		if compare {
			options = append(options, jetstream.WithExpectLastSequencePerSubject(last))
		}
		ack, err := js.Publish(ctx, subj, payloads[i%len(payloads)], options...)
		if err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
		last = ack.Sequence
	}
	return time.Since(began), nil
}

// publishTogether publishes n payloads from many publishers at once, each of which
// does what a sink's time is in between.
func publishTogether(ctx context.Context, js jetstream.JetStream, payloads [][]byte, publishers, n int, between time.Duration) (time.Duration, error) {
	var (
		group sync.WaitGroup
		once  sync.Once
		fault error
	)
	began := time.Now()
	for range publishers {
		group.Go(func() {
			subj := rawSubject()
			for i := range n / publishers {
				pass(ctx, between)
				if _, err := js.Publish(ctx, subj, payloads[i%len(payloads)]); err != nil {
					once.Do(func() { fault = fmt.Errorf("publish: %w", err) })
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(began), fault
}

// publishBatches publishes the payloads in chained atomic batches on one subject.
// The messages are made before the clock starts: it is the limit, not our way.
func publishBatches(ctx context.Context, js jetstream.JetStream, payloads [][]byte) (subj string, took time.Duration, err error) {
	subj = "bench.items." + uuid.NewString() + "." + nuid.Next()
	msgs := make([]*nats.Msg, len(payloads))
	for i, p := range payloads {
		msgs[i] = &nats.Msg{Subject: subj, Data: p, Header: nats.Header{}}
	}
	var last uint64
	began := time.Now()
	for start := 0; start < len(msgs); start += cas.MaxBatch {
		batch := msgs[start:min(start+cas.MaxBatch, len(msgs))]
		batch[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
		ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch)
		if err != nil {
			return "", 0, fmt.Errorf("publish a batch: %w", err)
		}
		last = ack.Sequence
	}
	return subj, time.Since(began), nil
}

// measureFetch pulls and acks what the staging left in the raw stream: one
// consumer, acks not waited for.
func (b *bench) measureFetch(ctx context.Context, bed *testbed, found *findings) error {
	payloads := make([][]byte, b.sizes.staged)
	for i := range payloads {
		payloads[i] = make([]byte, 40) // about an item's
	}
	subj, _, err := publishBatches(ctx, bed.js, payloads)
	if err != nil {
		return err
	}
	for _, pull := range []int{64, 256, 1000} {
		var rounds rates
		for range b.sizes.shown {
			took, err := fetchAndAck(ctx, bed.js, subj, len(payloads), pull)
			if err != nil {
				return err
			}
			rounds.add(len(payloads), took)
		}
		found.raw(fmt.Sprintf("fetch + ack, one consumer, pulls of %d", pull), rounds)
	}
	return nil
}

func fetchAndAck(ctx context.Context, js jetstream.JetStream, subj string, n, pull int) (took time.Duration, err error) {
	stream, err := js.Stream(ctx, rawStream)
	if err != nil {
		return 0, fmt.Errorf("open stream %s: %w", rawStream, err)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "raw-" + nuid.Next(), FilterSubject: subj, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2 * pull,
	})
	if err != nil {
		return 0, fmt.Errorf("create a consumer: %w", err)
	}
	defer func() {
		if deleteErr := stream.DeleteConsumer(ctx, consumer.CachedInfo().Name); err == nil {
			err = deleteErr
		}
	}()
	began := time.Now()
	for got := 0; got < n; {
		batch, err := consumer.Fetch(min(pull, n-got), jetstream.FetchMaxWait(pullWait))
		if err != nil {
			return 0, fmt.Errorf("fetch: %w", err)
		}
		before := got
		for msg := range batch.Messages() {
			got++
			if err := msg.Ack(); err != nil {
				return 0, fmt.Errorf("ack: %w", err)
			}
		}
		if got == before {
			return 0, fmt.Errorf("fetch: nothing came after %d of %d messages: %w", got, n, batch.Error())
		}
	}
	return time.Since(began), nil
}
