package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerline/ledgerline/pkg/cas"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// ClaimRequest asks for a job whose manifest is in hand.
type ClaimRequest struct {
	Company, Job uuid.UUID
	// Run of the manifest, from 1.
	Run uint32
	// Worker names the claiming process.
	Worker string
	// EpochFloor is the highest epoch known from elsewhere, so that the epoch
	// goes on rising when the ledger was lost; 0 = none.
	EpochFloor uint64
	// What the manifest says: the name of the drain, the number of items and the
	// digest of their ids.
	Attempt string
	Total   uint32
	Digest  []byte
	// Stored is when the manifest was stored, zero for not known: a ledger that is
	// younger and knows nothing of the job has forgotten it.
	Stored time.Time
	// Last is the job's last record as it stood when the manifest came, nil for none:
	// the claim is compared with it. Whoever claims with a newer look than that fences
	// a worker that has claimed meanwhile and is alive.
	Last *Entry
	// Aside takes the job without its company's turn, which another job may have:
	// for a tenure that ends the job and sends nothing.
	Aside bool
}

// Tenure is one claimed job. Only one goroutine may use it at a time.
type Tenure struct {
	ledger  *Ledger
	request ClaimRequest
	subject string

	// Epoch of this claim.
	Epoch uint64
	// Resumed is true when another claim had begun this run.
	Resumed bool
	// FirstTurn is true when the company has no job and no booking here yet.
	FirstTurn bool
	// Unknown is true when the ledger held nothing of the job before this claim.
	Unknown bool
	// Forgotten is true when the ledger has lost what was done of this run: it knew
	// nothing of a job that had been claimed, or is younger than the manifest.
	Forgotten bool
	// Position is the highest settled position of this run.
	Position uint32

	claimed  uint64 // sequence of the claim
	sequence uint64 // sequence of the last record
	hash     []byte
	// booked are the bookings of this tenure where the job is Unknown and they are few
	// enough: all that the job's fold must have. Else it reads them.
	booked []*ledgerlinev1.Booking
	many   bool
}

// maxTurnTries bounds the compare-and-set on a company's turn against other
// workers that claim the same job; one of them gets through each time.
const maxTurnTries = 3

// Claim takes the job and the company's turn. It returns a *CompanyBusyError
// while another job of the company has the turn, ErrEnded when r.Last says that
// nothing is left to do in this run, and ErrFenced when the job's ledger is not as
// r.Last says any more: another worker has written to it, or it was lost.
func (l *Ledger) Claim(ctx context.Context, r ClaimRequest) (*Tenure, error) {
	last := r.Last
	t := &Tenure{ledger: l, request: r, subject: subject.Ledger(r.Company, r.Job), Epoch: r.EpochFloor + 1, Unknown: last == nil}
	if last != nil {
		run := last.Record.GetRun()
		switch {
		case run > r.Run:
			return nil, fmt.Errorf("claim run %d of job %s: the ledger is at run %d: %w", r.Run, r.Job, run, ErrSuperseded)
		case run == r.Run && last.Record.GetEnd() != nil:
			return nil, fmt.Errorf("claim run %d of job %s: %w", r.Run, r.Job, ErrEnded)
		}
		t.Epoch = max(t.Epoch, last.Record.GetEpoch()+1)
		t.sequence, t.hash = last.Sequence, last.Hash
		if run == r.Run {
			t.Resumed = true
			t.Position = last.Record.GetPosition()
			t.Forgotten = last.Record.GetClaim().GetForgotten()
		}
	} else {
		var err error
		if t.Forgotten, err = l.forgotten(ctx, r); err != nil {
			return nil, fmt.Errorf("claim job %s: %w", r.Job, err)
		}
	}
	if r.Aside {
		if _, err := t.claim(ctx); err != nil {
			return nil, err
		}
		return t, nil
	}
	turn, err := l.freeTurn(ctx, r.Company, r.Job)
	if err != nil {
		return nil, fmt.Errorf("claim job %s: %w", r.Job, err)
	}
	if t.FirstTurn, err = l.first(ctx, r.Company, last, turn); err != nil {
		return nil, fmt.Errorf("claim job %s: %w", r.Job, err)
	}
	// The job before the turn: whoever finds the turn at this job then finds it
	// claimed too, not ended as an earlier run may have left it.
	claim, err := t.claim(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.takeTurn(ctx, r.Company, r.Job, turn); err != nil {
		var busy *CompanyBusyError
		if errors.As(err, &busy) {
			busy.Claimed = claim
		}
		return nil, fmt.Errorf("claim job %s: %w", r.Job, err)
	}
	return t, nil
}

// forgotten tells whether a ledger that knows nothing of the job has lost it.
func (l *Ledger) forgotten(ctx context.Context, r ClaimRequest) (bool, error) {
	if r.EpochFloor > 0 || r.Stored.IsZero() {
		return r.EpochFloor > 0, nil
	}
	born, err := l.Born(ctx)
	return err == nil && r.Stored.Before(born), err
}

// claim writes the record that takes the job.
func (t *Tenure) claim(ctx context.Context) (*Entry, error) {
	r := t.request
	// In the record, since this tenure may end before it says so by its end.
	claim := &ledgerlinev1.LedgerRecord{Claim: &ledgerlinev1.Claim{
		Attempt: r.Attempt, Total: r.Total, Digest: r.Digest, Forgotten: t.Forgotten,
	}}
	if err := t.Append(ctx, claim); err != nil {
		return nil, fmt.Errorf("claim job %s: %w", r.Job, err)
	}
	t.claimed = t.sequence
	return &Entry{Company: r.Company, Job: r.Job, Sequence: t.sequence, Record: claim, Hash: t.hash}, nil
}

// first tells whether the company can have no bookings here. A turn alone may
// have expired before the bookings that were made in it.
func (l *Ledger) first(ctx context.Context, company uuid.UUID, last *Entry, turn uint64) (bool, error) {
	if last != nil || turn != 0 {
		return false, nil
	}
	_, err := l.lastMessage(ctx, subject.BookedOf(company))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for bookings of company %s: %w", company, err)
	}
	return false, nil
}

