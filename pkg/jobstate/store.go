package jobstate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/cas"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// maxUpdateTries bounds the compare-and-set loop of Update: a job has one
	// worker and now and then an operator, so a few conflicts are many.
	maxUpdateTries = 20
	// maxUpdatePause bounds the random wait between them, in which a replica that
	// was read and lags catches up.
	maxUpdatePause = 50 * time.Millisecond
	// renewedInterval is how often a watch looks whether its bucket is still there.
	renewedInterval = 2 * time.Second
	// maxUnreadable bounds how many unreadable states an error of List names.
	maxUnreadable = 10
	// KeepEnded is how long the bucket tells of a job that has ended; the ledger
	// remembers it as long as bookings are remembered.
	KeepEnded = 30 * 24 * time.Hour
)

// ErrRenewed is returned by Watch when the bucket was removed, or made anew.
var ErrRenewed = errors.New("the jobs bucket was removed or made anew")

// ErrUnreadable is returned by List, after every visit, for states that cannot be
// read.
var ErrUnreadable = errors.New("not every job's state can be read")

// ErrNotFound is returned when the bucket knows nothing of a job.
var ErrNotFound = errors.New("no such job here")

// Store is the bucket. It is safe for concurrent use.
type Store struct {
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	stream jetstream.Stream
}

// Open looks the bucket up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	kv, err := js.KeyValue(ctx, subject.BucketJobs)
	if err != nil {
		return nil, fmt.Errorf("open the jobs bucket: %w", err)
	}
	stream, err := js.Stream(ctx, "KV_"+subject.BucketJobs)
	if err != nil {
		return nil, fmt.Errorf("open the jobs bucket: %w", err)
	}
	return &Store{js: js, kv: kv, stream: stream}, nil
}

// Get reads a job's state and the revision it was read at; ErrNotFound when
// there is none.
func (s *Store) Get(ctx context.Context, job uuid.UUID) (*ledgerlinev1.JobState, uint64, error) {
	state, revision, err := s.get(ctx, job)
	if err == nil && state == nil {
		err = ErrNotFound
	}
	return state, revision, err
}

// get is Get with a nil state where there is none. It reads the bucket's stream:
// an entry that expired or was deleted leaves a marker, whose revision the next
// write must name and which the bucket's own look-up hides.
func (s *Store) get(ctx context.Context, job uuid.UUID) (*ledgerlinev1.JobState, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	msg, err := s.stream.GetLastMsgForSubject(ctx, key(job))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the state of job %s: %w", job, err)
	}
	if msg.Header.Get(jetstream.MarkerReasonHeader) != "" || msg.Header.Get(operationHeader) != "" {
		return nil, msg.Sequence, nil
	}
	state, err := decode(job.String(), msg.Data)
	return state, msg.Sequence, err
}

// operationHeader marks a deleted entry of a bucket.
const operationHeader = "KV-Operation"

const (
	keyPrefix = "$KV." + subject.BucketJobs + "."
	everyKey  = keyPrefix + ">"
)

func key(job uuid.UUID) string { return keyPrefix + job.String() }

// Update reads, changes and writes a job's state by compare-and-set; change gets
// an empty state for a job that is not known yet and may be called again.
// Unknown fields survive. An error from change is returned as it is, with
// nothing written.
func (s *Store) Update(ctx context.Context, job uuid.UUID, change func(*ledgerlinev1.JobState) error) (*ledgerlinev1.JobState, error) {
	for range maxUpdateTries {
		state, revision, err := s.get(ctx, job)
		if err != nil {
			return nil, err
		}
		if state == nil {
			state = &ledgerlinev1.JobState{}
		}
		if err := change(state); err != nil {
			return nil, err
		}
		state.JobId = job.String()
		err = s.put(ctx, job, state, revision)
		if err == nil {
			return state, nil
		}
		if !cas.IsConflict(err) {
			return nil, fmt.Errorf("write the state of job %s: %w", job, err)
		}
		timer := time.NewTimer(rand.N(maxUpdatePause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("write the state of job %s: %w", job, context.Cause(ctx))
		case <-timer.C:
		}
	}
	return nil, fmt.Errorf("write the state of job %s: %d writers got in between", job, maxUpdateTries)
}

// Latest is Get with the word of the bucket's leader, where Get may have a replica's
// that is behind: the state is written back as it is, which its leader alone can take.
func (s *Store) Latest(ctx context.Context, job uuid.UUID) (*ledgerlinev1.JobState, error) {
	return s.Update(ctx, job, func(state *ledgerlinev1.JobState) error {
		if state.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_UNSPECIFIED {
			return ErrNotFound
		}
		return nil
	})
}

// put writes one revision. It publishes to the bucket's subject itself because
// the bucket's own update cannot give an entry a time to live.
func (s *Store) put(ctx context.Context, job uuid.UUID, state *ledgerlinev1.JobState, revision uint64) error {
	data, err := proto.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	msg := &nats.Msg{Subject: key(job), Data: data, Header: nats.Header{}}
	if ledger.Final(state.GetPhase()) && state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_PARKED {
		msg.Header.Set(jetstream.MsgTTLHeader, strconv.Itoa(int(KeepEnded/time.Second)))
	}
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	_, err = s.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(revision))
	return err
}

