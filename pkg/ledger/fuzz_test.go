package ledger

import (
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

type stored struct {
	jetstream.Msg
	subject string
	data    []byte
}

func (s stored) Subject() string { return s.subject }
func (s stored) Data() []byte    { return s.data }

func seeds(f *testing.F, messages ...proto.Message) {
	f.Helper()
	for _, m := range messages {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// A fold is read whole or not at all: half of it would let an entry be sent again.
func FuzzBookings(f *testing.F) {
	id := uuid.UUID{1}
	seeds(f,
		&ledgerlinev1.Bookings{},
		&ledgerlinev1.Bookings{Bookings: []*ledgerlinev1.Booking{{EntryId: id[:], ExternalId: "JE-1"}, {EntryId: id[:]}}},
		&ledgerlinev1.Bookings{Bookings: []*ledgerlinev1.Booking{{EntryId: id[:4]}}},
		&ledgerlinev1.Bookings{MinReader: Version + 1},
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		visited := 0
		err := eachBooking(stored{data: data}, func(uuid.UUID, *ledgerlinev1.Booking) { visited++ })
		folded := new(ledgerlinev1.Bookings)
		unread := proto.Unmarshal(data, folded)
		if err == nil && (unread != nil || folded.GetMinReader() > Version || visited != len(folded.GetBookings())) {
			t.Errorf("%d of %d bookings are read of version %d: %v", visited, len(folded.GetBookings()), folded.GetMinReader(), unread)
		}
	})
}

func FuzzTurn(f *testing.F) {
	seeds(f,
		&ledgerlinev1.Turn{}, &ledgerlinev1.Turn{JobId: uuid.UUID{1}.String()}, &ledgerlinev1.Turn{JobId: "job"},
		&ledgerlinev1.Turn{JobId: uuid.UUID{1}.String(), MinReader: Version + 1},
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		holder, err := holderOf(uuid.UUID{2}, data)
		if err != nil && holder != uuid.Nil {
			t.Errorf("holder %s beside %v", holder, err)
		}
	})
}

// What was settled must be what is recalled, whatever the record holds.
func FuzzPast(f *testing.F) {
	id, company, job := uuid.UUID{1}, uuid.UUID{2}, uuid.UUID{3}
	seeds(f,
		&ledgerlinev1.LedgerRecord{},
		&ledgerlinev1.LedgerRecord{Run: 1, Send: &ledgerlinev1.Send{EntryId: id[:], Position: 1, Attempt: 2}},
		&ledgerlinev1.LedgerRecord{Run: 1, Settled: []*ledgerlinev1.Settlement{{EntryId: id[:], Position: 1, Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED}}},
		&ledgerlinev1.LedgerRecord{Run: 2, Settled: []*ledgerlinev1.Settlement{{EntryId: id[:], Position: 1, Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED}}},
		&ledgerlinev1.LedgerRecord{Run: 1, Settled: []*ledgerlinev1.Settlement{{EntryId: id[:2]}}},
	)
	const run = 1
	f.Fuzz(func(t *testing.T, data []byte) {
		past := &Past{Bookings: map[uuid.UUID]*ledgerlinev1.Booking{}, Attempts: map[uuid.UUID]uint32{}}
		msg := stored{subject: "ledgerline.ledger." + company.String() + "." + job.String(), data: data}
		meta := &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: 1}}
		if past.addRecord(msg, meta, run, func(uuid.UUID) bool { return true }) != nil {
			return
		}
		record := new(ledgerlinev1.LedgerRecord)
		if err := proto.Unmarshal(data, record); err != nil {
			t.Fatalf("read and unreadable: %v", err)
		}
		if n := len(record.GetSettled()); record.GetRun() == run && len(past.Settled) != n {
			t.Errorf("%d of %d settlements are recalled", len(past.Settled), n)
		}
		for _, s := range record.GetSettled() {
			if record.GetRun() == run || s.GetOutcome() != ledgerlinev1.Outcome_OUTCOME_BOOKED {
				continue
			}
			if past.Bookings[uuid.UUID(s.GetEntryId())] == nil {
				t.Errorf("a booking of run %d is forgotten in run %d", record.GetRun(), run)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	id, next := uuid.UUID{15: 1}, uuid.UUID{15: 2}
	for _, record := range []*ledgerlinev1.LedgerRecord{
		{},
		{Run: 1, Epoch: 1, Worker: "w", Claim: &ledgerlinev1.Claim{Attempt: "a", Total: 2}},
		{Run: 1, Epoch: 2, Position: 1, Settled: []*ledgerlinev1.Settlement{{Position: 1, EntryId: id[:], Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED}}, Send: &ledgerlinev1.Send{Position: 2, EntryId: next[:], Attempt: 1}},
		{Run: 2, End: &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED, Reason: "r"}},
		{MinReader: Version + 1},
	} {
		data, err := proto.Marshal(record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(subject.Ledger(uuid.UUID{1}, uuid.UUID{2}), data)
	}
	f.Add("ledgerline.ledger.a.b.>", []byte("no record"))
	f.Fuzz(func(t *testing.T, subj string, data []byte) {
		entry, err := Decode(subj, data, 1)
		if (entry == nil) == (err == nil) {
			t.Fatalf("%v and %v", entry, err)
		}
		if err != nil {
			return
		}
		if entry.Record.GetMinReader() > Version {
			t.Errorf("a newer record is read")
		}
		again, err := proto.Marshal(entry.Record)
		if err != nil {
			t.Fatal(err)
		}
		same, err := Decode(subj, again, 1)
		if err != nil || !proto.Equal(same.Record, entry.Record) {
			t.Errorf("the record changes when it is written again: %v", err)
		}
	})
}
