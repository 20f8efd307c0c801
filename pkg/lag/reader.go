package lag

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/history"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// MaxAge is how old a snapshot may be that is given out again. The contract
	// allows five seconds; the rest is for the refresh itself and for a scraper's
	// own delay.
	MaxAge = 2 * time.Second
	// parallelLookups bounds how many ledger records one refresh asks for at a time,
	// for the jobs that have been claimed and have no consumer: few, but all of them
	// after a restart of the server.
	parallelLookups = 16
)

// Reader makes snapshots. It is safe for concurrent use.
type Reader struct {
	pipe, parked jetstream.Stream
	jobs         *jobstate.Store
	ledger       *ledger.Ledger

	// one is taken by who refreshes, and guards all below.
	one  chan struct{}
	last *Snapshot
	// manifests are the newest ones by job, read up to the pipe's sequence sealed.
	manifests map[uuid.UUID]manifest
	sealed    uint64
	// states are what the bucket says of the jobs, read up to the revision stated:
	// of all that are open, and of the ended ones whose manifest is still here.
	states map[uuid.UUID]state
	stated uint64
}

type manifest struct {
	company         uuid.UUID
	run, count      uint32
	items           string // subject
	since, deadline time.Time
}

type state struct {
	phase    ledgerlinev1.JobPhase
	run      uint32
	deadline time.Time
}

// Open looks the streams up; topology.Ensure must have run.
func Open(ctx context.Context, js jetstream.JetStream) (*Reader, error) {
	r := &Reader{one: make(chan struct{}, 1), manifests: map[uuid.UUID]manifest{}, states: map[uuid.UUID]state{}}
	var err error
	if r.pipe, err = js.Stream(ctx, subject.StreamPipe); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", subject.StreamPipe, err)
	}
	if r.parked, err = js.Stream(ctx, subject.StreamParked); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", subject.StreamParked, err)
	}
	if r.jobs, err = jobstate.Open(ctx, js); err != nil {
		return nil, err
	}
	r.ledger, err = ledger.Open(ctx, js)
	return r, err
}

// Snapshot is at most MaxAge old when it is returned, and the time of a refresh.
func (r *Reader) Snapshot(ctx context.Context) (*Snapshot, error) {
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return nil, fmt.Errorf("read the lag: %w", context.Cause(ctx))
	}
	if r.last != nil && time.Since(r.last.At) < MaxAge {
		return r.last, nil
	}
	s, err := r.refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the lag: %w", err)
	}
	r.last = s
	return s, nil
}

