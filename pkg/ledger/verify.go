package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Each calls visit for every record of a job, or of all jobs for uuid.Nil, in the
// order in which they were stored.
func (l *Ledger) Each(ctx context.Context, job uuid.UUID, visit func(*Entry) error) error {
	filter := subject.AllLedger
	if job != uuid.Nil {
		filter = subject.LedgerOfJob(job)
	}
	return history.Snapshot(ctx, l.stream, []string{filter}, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		entry, err := Decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
		if err != nil {
			return err
		}
		return visit(entry)
	})
}

// Proof is what a job's ledger proves, from its records alone.
type Proof struct {
	Company, Job uuid.UUID
	// Items are the different entries of the job, over all its runs.
	Items int
	// Booked and Failed are the entries by their last result; entries booked by an
	// earlier job count as booked.
	Booked, Failed int
	// Missing are entries of the last run that have no result.
	Missing int
	// Doubled are entries that the ledger says were booked more than once.
	Doubled int
	// OutOfOrder are records that do not follow from the one before: a position
	// left out or repeated, an epoch that fell, a hash that does not match.
	OutOfOrder int
	// Problems says each of them in a sentence, at most maxProblems.
	Problems []string
}

// maxProblems bounds what a broken ledger can make a proof hold.
const maxProblems = 100

// OK tells whether the job is complete, nothing was booked twice, and everything
// happened in order.
func (p *Proof) OK() bool { return p.Missing == 0 && p.Doubled == 0 && p.OutOfOrder == 0 }

// Prover reads the records of one job in order and then says what they prove.
type Prover struct {
	proof    Proof
	last     *Entry
	run      uint32
	total    uint32
	position uint32
	sealed   []byte    // digest of the entries that the claim promised
	digest   hash.Hash // of those settled in this run
	booked   map[uuid.UUID]int
	result   map[uuid.UUID]ledgerlinev1.Outcome
}

// NewProver proves a job.
func NewProver(company, job uuid.UUID) *Prover {
	return &Prover{
		proof:  Proof{Company: company, Job: job},
		booked: map[uuid.UUID]int{}, result: map[uuid.UUID]ledgerlinev1.Outcome{}, digest: sha256.New(),
	}
}

func (p *Prover) problem(counter *int, format string, args ...any) {
	*counter++
	if len(p.proof.Problems) < maxProblems {
		p.proof.Problems = append(p.proof.Problems, fmt.Sprintf(format, args...))
	}
}

// Add takes the next record.
func (p *Prover) Add(e *Entry) {
	r := e.Record
	switch {
	case p.last == nil && len(r.GetPreviousHash()) > 0:
		p.problem(&p.proof.OutOfOrder, "record %d names a record before it, and there is none", e.Sequence)
	case p.last != nil && !bytes.Equal(r.GetPreviousHash(), p.last.Hash):
		p.problem(&p.proof.OutOfOrder, "record %d does not carry the hash of record %d: one was changed or is missing", e.Sequence, p.last.Sequence)
	}
	if p.last != nil && r.GetEpoch() < p.last.Record.GetEpoch() {
		p.problem(&p.proof.OutOfOrder, "record %d is of epoch %d, after epoch %d", e.Sequence, r.GetEpoch(), p.last.Record.GetEpoch())
	}
	if p.last != nil && r.GetEpoch() != p.last.Record.GetEpoch() && r.GetClaim() == nil {
		p.problem(&p.proof.OutOfOrder, "record %d is of epoch %d, which nobody claimed", e.Sequence, r.GetEpoch())
	}
	if r.GetRun() != p.run {
		p.run, p.position, p.digest = r.GetRun(), 0, sha256.New()
	}
	if c := r.GetClaim(); c != nil {
		p.total, p.sealed = c.GetTotal(), c.GetDigest()
	}
	for _, s := range r.GetSettled() {
		p.settle(e, s)
	}
	if send := r.GetSend(); send != nil && send.GetPosition() != p.position+1 {
		p.problem(&p.proof.OutOfOrder, "record %d sends position %d after position %d was settled", e.Sequence, send.GetPosition(), p.position)
	}
	p.last = e
}

func (p *Prover) settle(e *Entry, s *ledgerlinev1.Settlement) {
	if s.GetPosition() != p.position+1 {
		p.problem(&p.proof.OutOfOrder, "record %d settles position %d after position %d", e.Sequence, s.GetPosition(), p.position)
	}
	p.position = s.GetPosition()
	_, _ = p.digest.Write(s.GetEntryId()) // a hash takes everything
	id, err := uuid.FromBytes(s.GetEntryId())
	if err != nil {
		p.problem(&p.proof.OutOfOrder, "record %d settles an entry without an id", e.Sequence)
		return
	}
	p.result[id] = s.GetOutcome()
	if s.GetOutcome() == ledgerlinev1.Outcome_OUTCOME_BOOKED {
		if p.booked[id]++; p.booked[id] == 2 {
			p.problem(&p.proof.Doubled, "entry %s was booked again by record %d", id, e.Sequence)
		}
	}
}

// Booked tells how often this job booked an entry itself.
func (p *Prover) Booked(id uuid.UUID) int { return p.booked[id] }

// Proof ends the proof.
func (p *Prover) Proof() Proof {
	proof := p.proof
	proof.Items = len(p.result)
	for _, outcome := range p.result {
		if outcome == ledgerlinev1.Outcome_OUTCOME_FAILED {
			proof.Failed++
		} else {
			proof.Booked++
		}
	}
	if p.total > p.position {
		proof.Missing = int(p.total - p.position)
		proof.Items += proof.Missing
	} else if p.last != nil && !bytes.Equal(p.digest.Sum(nil), p.sealed) {
		proof.OutOfOrder++
		proof.Problems = append(proof.Problems, "the settled entries are not the sealed ones")
	}
	return proof
}

// Verify proves one job; ErrUnknown when the ledger has no record of it. Entries
// that another job of the company has booked as well count as doubled.
func (l *Ledger) Verify(ctx context.Context, job uuid.UUID) (*Proof, error) {
	var prover *Prover
	var company uuid.UUID
	err := l.Each(ctx, job, func(e *Entry) error {
		if prover == nil {
			company, prover = e.Company, NewProver(e.Company, e.Job)
		}
		prover.Add(e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verify job %s: %w", job, err)
	}
	if prover == nil {
		return nil, fmt.Errorf("verify job %s: %w", job, ErrUnknown)
	}
	own := subject.Booked(company, job)
	err = history.Snapshot(ctx, l.stream, []string{subject.BookedOf(company)}, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		if msg.Subject() == own {
			return nil
		}
		return eachBooking(msg, func(id uuid.UUID, _ *ledgerlinev1.Booking) {
			if prover.Booked(id) > 0 {
				prover.problem(&prover.proof.Doubled, "entry %s was booked by another job too (%s)", id, msg.Subject())
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("verify job %s against the company's other jobs: %w", job, err)
	}
	proof := prover.Proof()
	return &proof, nil
}
