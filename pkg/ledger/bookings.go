package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/cas"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// maxBookingsPerMessage bounds one folded message: a thousand bookings with
	// the longest ids a sink may give stay below the usual max_payload of 1 MiB.
	maxBookingsPerMessage = 1_000
	// maxFoldBytes cuts a message earlier where external ids and links are long.
	maxFoldBytes = 512 << 10
	// maxHeldBookings bounds what a tenure keeps in memory for its fold, to some
	// megabytes. A larger job takes so long that reading it once more does not show.
	maxHeldBookings = 10_000
	// maxFoldTries bounds folding against a zombie that folds the same job: it has
	// at most one fold left in it.
	maxFoldTries = 3
)

// Past is what a claimed job must know of the time before its claim.
type Past struct {
	// Bookings are the entries of the job that were booked before, by an earlier
	// job of the company or an earlier run of this one.
	Bookings map[uuid.UUID]*ledgerlinev1.Booking
	// Attempts are the sends so far of entries that this job sent and that are not
	// settled in this run: the one in doubt, and those of earlier runs.
	Attempts map[uuid.UUID]uint32
	// Settled are this run's settlements in order of position.
	Settled []*ledgerlinev1.Settlement
}

// Past reads it, whole: a booking that was left out would be sent again. Where a
// stored message is damaged the error is history.ErrDamaged. wanted tells which entries belong to the job, so that memory
// holds those alone whatever the company booked before.
func (t *Tenure) Past(ctx context.Context, wanted func(uuid.UUID) bool) (*Past, error) {
	past := &Past{Bookings: map[uuid.UUID]*ledgerlinev1.Booking{}, Attempts: map[uuid.UUID]uint32{}}
	if t.FirstTurn {
		return past, nil
	}
	// The claim is on the last of these subjects: a reader that has seen it has
	// seen everything that was stored before it.
	subjects := []string{subject.BookedOf(t.request.Company), t.subject}
	err := history.ReadWhole(ctx, t.ledger.stream, subjects, t.claimed, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if msg.Subject() == t.subject {
			return past.addRecord(msg, meta, t.request.Run, wanted)
		}
		return eachBooking(msg, func(id uuid.UUID, b *ledgerlinev1.Booking) {
			if wanted(id) {
				past.remember(id, b)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read what company %s booked before: %w", t.request.Company, err)
	}
	return past, nil
}

func (p *Past) addRecord(msg jetstream.Msg, meta *jetstream.MsgMetadata, run uint32, wanted func(uuid.UUID) bool) error {
	entry, err := Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
	if err != nil {
		return err
	}
	for _, s := range entry.Record.GetSettled() {
		id, err := uuid.FromBytes(s.GetEntryId())
		if err != nil {
			return fmt.Errorf("record %d on %s: %w", entry.Sequence, msg.Subject(), err)
		}
		if entry.Record.GetRun() == run {
			p.Settled = append(p.Settled, s)
			delete(p.Attempts, id)
			continue
		}
		if b := bookingOf(s); b != nil && wanted(id) {
			p.remember(id, b)
		}
	}
	if send := entry.Record.GetSend(); send != nil {
		id, err := uuid.FromBytes(send.GetEntryId())
		if err != nil {
			return fmt.Errorf("record %d on %s: %w", entry.Sequence, msg.Subject(), err)
		}
		p.Attempts[id] = max(p.Attempts[id], send.GetAttempt())
	}
	return nil
}

// eachBooking reads a folded message.
func eachBooking(msg jetstream.Msg, visit func(uuid.UUID, *ledgerlinev1.Booking)) error {
	folded := new(ledgerlinev1.Bookings)
	if err := proto.Unmarshal(msg.Data(), folded); err != nil {
		return fmt.Errorf("bookings on %s are unreadable: %w", msg.Subject(), err)
	}
	if folded.GetMinReader() > Version {
		return fmt.Errorf("bookings on %s: %w", msg.Subject(), ErrNewer)
	}
	for _, b := range folded.GetBookings() {
		id, err := uuid.FromBytes(b.GetEntryId())
		if err != nil {
			return fmt.Errorf("bookings on %s: %w", msg.Subject(), err)
		}
		visit(id, b)
	}
	return nil
}

// remember keeps the first booking of an entry: later ones only repeat it.
func (p *Past) remember(id uuid.UUID, b *ledgerlinev1.Booking) {
	if _, known := p.Bookings[id]; !known {
		p.Bookings[id] = b
	}
}

// bookingOf is the booking that a settlement tells of, or nil.
func bookingOf(s *ledgerlinev1.Settlement) *ledgerlinev1.Booking {
	if s.GetOutcome() != ledgerlinev1.Outcome_OUTCOME_BOOKED {
		return nil
	}
	return &ledgerlinev1.Booking{EntryId: s.GetEntryId(), ExternalId: s.GetExternalId(), ExternalUrl: s.GetExternalUrl(), At: s.GetAt()}
}

// Settled reads what this run has settled, in order of position.
func (t *Tenure) Settled(ctx context.Context) ([]*ledgerlinev1.Settlement, error) {
	var settled []*ledgerlinev1.Settlement
	err := history.Read(ctx, t.ledger.stream, []string{t.subject}, t.sequence, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		entry, err := Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err == nil && entry.Record.GetRun() == t.request.Run {
			settled = append(settled, entry.Record.GetSettled()...)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what job %s has settled: %w", t.request.Job, err)
	}
	return settled, nil
}

// Fold stores the bookings of the job where the company's next job looks them up.
// It must be called before the record that ends the run, which is what lets the
// next job begin. What is folded already is left out: a worker that died between
// its fold and its end, and a zombie that folds what it knows, may each have
// folded a part.
func (t *Tenure) Fold(ctx context.Context) error {
	bookings, err := t.bookings(ctx)
	if err == nil && len(bookings) > 0 {
		for range maxFoldTries {
			if err = t.storeFold(ctx, bookings); !errors.Is(err, cas.ErrConflict) {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("fold the bookings of job %s: %w", t.request.Job, err)
	}
	return nil
}

// bookings are all of the job, of every run, in order. They are read where this
// tenure was not the first, or has made too many to hold.
func (t *Tenure) bookings(ctx context.Context) (all []*ledgerlinev1.Booking, err error) {
	if t.Unknown && !t.many {
		return t.booked, nil
	}
	err = history.Read(ctx, t.ledger.stream, []string{t.subject}, t.sequence, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		entry, err := Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err != nil {
			return err
		}
		for _, s := range entry.Record.GetSettled() {
			if b := bookingOf(s); b != nil {
				all = append(all, b)
			}
		}
		return nil
	})
	return all, err
}

// storeFold appends those of the bookings that are not folded yet, message by
// message: what a crash leaves out, the next fold adds.
func (t *Tenure) storeFold(ctx context.Context, bookings []*ledgerlinev1.Booking) error {
	subj := subject.Booked(t.request.Company, t.request.Job)
	folded := map[uuid.UUID]struct{}{}
	last, err := t.ledger.lastMessage(ctx, subj)
	var expected uint64
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return err
	default:
		expected = last.Sequence
		err := history.Read(ctx, t.ledger.stream, []string{subj}, expected, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
			return eachBooking(msg, func(id uuid.UUID, _ *ledgerlinev1.Booking) { folded[id] = struct{}{} })
		})
		if err != nil {
			return err
		}
	}
	var missing []*ledgerlinev1.Booking
	for _, b := range bookings {
		id, err := uuid.FromBytes(b.GetEntryId())
		if err != nil {
			return err
		}
		if _, done := folded[id]; !done {
			missing = append(missing, b)
		}
	}
	start, size := 0, 0
	for i, b := range missing {
		size += proto.Size(b)
		if i+1 < len(missing) && i-start+1 < maxBookingsPerMessage && size < maxFoldBytes {
			continue
		}
		data, err := proto.Marshal(&ledgerlinev1.Bookings{Run: t.request.Run, Bookings: missing[start : i+1]})
		if err != nil {
			return fmt.Errorf("encode bookings: %w", err)
		}
		if expected, err = cas.Put(ctx, t.ledger.js, t.ledger.stream, subj, data, expected); err != nil {
			return err
		}
		start, size = i+1, 0
	}
	return nil
}
