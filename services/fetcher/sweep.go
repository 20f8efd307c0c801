package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// lostLeases is the time after which a sealed job is lost, in leases, in the first
// lostAge of a stream: one that replaces a lost one is empty of what the bucket tells of.
const lostLeases = 2

// sweep is the janitor: it runs until ctx ends. It begins with the jobs that were
// lost while nobody ran, and looks for them often while a stream is young: one that
// was made anew has lost what the one before it held.
func (f *Fetcher) sweep(ctx context.Context) {
	full := time.Now().Add(sweepInterval/2 + rand.N(sweepInterval))
	for {
		now := time.Now()
		young, err := f.recoverLost(ctx, now)
		if now.After(full) {
			err = errors.Join(err, f.purgeOrphans(ctx, now))
			full = now.Add(sweepInterval/2 + rand.N(sweepInterval))
		}
		if err != nil && ctx.Err() == nil {
			f.logger.Warn().Err(err).Msg(logevent.SweepFailed)
		}
		wait := time.Until(full)
		if young {
			wait = min(wait, lostLeases*f.config.Topology.Lease)
		}
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.renewed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// keep makes anew what is gone, and lets the janitor look for what was lost in it.
func (f *Fetcher) keep(ctx context.Context) {
	topology.Keep(ctx, f.js, f.config.Topology, f.logger, func([]string) {
		select {
		case f.renewed <- struct{}{}:
		default: // it is about to look
		}
	})
}

// purgeOrphans removes items that no manifest names: a fetcher died, or lost the
// race for the seal and could not purge its own.
func (f *Fetcher) purgeOrphans(ctx context.Context, now time.Time) error {
	info, err := f.pipe.Info(ctx, jetstream.WithSubjectFilter(subject.AllItems))
	if err != nil {
		return fmt.Errorf("list item subjects: %w", err)
	}
	for subj := range info.State.Subjects {
		job, attempt, ok := subject.ItemsAttempt(subj)
		if !ok {
			continue
		}
		manifest, _, err := f.manifest(ctx, job)
		if err != nil {
			return err
		}
		if manifest.GetAttempt() == attempt {
			continue
		}
		last, err := f.pipe.GetLastMsgForSubject(ctx, subj)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the last item on %s: %w", subj, err)
		}
		if now.Sub(last.Time) < orphanAge {
			continue
		}
		crashpoint.Before(crashpoint.FetcherOrphans)
		err = f.pipe.Purge(ctx, jetstream.WithPurgeSubject(subj))
		crashpoint.After(crashpoint.FetcherOrphans)
		if err != nil {
			return fmt.Errorf("purge %s: %w", subj, err)
		}
		f.logger.Info().Stringer("job_id", job).Str("attempt", attempt).Msg(logevent.AttemptPurged)
	}
	return nil
}

// recoverLost publishes the event again of a job that is open here and has
// neither manifest nor, since long, a fetcher. A job that is held after all has
// its event acked in silence. young tells that a stream was made lately, so that
// what is not lost yet may be soon.
func (f *Fetcher) recoverLost(ctx context.Context, now time.Time) (young bool, err error) {
	born, err := f.born(ctx)
	if err != nil {
		return false, err
	}
	young = now.Sub(born) < lostAge
	// A drain may last, and two of one job must not end differently: only for a job
	// that was sealed is the short age a proof.
	age := func(s *ledgerlinev1.JobState) time.Duration {
		if young && s.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
			return lostLeases * f.config.Topology.Lease
		}
		return lostAge
	}
	type event struct {
		JobID     string `json:"jobId"`
		CompanyID string `json:"companyId,omitempty"` // tells the next fetcher the credential
	}
	lost := map[uuid.UUID]event{}
	err = f.jobs.List(ctx, func(s *ledgerlinev1.JobState, at time.Time) {
		job, err := subject.ParseID(s.GetJobId())
		// One that a gateway has marked is the gateway's: it may be pending still.
		if err == nil && !ledger.Final(s.GetPhase()) && !jobstate.Starting(s) && (now.Sub(at) > age(s) || at.Before(born)) {
			lost[job] = event{JobID: job.String(), CompanyID: s.GetCompanyId()}
		}
	})
	if errors.Is(err, jobstate.ErrUnreadable) { // they hide no others
		f.logger.Warn().Err(err).Msg(logevent.SweepFailed)
	} else if err != nil {
		return young, err
	}
	for job, e := range lost {
		manifest, _, err := f.manifest(ctx, job)
		if err != nil {
			return young, err
		}
		if manifest != nil {
			continue
		}
		// One that has ended since the list was read has no manifest either.
		state, _, err := f.jobs.Get(ctx, job)
		if err != nil && !errors.Is(err, jobstate.ErrNotFound) {
			return young, err
		}
		if state == nil || ledger.Final(state.GetPhase()) {
			continue
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			return young, fmt.Errorf("encode the event of job %s: %w", job, err)
		}
		crashpoint.Before(crashpoint.FetcherAgain)
		_, err = f.js.Publish(ctx, subject.JobStarted, encoded)
		crashpoint.After(crashpoint.FetcherAgain)
		if err != nil {
			return young, fmt.Errorf("publish the event of job %s again: %w", job, err)
		}
		f.logger.Warn().Stringer("job_id", job).Msg(logevent.EventRepublished)
	}
	return young, nil
}

// born is when the younger of the streams was made that hold a job until its end.
func (f *Fetcher) born(ctx context.Context) (time.Time, error) {
	var born time.Time
	for _, name := range []string{subject.StreamEvents, subject.StreamPipe} {
		stream, err := f.js.Stream(ctx, name)
		if err != nil {
			return born, fmt.Errorf("look up stream %s: %w", name, err)
		}
		if at := stream.CachedInfo().Created; at.After(born) {
			born = at
		}
	}
	return born, nil
}
