package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
)

const (
	// mostJobs is how many jobs the consumer may run at the same time.
	mostJobs = 500
	// slowSink is what a quick accounting system takes for one item.
	slowSink = 5 * time.Millisecond
)

// handler is a sink that takes a given time for each item and books it.
type handler struct {
	takes atomic.Int64 // nanoseconds
	// first and last are when the first item came and the last one went, in Unix
	// nanoseconds: the lane alone, without the job's beginning and end.
	first, last atomic.Int64
	// spent and items tell what the handler's time really was: on a busy system it
	// is longer, and that is no cost of ours.
	spent, items atomic.Int64
	// lastBegun is when the last of the jobs had its first item, in Unix nanoseconds.
	lastBegun atomic.Int64
}

// Deliver books the item after the handler's time.
func (h *handler) Deliver(ctx context.Context, d sink.Delivery) sink.Answer {
	came := time.Now()
	h.first.CompareAndSwap(0, came.UnixNano())
	if d.Position == 1 && d.Attempt == 1 {
		h.lastBegun.Store(came.UnixNano())
	}
	pass(ctx, time.Duration(h.takes.Load()))
	h.spent.Add(int64(time.Since(came)))
	h.items.Add(1)
	if d.Position == d.Total {
		h.last.Store(time.Now().UnixNano())
	}
	return sink.Answer{Outcome: sink.Booked, ExternalID: "E-" + d.AccountingEntryID}
}

// Ready is always nil.
func (h *handler) Ready(context.Context) error { return nil }

// Close has nothing to give back.
func (h *handler) Close() error { return nil }

// gate holds claims back until every job of a round is in the consumer's hands,
// so that the clock runs for the jobs' work and not for their arrival.
type gate struct {
	ledger  *ledger.Ledger
	arrived chan struct{}
	pass    chan struct{}
}

