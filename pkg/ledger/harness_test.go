package ledger_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// limit ends a test that hangs.
const limit = 2 * time.Minute

const (
	completed = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	parked    = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
	draining  = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING
)

// bench is a ledger on a server of its own.
type bench struct {
	t      testing.TB
	ctx    context.Context
	js     jetstream.JetStream
	ledger *ledger.Ledger
}

func newBench(t testing.TB) *bench { return benchOn(t, natstest.Start(t).JetStream(t), 1) }

func benchOn(t testing.TB, js jetstream.JetStream, replicas int) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: replicas, Lease: time.Minute}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, ctx: ctx, js: js, ledger: l}
}

func request(company, job uuid.UUID, run uint32) ledger.ClaimRequest {
	return ledger.ClaimRequest{Company: company, Job: job, Run: run, Worker: uuid.NewString(), Attempt: "drain", Total: 100}
}

func (b *bench) claim(r ledger.ClaimRequest) *ledger.Tenure {
	b.t.Helper()
	tenure, err := b.try(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return tenure
}

// try claims by what the ledger says now.
func (b *bench) try(r ledger.ClaimRequest) (tenure *ledger.Tenure, err error) {
	if r.Last, err = b.ledger.Last(b.ctx, r.Company, r.Job); err != nil {
		return nil, err
	}
	return b.ledger.Claim(b.ctx, r)
}

func (b *bench) last(company, job uuid.UUID) *ledger.Entry {
	b.t.Helper()
	last, err := b.ledger.Last(b.ctx, company, job)
	if err != nil {
		b.t.Fatal(err)
	}
	return last
}

func (b *bench) append(t *ledger.Tenure, record *ledgerlinev1.LedgerRecord) {
	b.t.Helper()
	if err := t.Append(b.ctx, record); err != nil {
		b.t.Fatal(err)
	}
}

// book settles the next positions of the tenure as booked.
func (b *bench) book(t *ledger.Tenure, ids ...uuid.UUID) {
	b.t.Helper()
	b.append(t, settle(t, ledgerlinev1.Outcome_OUTCOME_BOOKED, ids...))
}

func settle(t *ledger.Tenure, outcome ledgerlinev1.Outcome, ids ...uuid.UUID) *ledgerlinev1.LedgerRecord {
	record := &ledgerlinev1.LedgerRecord{}
	for i, id := range ids {
		record.Settled = append(record.Settled, &ledgerlinev1.Settlement{
			Position: t.Position + uint32(i) + 1, EntryId: id[:], Outcome: outcome,
			ExternalId: "external " + id.String(), At: timestamppb.Now(),
		})
	}
	return record
}

func send(position uint32, id uuid.UUID, attempt uint32) *ledgerlinev1.Send {
	return &ledgerlinev1.Send{Position: position, EntryId: id[:], Attempt: attempt}
}

// end folds and ends the tenure's run.
func (b *bench) end(t *ledger.Tenure, phase ledgerlinev1.JobPhase) {
	b.t.Helper()
	if err := t.Fold(b.ctx); err != nil {
		b.t.Fatal(err)
	}
	b.append(t, ending(phase))
}

func ending(phase ledgerlinev1.JobPhase) *ledgerlinev1.LedgerRecord {
	return &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: phase}}
}

func (b *bench) past(t *ledger.Tenure, wanted func(uuid.UUID) bool) *ledger.Past {
	b.t.Helper()
	past, err := t.Past(b.ctx, wanted)
	if err != nil {
		b.t.Fatal(err)
	}
	return past
}

func all(uuid.UUID) bool { return true }

// store puts a message into the ledger stream past the ledger.
func (b *bench) store(subj string, message proto.Message) {
	b.t.Helper()
	data, err := proto.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	b.storeRaw(subj, data)
}

func (b *bench) storeRaw(subj string, data []byte) {
	b.t.Helper()
	if _, err := b.js.Publish(b.ctx, subj, data); err != nil {
		b.t.Fatal(err)
	}
}

// each visits what stands on a subject.
func (b *bench) each(subj string, visit func(jetstream.Msg, *jetstream.MsgMetadata)) {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx, subject.StreamLedger)
	if err != nil {
		b.t.Fatal(err)
	}
	// The leader knows the last one; the server that reads may be behind it.
	last, err := stream.GetLastMsgForSubject(b.ctx, subj)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return
	}
	if err != nil {
		b.t.Fatal(err)
	}
	err = history.Read(b.ctx, stream, []string{subj}, last.Sequence, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		visit(msg, meta)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// folded are the booked entries of a job as the next job finds them, by message.
func (b *bench) folded(company, job uuid.UUID) (messages [][]*ledgerlinev1.Booking) {
	b.t.Helper()
	b.each(subject.Booked(company, job), func(msg jetstream.Msg, _ *jetstream.MsgMetadata) {
		bookings := new(ledgerlinev1.Bookings)
		if err := proto.Unmarshal(msg.Data(), bookings); err != nil {
			b.t.Fatal(err)
		}
		messages = append(messages, bookings.GetBookings())
	})
	return messages
}

// records are a job's records, their chain of hashes proved.
func (b *bench) records(company, job uuid.UUID) (records []*ledgerlinev1.LedgerRecord) {
	b.t.Helper()
	var hash []byte
	b.each(subject.Ledger(company, job), func(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
		entry, err := ledger.Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err != nil {
			b.t.Fatal(err)
		}
		if string(entry.Record.GetPreviousHash()) != string(hash) {
			b.t.Errorf("record %d does not carry the hash of the one before", meta.Sequence.Stream)
		}
		sum := sha256.Sum256(msg.Data())
		hash = sum[:]
		records = append(records, entry.Record)
	})
	return records
}

// entry is the n-th entry of a test.
func entry(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func entries(from, to int) (ids []uuid.UUID) {
	for n := from; n < to; n++ {
		ids = append(ids, entry(n))
	}
	return ids
}

func (b *bench) purge(subj string) {
	b.t.Helper()
	stream, err := b.js.Stream(b.ctx, subject.StreamLedger)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := stream.Purge(b.ctx, jetstream.WithPurgeSubject(subj)); err != nil {
		b.t.Fatal(err)
	}
}