// TurnFree is nil where a claim would get the company's turn for the job, and a
// *CompanyBusyError while another job of the company has it. It is a look only:
// the claim decides.
func (l *Ledger) TurnFree(ctx context.Context, company, job uuid.UUID) error {
	_, err := l.freeTurn(ctx, company, job)
	return err
}

// HasTurn tells whether the job has the company's turn and has not ended: no other
// job gets it before, also an older one.
func (l *Ledger) HasTurn(ctx context.Context, company, job uuid.UUID) (bool, error) {
	holder, sequence, err := l.turn(ctx, company)
	if err != nil || sequence == 0 || holder != job {
		return false, err
	}
	return l.holds(ctx, company, holder)
}

// freeTurn is the sequence of the company's turn, 0 for none, where the job may
// take it: it is the job's already, or the job that has it has ended.
func (l *Ledger) freeTurn(ctx context.Context, company, job uuid.UUID) (uint64, error) {
	holder, sequence, err := l.turn(ctx, company)
	if err != nil || sequence == 0 || holder == job {
		return sequence, err
	}
	held, err := l.holds(ctx, company, holder)
	if err != nil {
		return 0, err
	}
	if held {
		return 0, &CompanyBusyError{Company: company, Holder: holder}
	}
	return sequence, nil
}

// turn is the job that took the company's turn last, and where that stands; 0 for
// none.
func (l *Ledger) turn(ctx context.Context, company uuid.UUID) (holder uuid.UUID, sequence uint64, err error) {
	msg, err := l.lastMessage(ctx, subject.Turn(company))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return uuid.Nil, 0, nil
	}
	if err != nil {
		return uuid.Nil, 0, fmt.Errorf("read the turn of company %s: %w", company, err)
	}
	holder, err = holderOf(company, msg.Data)
	return holder, msg.Sequence, err
}

// holds tells whether the job that took the turn last still has it.
func (l *Ledger) holds(ctx context.Context, company, holder uuid.UUID) (bool, error) {
	last, err := l.Last(ctx, company, holder)
	return err == nil && (last == nil || !Final(last.Record.GetEnd().GetPhase())), err
}