// Claim is the ledger's, once the round lets it pass.
func (g *gate) Claim(ctx context.Context, r ledger.ClaimRequest) (*ledger.Tenure, error) {
	select {
	case g.arrived <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-g.pass:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return g.ledger.Claim(ctx, r)
}

// stayOpen lets claims pass until the round has ended.
func (g *gate) stayOpen(ended <-chan struct{}) {
	for {
		select {
		case <-g.arrived:
		case <-ended:
			return
		}
		select {
		case g.pass <- struct{}{}:
		case <-ended:
			return
		}
	}
}

// processor is the real consumer behind a gate, and a fetcher that gives it jobs.
type processor struct {
	bed     *testbed
	gate    *gate
	handler *handler
	began   time.Time // of the last round
	stops   []func() error
}

func (b *testbed) processor(ctx context.Context, payload consumer.Payload, report bool) (_ *processor, err error) {
	p := &processor{bed: b, handler: &handler{}, gate: &gate{arrived: make(chan struct{}), pass: make(chan struct{})}}
	// By entry: no payload is read for the order, which is not measured here.
	stopFetcher, err := b.fetcher(ctx, fetcher.OrderEntry, warnings())
	if err != nil {
		return nil, err
	}
	conn, err := b.connect()
	if err != nil {
		return nil, err
	}
	config := consumer.Config{
		Conn: conn, Sink: p.handler, Logger: warnings(), Topology: b.topology,
		// As long as a host's name, a process number and a tag are.
		Worker: "consumer-host-12345-a1B2c3D4", ConcurrentJobs: mostJobs,
		Payload: payload, OnFailure: consumer.OnFailureContinue, Report: report, APITimeout: topology.APITimeout(lease),
		Recorder: func(l *ledger.Ledger) consumer.Claimer { p.gate.ledger = l; return p.gate },
	}
	if report || payload == consumer.PayloadFull {
		if config.Pleo, err = b.client(); err != nil {
			return nil, err
		}
	}
	c, err := consumer.New(config)
	if err != nil {
		return nil, err
	}
	stopConsumer := runs(ctx, c.Run)
	b.stops = append(b.stops, stopConsumer)
	p.stops = []func() error{stopConsumer, stopFetcher}
	return p, nil
}

// stop stops both at once: each waits out the pull that it has open.
func (p *processor) stop() error {
	ended := make(chan error, len(p.stops))
	for _, stop := range p.stops {
		go func() { ended <- stop() }()
	}
	var err error
	for range p.stops {
		err = errors.Join(err, <-ended)
	}
	return err
}

// round processes jobs of so many items each and returns how long all of it took,
// from the claim of the first to the end of the last, and the jobs.
func (p *processor) round(ctx context.Context, jobs, items int, takes time.Duration) (whole, lane time.Duration, ids []uuid.UUID, err error) {
	if ids, err = p.bed.seal(ctx, jobs, items); err != nil {
		return 0, 0, nil, err
	}
	p.handler.takes.Store(int64(takes))
	p.handler.first.Store(0)
	p.handler.spent.Store(0)
	p.handler.items.Store(0)
	for i := range jobs {
		select {
		case <-p.gate.arrived:
		case <-time.After(patience):
			return 0, 0, nil, fmt.Errorf("%d of %d jobs were claimed in %s", i, jobs, patience)
		case <-ctx.Done():
			return 0, 0, nil, context.Cause(ctx)
		}
	}
	p.began = time.Now()
	for range jobs {
		p.gate.pass <- struct{}{}
	}
	// A job that is handed back is claimed again, without a wait.
	ended := make(chan struct{})
	defer close(ended)
	go p.gate.stayOpen(ended)
	if err := p.bed.states.wait(ctx, ids, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED); err != nil {
		return 0, 0, nil, err
	}
	whole = time.Since(p.began)
	lane = time.Duration(p.handler.last.Load() - p.handler.first.Load())
	return whole, lane, ids, p.bed.tidy(ctx)
}

// measureProcessing runs jobs through the consumer. One job without handler time
// goes in turns with raw publishes of the very records that it writes.
func (b *bench) measureProcessing(ctx context.Context, bed *testbed, found *findings) error {
	p, err := bed.processor(ctx, consumer.PayloadNone, false)
	if err != nil {
		return err
	}
	_, _, ids, err := p.round(ctx, 1, b.sizes.writes, 0) // warms up, and shows what a record is
	if err != nil {
		return err
	}
	records, err := bed.records(ctx, ids[0])
	if err != nil {
		return err
	}
	if err := b.compareOneJob(ctx, bed, p, records, found); err != nil {
		return err
	}
	for _, kind := range []struct {
		jobs, items int
		takes       time.Duration
	}{
		{10, b.sizes.tenJobs, 0},
		{b.sizes.many, b.sizes.manyItems, 0},
		{1, b.sizes.slow, time.Millisecond},
		{10, b.sizes.slow, time.Millisecond},
		{b.sizes.many, b.sizes.manyItems, time.Millisecond},
		{1, b.sizes.slow, slowSink},
		{b.sizes.many, b.sizes.manyItems, slowSink},
	} {
		var rounds rates
		for range b.sizes.shown {
			whole, _, _, err := p.round(ctx, kind.jobs, kind.items, kind.takes)
			if err != nil {
				return err
			}
			rounds.add(kind.jobs*kind.items, whole)
		}
		found.ours(processingOf(kind.jobs, kind.items, kind.takes), rounds, rounds.sharesOfIdeal(kind.jobs, kind.takes), ideal, 0)
	}
	if err := b.compareTenJobs(ctx, bed, p, records, found); err != nil {
		return err
	}
	return p.stop()
}

// ideal is what jobs reach whose items cost the sink's time and nothing else.
const ideal = "jobs / sink's time"

func (r rates) sharesOfIdeal(jobs int, takes time.Duration) rates {
	var shares rates
	for _, rate := range r {
		if takes > 0 {
			shares = append(shares, rate*takes.Seconds()/float64(jobs))
		}
	}
	return shares
}

func processingOf(jobs, items int, takes time.Duration) string {
	to := "no-op sink"
	if takes > 0 {
		to = "sink of " + takes.String()
	}
	if jobs == 1 {
		return fmt.Sprintf("processing: 1 job of %d items, %s", items, to)
	}
	return fmt.Sprintf("processing: %d jobs of %d items, %s", jobs, items, to)
}

// compareTenJobs runs ten jobs with the slow sink, in turns with ten raw
// publishers that wait as long between their publishes: on a disk that syncs
// slowly, nobody reaches the ideal.
func (b *bench) compareTenJobs(ctx context.Context, bed *testbed, p *processor, records [][]byte, found *findings) error {
	const jobs = 10
	n := jobs * b.sizes.slow
	var raw, ours, possible rates
	for range b.sizes.rounds {
		took, err := publishTogether(ctx, bed.js, records, jobs, n, slowSink)
		if err != nil {
			return err
		}
		raw.add(n, took)
		whole, _, _, err := p.round(ctx, jobs, b.sizes.slow, slowSink)
		if err != nil {
			return err
		}
		ours.add(n, whole)
		// n items at the mean of what the sink took, ten at a time.
		possible.add(n, time.Duration(p.handler.spent.Load()*int64(n)/p.handler.items.Load()/jobs))
	}
	found.raw(fmt.Sprintf("synced publish of a ledger record, %d publishers, %s between their publishes", jobs, slowSink), raw)
	found.ours(processingOf(jobs, b.sizes.slow, slowSink), ours, ours.sharesOfIdeal(jobs, slowSink), ideal, askedIdeal)
	found.ours("the same, by the time that the sink really took", ours, ours.sharesOf(possible), "jobs / that time", 0)
	found.ours("the same, beside raw publishes at that pace", ours, ours.sharesOf(raw), "those", 0)
	return nil
}

func (b *bench) compareOneJob(ctx context.Context, bed *testbed, p *processor, records [][]byte, found *findings) error {
	n := b.sizes.writes
	var raw, compared, together, ours, lane rates
	err := b.profiled(".processing", func() error {
		for range b.sizes.rounds {
			took, err := publishRaw(ctx, bed.js, records, n, false)
			if err != nil {
				return err
			}
			raw.add(n, took)
			whole, laneAlone, _, err := p.round(ctx, 1, n, 0)
			if err != nil {
				return err
			}
			ours.add(n, whole)
			lane.add(n-1, laneAlone)
			if took, err = publishRaw(ctx, bed.js, records, n, true); err != nil {
				return err
			}
			compared.add(n, took)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for range b.sizes.shown {
		took, err := publishTogether(ctx, bed.js, records, manyPublishers, 4*n, 0)
		if err != nil {
			return err
		}
		together.add(4*n/manyPublishers*manyPublishers, took)
	}
	found.raw(fmt.Sprintf("synced publish of a ledger record (%d bytes), 1 publisher", len(records[0])), raw)
	found.raw("the same, each expecting the sequence before it, 1 publisher", compared)
	found.raw(fmt.Sprintf("synced publish of a ledger record, %d publishers", manyPublishers), together)
	const ofRaw = "the raw synced publish"
	found.ours(fmt.Sprintf("processing: 1 job of %d items, no-op sink, claim to end", n), ours, ours.sharesOf(raw), ofRaw, askedProcessing)
	found.ours("the same, from the first item to the last", lane, lane.sharesOf(raw), ofRaw, 0)
	return nil
}

// records are the ledger records of a job that settle an item, as they are stored.
func (b *testbed) records(ctx context.Context, job uuid.UUID) ([][]byte, error) {
	var records [][]byte
	err := history.Snapshot(ctx, b.ledger, []string{subject.LedgerOfJob(job)}, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		entry, err := ledger.Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err == nil && len(entry.Record.GetSettled()) > 0 && entry.Record.GetSend() != nil {
			records = append(records, msg.Data())
		}
		return err
	})
	if err == nil && len(records) == 0 {
		err = errors.New("it has none that settles an item")
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger of job %s: %w", job, err)
	}
	return records, nil
}

// measureReported runs jobs with all that a usual installation does besides.
func (b *bench) measureReported(ctx context.Context, bed *testbed, found *findings) error {
	p, err := bed.processor(ctx, consumer.PayloadFull, true)
	if err != nil {
		return err
	}
	var rounds rates
	for range b.sizes.shown {
		whole, _, _, err := p.round(ctx, 10, b.sizes.tenJobs, 0)
		if err != nil {
			return err
		}
		rounds.add(10*b.sizes.tenJobs, whole)
	}
	found.ours(fmt.Sprintf("processing: 10 jobs of %d items, no-op sink, payloads read and results reported", b.sizes.tenJobs), rounds, nil, "", 0)
	return p.stop()
}
