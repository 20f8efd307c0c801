package ledger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Whatever reads stored records refuses those of a newer version, and says which
// ones cannot be read.
func TestRefusesRecordsItCannotRead(t *testing.T) {
	t.Parallel()
	newer := uint32(ledger.Version + 1)
	for _, c := range []struct {
		name    string
		subject func(company, job uuid.UUID) string
		newer   proto.Message
		read    func(*bench, uuid.UUID, uuid.UUID) error
	}{
		{
			"last", subject.Ledger, &ledgerlinev1.LedgerRecord{MinReader: newer},
			func(b *bench, company, job uuid.UUID) error { _, err := b.ledger.Last(b.ctx, company, job); return err },
		},
		{
			"last of job", subject.Ledger, &ledgerlinev1.LedgerRecord{MinReader: newer},
			func(b *bench, _, job uuid.UUID) error { _, err := b.ledger.LastOfJob(b.ctx, job); return err },
		},
		{
			"claim", subject.Ledger, &ledgerlinev1.LedgerRecord{MinReader: newer},
			func(b *bench, company, job uuid.UUID) error {
				_, err := b.try(request(company, job, 1))
				return err
			},
		},
		{
			"claim after a turn", func(company, _ uuid.UUID) string { return subject.Turn(company) }, &ledgerlinev1.Turn{MinReader: newer},
			func(b *bench, company, job uuid.UUID) error {
				_, err := b.try(request(company, job, 1))
				return err
			},
		},
		{
			"past of bookings", subject.Booked, &ledgerlinev1.Bookings{MinReader: newer},
			func(b *bench, company, _ uuid.UUID) error {
				_, err := b.claim(request(company, uuid.New(), 1)).Past(b.ctx, all)
				return err
			},
		},
		{
			"fold on bookings", subject.Booked, &ledgerlinev1.Bookings{MinReader: newer},
			func(b *bench, company, job uuid.UUID) error {
				tenure := b.claim(request(company, job, 1))
				b.book(tenure, entry(0))
				return tenure.Fold(b.ctx)
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			company, job := uuid.New(), uuid.New()
			b.store(c.subject(company, job), c.newer)
			if err := c.read(b, company, job); !errors.Is(err, ledger.ErrNewer) {
				t.Errorf("newer: %v", err)
			}
			company, job = uuid.New(), uuid.New()
			b.storeRaw(c.subject(company, job), []byte("no record"))
			if err := c.read(b, company, job); err == nil || !strings.Contains(err.Error(), company.String()) || !strings.Contains(err.Error(), "unreadable") {
				t.Errorf("corrupt: %v", err)
			}
		})
	}
}

func TestAJobWithoutRecordsHasNoLast(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company, job := uuid.New(), uuid.New()
	if last, err := b.ledger.Last(b.ctx, company, job); last != nil || err != nil {
		t.Errorf("%v: %v", last, err)
	}
	b.claim(request(company, job, 1))
	last, err := b.ledger.LastOfJob(b.ctx, job)
	if err != nil || last.Company != company || last.Job != job || last.Record.GetClaim() == nil {
		t.Errorf("%v: %v", last, err)
	}
}

func TestDecodeKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	data, err := proto.Marshal(&ledgerlinev1.LedgerRecord{Run: 1})
	if err != nil {
		t.Fatal(err)
	}
	data = protowire.AppendTag(data, 1_000, protowire.BytesType)
	data = protowire.AppendString(data, "of a later version")
	entry, err := ledger.Decode(subject.Ledger(uuid.New(), uuid.New()), data, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := proto.Marshal(entry.Record)
	if err != nil || !strings.Contains(string(again), "of a later version") {
		t.Errorf("%q: %v", again, err)
	}
	for _, subj := range []string{"", "ledgerline.ledger.a.b", "ledgerline.booked." + uuid.NewString() + "." + uuid.NewString()} {
		if _, err := ledger.Decode(subj, data, 1); err == nil {
			t.Errorf("%q is taken for a ledger subject", subj)
		}
	}
}
