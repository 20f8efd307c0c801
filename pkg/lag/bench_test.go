package lag_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// bench is a server with the streams on it, and hands that do what fetchers and
// consumers do.
type bench struct {
	*testing.T
	ctx    context.Context
	js     jetstream.JetStream
	pipe   jetstream.Stream
	jobs   *jobstate.Store
	parked *parked.Store
	ledger *ledger.Ledger
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	b := &bench{T: t, ctx: ctx, js: natstest.Start(t).JetStream(t)}
	must(t, topology.Ensure(ctx, b.js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()))
	var err error
	b.pipe, err = b.js.Stream(ctx, subject.StreamPipe)
	must(t, err)
	b.jobs, err = jobstate.Open(ctx, b.js)
	must(t, err)
	b.parked, err = parked.Open(ctx, b.js)
	must(t, err)
	b.ledger, err = ledger.Open(ctx, b.js)
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// job is one sealed job.
type job struct {
	id, company uuid.UUID
	run, count  uint32
	attempt     string
}

// seal stores count items and their manifest.
func (b *bench) seal(count int, sealed time.Time) job {
	b.Helper()
	j := job{id: uuid.New(), company: uuid.New(), run: 1, count: uint32(count), attempt: "drain"}
	b.sealAgain(j, sealed)
	return j
}

func (b *bench) sealAgain(j job, sealed time.Time) {
	b.Helper()
	for range j.count {
		_, err := b.js.PublishAsync(subject.Items(j.id, j.attempt), nil)
		must(b, err)
	}
	select {
	case <-b.js.PublishAsyncComplete():
	case <-b.ctx.Done():
		b.Fatal(context.Cause(b.ctx))
	}
	data, err := proto.Marshal(&ledgerlinev1.Manifest{
		JobId: j.id.String(), CompanyId: j.company.String(), Run: j.run, Count: j.count, Attempt: j.attempt,
		SealedAt: timestamppb.New(sealed), Deadline: timestamppb.New(sealed.Add(time.Hour)),
	})
	must(b, err)
	_, err = b.js.Publish(b.ctx, subject.Ready(j.id), data)
	must(b, err)
	b.note(j, ledgerlinev1.JobPhase_JOB_PHASE_SEALED)
}

func (b *bench) note(j job, phase ledgerlinev1.JobPhase, change ...func(*ledgerlinev1.JobState)) {
	b.Helper()
	_, err := b.jobs.Update(b.ctx, j.id, func(s *ledgerlinev1.JobState) error {
		s.Phase, s.Run, s.CompanyId, s.Total = phase, j.run, j.company.String(), j.count
		for _, c := range change {
			c(s)
		}
		return nil
	})
	must(b, err)
}

// claim takes the job in the ledger and says so in the bucket.
func (b *bench) claim(j job) *ledger.Tenure {
	b.Helper()
	tenure, err := b.ledger.Claim(b.ctx, ledger.ClaimRequest{Company: j.company, Job: j.id, Run: j.run, Worker: "w", Total: j.count})
	must(b, err)
	b.note(j, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE)
	return tenure
}

// serve makes the job's consumer.
func (b *bench) serve(j job) jetstream.Consumer {
	b.Helper()
	c, err := b.pipe.CreateOrUpdateConsumer(b.ctx, jetstream.ConsumerConfig{
		Durable: subject.DurableJob(j.id), FilterSubject: subject.Items(j.id, j.attempt),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxAckPending: 256, MemoryStorage: true,
		Metadata: subject.JobMetadata(j.id, j.company),
	})
	must(b, err)
	return c
}

// ack takes taken items, and acks the first acked of them.
func (b *bench) ack(c jetstream.Consumer, taken, acked int) {
	b.Helper()
	batch, err := c.Fetch(taken, jetstream.FetchMaxWait(30*time.Second))
	must(b, err)
	n := 0
	for msg := range batch.Messages() {
		if n++; n <= acked {
			must(b, msg.DoubleAck(b.ctx))
		}
	}
	must(b, batch.Error())
	if n != taken {
		b.Fatalf("%d items came, not %d", n, taken)
	}
}

// settle records n more positions.
func (b *bench) settle(t *ledger.Tenure, n int) {
	b.Helper()
	record := &ledgerlinev1.LedgerRecord{}
	for i := range n {
		id := uuid.New()
		record.Settled = append(record.Settled, &ledgerlinev1.Settlement{
			Position: t.Position + uint32(i) + 1, EntryId: id[:], Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED,
		})
	}
	must(b, t.Append(b.ctx, record))
}

// read is what a fresh reader tells: nothing of it is kept from before.
func (b *bench) read() *lag.Snapshot {
	b.Helper()
	r, err := lag.Open(b.ctx, b.js)
	must(b, err)
	s, err := r.Snapshot(b.ctx)
	must(b, err)
	return s
}

// expect compares the sums.
func expect(t testing.TB, what string, s *lag.Snapshot, waiting, active int, items uint64) {
	t.Helper()
	if s.Waiting != waiting || s.Active != active || s.Items != items || len(s.Jobs) != waiting+active {
		t.Errorf("%s: %s; want %d waiting, %d active, %d items", what, tell(s), waiting, active, items)
	}
}

func tell(s *lag.Snapshot) string {
	text := fmt.Sprintf("%d waiting, %d active, %d items, %d parked, %d events parked:", s.Waiting, s.Active, s.Items, s.Parked, s.ParkedEvents)
	for _, j := range s.Jobs {
		text += fmt.Sprintf(" [%s run %d active %v lag %d of %d]", j.ID, j.Run, j.Active, j.Lag, j.Total)
	}
	return text
}
