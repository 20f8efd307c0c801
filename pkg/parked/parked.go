package parked

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// MaxEvent is how much of an event is kept; larger ones are refused as events
	// anyway.
	MaxEvent = 64 << 10
	// maxReason keeps a hostile text from filling the store.
	maxReason = 2 << 10
	// maxUnreadable bounds how many unreadable entries an error of List names.
	maxUnreadable = 10
	// digestBytes of the event's hash name it: enough to tell events apart.
	digestBytes = 16
)

// Store is the stream. It is safe for concurrent use.
type Store struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open looks the stream up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	stream, err := js.Stream(ctx, subject.StreamParked)
	if err != nil {
		return nil, fmt.Errorf("open the parked stream: %w", err)
	}
	return &Store{js: js, stream: stream}, nil
}

// Job parks a job that is known here. company may be uuid.Nil.
func (s *Store) Job(ctx context.Context, job, company uuid.UUID, reason string) error {
	p := &ledgerlinev1.Parked{Kind: ledgerlinev1.ParkedKind_PARKED_KIND_JOB, JobId: job.String(), Reason: reason}
	if company != uuid.Nil {
		p.CompanyId = company.String()
	}
	return s.put(ctx, subject.ParkedJob(job), p)
}

// Event parks an event as it came. job is uuid.Nil where the event names none.
func (s *Store) Event(ctx context.Context, job uuid.UUID, event []byte, contentType, reason string) error {
	sum := sha256.Sum256(event)
	p := &ledgerlinev1.Parked{
		Kind:        ledgerlinev1.ParkedKind_PARKED_KIND_EVENT,
		Reason:      reason,
		Event:       event[:min(len(event), MaxEvent)],
		EventSize:   uint64(len(event)),
		ContentType: contentType[:min(len(contentType), maxReason)],
	}
	if job != uuid.Nil {
		p.JobId = job.String()
	}
	return s.put(ctx, subject.ParkedEvent(hex.EncodeToString(sum[:digestBytes])), p)
}

func (s *Store) put(ctx context.Context, subj string, p *ledgerlinev1.Parked) error {
	p.Reason = clean(p.GetReason())
	p.ContentType = clean(p.GetContentType())
	p.ParkedAt = timestamppb.New(time.Now())
	data, err := proto.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode what is parked on %s: %w", subj, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	if _, err := s.js.Publish(ctx, subj, data); err != nil {
		return fmt.Errorf("park on %s: %w", subj, err)
	}
	return nil
}

// Thing is one thing that is parked for a job: the job itself, or an event that named
// it.
type Thing struct {
	Subject  string
	Sequence uint64
	Parked   *ledgerlinev1.Parked
}

// Of lists what is parked for a job. What cannot be read is not known to be this
// job's, and hides nothing of it.
func (s *Store) Of(ctx context.Context, job uuid.UUID) ([]Thing, error) {
	var found []Thing
	err := s.each(ctx, func(subj string, sequence uint64, p *ledgerlinev1.Parked, err error) {
		if err == nil && p.GetJobId() == job.String() {
			found = append(found, Thing{subj, sequence, p})
		}
	})
	return found, err
}

// Remove forgets things as they were found: what was parked anew since stays.
func (s *Store) Remove(ctx context.Context, things []Thing) error {
	for _, t := range things {
		if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(t.Subject), jetstream.WithPurgeSequence(t.Sequence+1)); err != nil {
			return fmt.Errorf("forget what is parked on %s: %w", t.Subject, err)
		}
	}
	return nil
}

// List calls visit for everything parked, oldest first. What cannot be read hides
// nothing else: its error names it.
func (s *Store) List(ctx context.Context, visit func(subj string, p *ledgerlinev1.Parked)) error {
	var unreadable []error
	err := s.each(ctx, func(subj string, _ uint64, p *ledgerlinev1.Parked, err error) {
		if err == nil {
			visit(subj, p)
		} else if len(unreadable) < maxUnreadable {
			unreadable = append(unreadable, err)
		}
	})
	if err != nil {
		return err
	}
	return errors.Join(unreadable...)
}

func (s *Store) each(ctx context.Context, visit func(subj string, sequence uint64, p *ledgerlinev1.Parked, err error)) error {
	err := history.Snapshot(ctx, s.stream, []string{subject.AllParked}, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		p, err := decode(msg)
		visit(msg.Subject(), meta.Sequence.Stream, p, err)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list what is parked: %w", err)
	}
	return nil
}

func decode(msg jetstream.Msg) (*ledgerlinev1.Parked, error) {
	p := new(ledgerlinev1.Parked)
	if err := proto.Unmarshal(msg.Data(), p); err != nil {
		return nil, fmt.Errorf("what is parked on %s is unreadable: %w", msg.Subject(), err)
	}
	if p.GetMinReader() > ledger.Version {
		return nil, fmt.Errorf("what is parked on %s: %w", msg.Subject(), ledger.ErrNewer)
	}
	return p, nil
}

// HasJob tells whether the job itself is parked.
func (s *Store) HasJob(ctx context.Context, job uuid.UUID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	_, err := s.stream.GetLastMsgForSubject(ctx, subject.ParkedJob(job))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for parked job %s: %w", job, err)
	}
	return true, nil
}
