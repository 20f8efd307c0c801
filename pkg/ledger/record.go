package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Version is what this reader understands; a record whose min_reader is higher
// is refused, never misread. Version 1 is the first.
const Version = 1

// Ledger reads and writes LEDGERLINE_LEDGER. It is safe for concurrent use.
type Ledger struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open looks the stream up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*Ledger, error) {
	stream, err := js.Stream(ctx, subject.StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return &Ledger{js: js, stream: stream}, nil
}

// Born is when the stream was made. What the server stored before that was stored
// beside another ledger, which is gone.
func (l *Ledger) Born(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, l.js.Options().DefaultTimeout)
	defer cancel()
	info, err := l.stream.Info(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("look up the ledger: %w", err)
	}
	return info.Created, nil
}

// Entry is one stored record.
type Entry struct {
	Company, Job uuid.UUID
	// Sequence is the record's stream sequence, from 1.
	Sequence uint64
	Record   *ledgerlinev1.LedgerRecord
	// Hash is the SHA-256 of the record as stored.
	Hash []byte
}

// RunOrZero is the run of a record, 0 for none.
func (e *Entry) RunOrZero() uint32 {
	if e == nil {
		return 0
	}
	return e.Record.GetRun()
}

// EpochOrZero is the epoch of a record, 0 for none.
func (e *Entry) EpochOrZero() uint64 {
	if e == nil {
		return 0
	}
	return e.Record.GetEpoch()
}

// Last is the last record of a job, or nil when it has none.
func (l *Ledger) Last(ctx context.Context, company, job uuid.UUID) (*Entry, error) {
	return l.last(ctx, subject.Ledger(company, job))
}

// LastOfJob is Last for a job whose company is not known. A job has one company,
// so at most one subject matches.
func (l *Ledger) LastOfJob(ctx context.Context, job uuid.UUID) (*Entry, error) {
	return l.last(ctx, subject.LedgerOfJob(job))
}

func (l *Ledger) last(ctx context.Context, subj string) (*Entry, error) {
	msg, err := l.lastMessage(ctx, subj)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last record on %s: %w", subj, err)
	}
	return Decode(msg.Subject, msg.Data, msg.Sequence)
}

// lastMessage reads from the stream's leader: LEDGERLINE_LEDGER allows no direct
// gets.
func (l *Ledger) lastMessage(ctx context.Context, subj string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, l.js.Options().DefaultTimeout)
	defer cancel()
	return l.stream.GetLastMsgForSubject(ctx, subj)
}

// Decode reads a stored record. Unknown fields survive.
func Decode(subj string, data []byte, sequence uint64) (*Entry, error) {
	company, job, ok := subject.LedgerJob(subj)
	if !ok {
		return nil, fmt.Errorf("%q is not a ledger subject", subj)
	}
	record := new(ledgerlinev1.LedgerRecord)
	if err := proto.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("record %d on %s is unreadable: %w", sequence, subj, err)
	}
	if record.GetMinReader() > Version {
		return nil, fmt.Errorf("record %d on %s needs reader version %d, this is %d: %w", sequence, subj, record.GetMinReader(), Version, ErrNewer)
	}
	return &Entry{Company: company, Job: job, Sequence: sequence, Record: record, Hash: hashOf(data)}, nil
}

// Final tells whether the phase ends a job for good, so that the company's next
// job may begin.
func Final(phase ledgerlinev1.JobPhase) bool {
	switch phase {
	case ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED,
		ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED_WITH_ERRORS,
		ledgerlinev1.JobPhase_JOB_PHASE_FAILED,
		ledgerlinev1.JobPhase_JOB_PHASE_PARKED,
		ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED:
		return true
	}
	return false
}

func hashOf(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}