// refresh reads the consumers first and the manifests after them: a job without a
// consumer whose manifest is still here then was not claimed at that moment, but
// for those that the bucket or the ledger knows.
func (r *Reader) refresh(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{At: time.Now()}
	consumers, err := r.consumers(ctx)
	if err != nil {
		return nil, err
	}
	here, err := r.readManifests(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.readStates(ctx); err != nil {
		return nil, err
	}
	if err := r.countParked(ctx, s); err != nil {
		return nil, err
	}
	if err := r.judge(ctx, s, here, consumers); err != nil {
		return nil, err
	}
	return s, nil
}

// served is what a job's consumer says.
type served struct {
	items string // the subject it filters
	lag   uint64
}

// consumers are those of the claimed jobs.
func (r *Reader) consumers(ctx context.Context) (map[uuid.UUID]served, error) {
	found := map[uuid.UUID]served{}
	listing := r.pipe.ListConsumers(ctx)
	for info := range listing.Info() {
		name, ours := strings.CutPrefix(info.Name, subject.DurableJobPrefix)
		if !ours {
			continue
		}
		if id, err := subject.ParseID(name); err == nil {
			found[id] = served{items: info.Config.FilterSubject, lag: info.NumPending + uint64(info.NumAckPending)}
		}
	}
	if err := listing.Err(); err != nil {
		return nil, fmt.Errorf("list the consumers of stream %s: %w", subject.StreamPipe, err)
	}
	return found, nil
}

// readManifests reads those that are new and tells which jobs have one.
func (r *Reader) readManifests(ctx context.Context) (map[uuid.UUID]bool, error) {
	info, err := r.pipe.Info(ctx, jetstream.WithSubjectFilter(subject.AllReady))
	if err != nil {
		return nil, fmt.Errorf("look for manifests in stream %s: %w", subject.StreamPipe, err)
	}
	if info.State.LastSeq < r.sealed {
		r.sealed = 0 // the stream was made anew
		clear(r.manifests)
	}
	here := make(map[uuid.UUID]bool, len(info.State.Subjects))
	for subj := range info.State.Subjects {
		if id, ok := subject.ReadyJob(subj); ok {
			here[id] = true
		}
	}
	for id := range r.manifests {
		if !here[id] {
			delete(r.manifests, id)
		}
	}
	if len(here) == 0 || info.State.LastSeq == r.sealed {
		return here, nil
	}
	seen, err := history.Since(ctx, r.pipe, []string{subject.AllReady}, r.sealed, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		if id, m, ok := readManifest(msg.Data()); ok {
			r.manifests[id] = m
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Whatever is on ready subjects up to the stream's end as it was is known now.
	r.sealed = max(seen, info.State.LastSeq)
	return here, nil
}

// readManifest understands a manifest. One that it does not is none of a job that
// works: the consumers refuse it by name.
func readManifest(data []byte) (uuid.UUID, manifest, bool) {
	stored := new(ledgerlinev1.Manifest)
	if err := proto.Unmarshal(data, stored); err != nil || stored.GetMinReader() > ledger.Version {
		return uuid.Nil, manifest{}, false
	}
	id, err := subject.ParseID(stored.GetJobId())
	if err != nil {
		return uuid.Nil, manifest{}, false
	}
	company, err := subject.ParseID(stored.GetCompanyId())
	if err != nil {
		return uuid.Nil, manifest{}, false
	}
	return id, manifest{
		company: company, run: stored.GetRun(), count: stored.GetCount(),
		items: subject.Items(id, stored.GetAttempt()),
		since: timeOf(stored.GetSealedAt()), deadline: timeOf(stored.GetDeadline()),
	}, true
}

// readStates reads what changed in the bucket.
func (r *Reader) readStates(ctx context.Context) error {
	var err error
	r.stated, err = r.jobs.Since(ctx, r.stated, func(stored *ledgerlinev1.JobState, removed bool) {
		id, err := subject.ParseID(stored.GetJobId())
		if err != nil {
			return // not one of ours
		}
		if removed {
			delete(r.states, id)
			return
		}
		r.states[id] = state{phase: stored.GetPhase(), run: stored.GetRun(), deadline: timeOf(stored.GetDeadline())}
	})
	if err != nil {
		return err
	}
	// Ended jobs stay in the bucket for a month.
	for id, known := range r.states {
		if _, sealed := r.manifests[id]; !sealed && ledger.Final(known.phase) {
			delete(r.states, id)
		}
	}
	return nil
}

func (r *Reader) countParked(ctx context.Context, s *Snapshot) error {
	info, err := r.parked.Info(ctx, jetstream.WithSubjectFilter(subject.AllParked))
	if err != nil {
		return fmt.Errorf("look for what is parked: %w", err)
	}
	for subj := range info.State.Subjects {
		if subject.IsParkedJob(subj) {
			s.Parked++
		} else {
			s.ParkedEvents++
		}
	}
	return nil
}

// judge makes a job of each manifest whose run has not ended.
func (r *Reader) judge(ctx context.Context, s *Snapshot, here map[uuid.UUID]bool, consumers map[uuid.UUID]served) error {
	s.Jobs = make([]Job, 0, len(here))
	var unclear []int
	for id := range here {
		m, known := r.manifests[id]
		if !known {
			continue // unreadable, or removed since
		}
		now := r.states[id]
		if ledger.Final(now.phase) && now.run >= m.run {
			continue
		}
		job := Job{
			ID: id, Company: m.company, Run: m.run, Total: m.count, Lag: uint64(m.count),
			Since: m.since, Deadline: m.deadline,
		}
		if now.run == m.run && !now.deadline.IsZero() {
			job.Deadline = now.deadline
		}
		if c, has := consumers[id]; has && c.items == m.items {
			job.Active, job.Lag = true, c.lag
		} else if !waits(now, m) {
			unclear = append(unclear, len(s.Jobs))
		}
		s.Jobs = append(s.Jobs, job)
	}
	gone, err := r.ask(ctx, s.Jobs, unclear)
	if err != nil {
		return err
	}
	s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool { return gone[j.ID] })
	slices.SortFunc(s.Jobs, func(a, b Job) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), a.Since.Compare(b.Since), bytes.Compare(a.ID[:], b.ID[:]))
	})
	for _, j := range s.Jobs {
		s.Items += j.Lag
		if j.Active {
			s.Active++
		} else {
			s.Waiting++
		}
		if s.Oldest.IsZero() || j.Since.Before(s.Oldest) {
			s.Oldest = j.Since
		}
	}
	return nil
}

// waits tells whether the bucket says of a manifest that nobody has claimed it.
func waits(now state, m manifest) bool {
	if now.run > m.run {
		return false
	}
	switch now.phase {
	case ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, ledgerlinev1.JobPhase_JOB_PHASE_SEALED, ledgerlinev1.JobPhase_JOB_PHASE_WAITING:
		return true
	}
	return false
}

// ask looks in the ledger how far the unclear jobs are: claimed, without a consumer.
// It returns those whose run has ended.
func (r *Reader) ask(ctx context.Context, jobs []Job, unclear []int) (map[uuid.UUID]bool, error) {
	ended := make([]bool, len(unclear))
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(parallelLookups)
	for n, i := range unclear {
		group.Go(func() error {
			job := &jobs[i]
			last, err := r.ledger.Last(asking, job.Company, job.ID)
			if err != nil {
				return err
			}
			switch run := runOf(last); {
			case run > job.Run || run == job.Run && last.Record.GetEnd() != nil:
				ended[n] = true
			case run == job.Run:
				job.Active = true
				job.Lag = uint64(job.Total - min(last.Record.GetPosition(), job.Total))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	gone := map[uuid.UUID]bool{}
	for n, i := range unclear {
		if ended[n] {
			gone[jobs[i].ID] = true
		}
	}
	return gone, nil
}

func runOf(last *ledger.Entry) uint32 {
	if last == nil {
		return 0
	}
	return last.Record.GetRun()
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil || t.AsTime().Unix() == 0 {
		return time.Time{}
	}
	return t.AsTime()
}