// holderOf is the job that a stored turn names.
func holderOf(company uuid.UUID, data []byte) (uuid.UUID, error) {
	turn := new(ledgerlinev1.Turn)
	if err := proto.Unmarshal(data, turn); err != nil {
		return uuid.Nil, fmt.Errorf("the turn of company %s is unreadable: %w", company, err)
	}
	if turn.GetMinReader() > Version {
		return uuid.Nil, fmt.Errorf("the turn of company %s: %w", company, ErrNewer)
	}
	holder, err := subject.ParseID(turn.GetJobId())
	if err != nil {
		return uuid.Nil, fmt.Errorf("the turn of company %s: %w", company, err)
	}
	return holder, nil
}

// takeTurn writes the turn after the one at sequence expected, also where it is
// the job's already: a worker of another job that has seen an earlier run of this
// one ended then fails its own compare-and-set. So two jobs of a company never
// run at once.
func (l *Ledger) takeTurn(ctx context.Context, company, job uuid.UUID, expected uint64) error {
	for range maxTurnTries {
		data, err := proto.Marshal(&ledgerlinev1.Turn{JobId: job.String(), At: timestamppb.Now()})
		if err != nil {
			return fmt.Errorf("encode the turn of company %s: %w", company, err)
		}
		_, err = cas.Put(ctx, l.js, l.stream, subject.Turn(company), data, expected)
		if err == nil {
			return nil
		}
		if !errors.Is(err, cas.ErrConflict) {
			return fmt.Errorf("take the turn of company %s: %w", company, err)
		}
		turn, err := l.lastMessage(ctx, subject.Turn(company))
		if err != nil {
			return fmt.Errorf("read the turn of company %s: %w", company, err)
		}
		// Another job had it since, and may have booked since: only a new claim
		// may look whether it has ended.
		holder, err := holderOf(company, turn.Data)
		if err != nil {
			return err
		}
		if holder != job {
			return &CompanyBusyError{Company: company, Holder: holder}
		}
		expected = turn.Sequence
	}
	return fmt.Errorf("take the turn of company %s: %w", company, ErrFenced)
}

// Append stores the tenure's next record: run, epoch, worker, time, hash and
// position are filled in, the rest is the caller's. ErrFenced means that another
// worker has claimed the job. After any other error the outcome may be unknown:
// the tenure is to be given up, and the next claim reads where the job stands.
func (t *Tenure) Append(ctx context.Context, record *ledgerlinev1.LedgerRecord) error {
	if t.request.Aside && (len(record.GetSettled()) > 0 || record.GetSend() != nil) {
		return fmt.Errorf("record a step of job %s: %w", t.request.Job, ErrAside)
	}
	position := t.Position
	for _, s := range record.GetSettled() {
		if s.GetPosition() != position+1 {
			return fmt.Errorf("settle position %d of job %s after %d: positions go up one by one", s.GetPosition(), t.request.Job, position)
		}
		position++
	}
	record.Run = t.request.Run
	record.Epoch = t.Epoch
	record.Worker = t.request.Worker
	record.At = timestamppb.Now()
	record.PreviousHash = t.hash
	record.Position = position
	data, err := proto.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode a ledger record of job %s: %w", t.request.Job, err)
	}
	sequence, err := cas.Put(ctx, t.ledger.js, t.ledger.stream, t.subject, data, t.sequence)
	if errors.Is(err, cas.ErrConflict) {
		return fmt.Errorf("record position %d of job %s in epoch %d: %w", position, t.request.Job, t.Epoch, ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("record position %d of job %s: %w", position, t.request.Job, err)
	}
	t.sequence, t.hash, t.Position = sequence, hashOf(data), position
	t.hold(record.GetSettled())
	return nil
}

// hold keeps what the fold will need.
func (t *Tenure) hold(settled []*ledgerlinev1.Settlement) {
	if !t.Unknown || t.many {
		return
	}
	for _, s := range settled {
		b := bookingOf(s)
		if b == nil {
			continue
		}
		if len(t.booked) == maxHeldBookings {
			t.booked, t.many = nil, true
			return
		}
		// The caller's id may be a part of something larger, which is not kept.
		b.EntryId = bytes.Clone(b.GetEntryId())
		t.booked = append(t.booked, b)
	}
}