// List calls visit for every job of the bucket, in no order; at is when the state
// was written. States that cannot be read hide no others: its error names them.
func (s *Store) List(ctx context.Context, visit func(state *ledgerlinev1.JobState, at time.Time)) error {
	watcher, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	defer func() { _ = watcher.Stop() }()
	var unreadable []error
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("list jobs: %w", context.Cause(ctx))
		case entry, open := <-watcher.Updates():
			if !open {
				return errors.New("list jobs: the connection was closed")
			}
			if entry == nil { // everything there is has been delivered
				if len(unreadable) > 0 {
					return fmt.Errorf("%w: %w", ErrUnreadable, errors.Join(unreadable...))
				}
				return nil
			}
			state, err := decode(entry.Key(), entry.Value())
			if err != nil {
				if len(unreadable) < maxUnreadable {
					unreadable = append(unreadable, err)
				}
				continue
			}
			visit(state, entry.Created())
		}
	}
}

// Since calls visit for every change after the revision after, 0 for all that there
// is, and returns the revision seen last: for a reader that comes again. removed is
// true for an entry that expired or was deleted; only the job id is set then.
// States that cannot be read are left out: they hide no others.
func (s *Store) Since(ctx context.Context, after uint64, visit func(state *ledgerlinev1.JobState, removed bool)) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return after, fmt.Errorf("look at the jobs bucket: %w", err)
	}
	if info.State.LastSeq <= after {
		if info.State.LastSeq == after {
			return after, nil
		}
		after = 0 // the bucket was made anew
	}
	seen, err := history.Since(ctx, s.stream, []string{everyKey}, after, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		job := strings.TrimPrefix(msg.Subject(), keyPrefix)
		header := msg.Headers()
		if header.Get(jetstream.MarkerReasonHeader) != "" || header.Get(operationHeader) != "" {
			visit(&ledgerlinev1.JobState{JobId: job}, true)
			return nil
		}
		if state, err := decode(job, msg.Data()); err == nil {
			visit(state, false)
		}
		return nil
	})
	if err != nil {
		return after, fmt.Errorf("read the jobs bucket: %w", err)
	}
	return seen, nil
}

// Watch calls visit for every job of the bucket and then for each change, until
// ctx ends, when it returns nil. removed is true for an entry that expired or
// was deleted; only the job id is set then. States that cannot be read are left out,
// as by Since: one of a newer version must not hide what becomes of other jobs. It
// returns ErrRenewed when the bucket is not the one that it began with: the server
// does not tell a watcher that.
func (s *Store) Watch(ctx context.Context, visit func(state *ledgerlinev1.JobState, at time.Time, removed bool)) error {
	born, err := s.born(ctx)
	if err != nil {
		return fmt.Errorf("watch jobs: %w", err)
	}
	watcher, err := s.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch jobs: %w", err)
	}
	defer func() { _ = watcher.Stop() }()
	ticker := time.NewTicker(renewedInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			// Any other error is the connection's, which the watcher outlives.
			now, err := s.born(ctx)
			if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !now.Equal(born) {
				return fmt.Errorf("watch jobs: %w", ErrRenewed)
			}
		case entry, open := <-watcher.Updates():
			if !open && ctx.Err() != nil { // the end of ctx closes the watcher as well
				return nil
			}
			if !open {
				return errors.New("watch jobs: the connection was closed")
			}
			if entry == nil {
				continue
			}
			if entry.Operation() != jetstream.KeyValuePut {
				visit(&ledgerlinev1.JobState{JobId: entry.Key()}, entry.Created(), true)
				continue
			}
			if state, err := decode(entry.Key(), entry.Value()); err == nil {
				visit(state, entry.Created(), false)
			}
		}
	}
}

// born is when the bucket was made.
func (s *Store) born(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	info, err := s.stream.Info(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("look up the jobs bucket: %w", err)
	}
	return info.Created, nil
}

func decode(job string, data []byte) (*ledgerlinev1.JobState, error) {
	state := new(ledgerlinev1.JobState)
	if err := proto.Unmarshal(data, state); err != nil {
		return nil, fmt.Errorf("the state of job %s is unreadable: %w", job, err)
	}
	if state.GetMinReader() > ledger.Version {
		return nil, fmt.Errorf("the state of job %s: %w", job, ledger.ErrNewer)
	}
	if state.GetJobId() == "" {
		state.JobId = job
	}
	return state, nil
}

// Until waits until a job's state is as is wants it, and returns that. When ctx
// ends first it returns the state seen last, nil for none, and an error.
func (s *Store) Until(ctx context.Context, job uuid.UUID, is func(*ledgerlinev1.JobState) bool) (*ledgerlinev1.JobState, error) {
	watcher, err := s.kv.Watch(ctx, job.String())
	if err != nil {
		return nil, fmt.Errorf("watch job %s: %w", job, err)
	}
	defer func() { _ = watcher.Stop() }()
	var last *ledgerlinev1.JobState
	for {
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("watch job %s: %w", job, context.Cause(ctx))
		case entry, open := <-watcher.Updates():
			if !open {
				return last, fmt.Errorf("watch job %s: the connection was closed", job)
			}
			if entry == nil || entry.Operation() != jetstream.KeyValuePut {
				continue
			}
			if last, err = decode(entry.Key(), entry.Value()); err != nil {
				return nil, err
			}
			if is(last) {
				return last, nil
			}
		}
	}
}
