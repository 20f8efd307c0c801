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

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// sweepInterval is how often the janitor looks; every replica does, at times
	// of its own.
	sweepInterval = 10 * time.Minute
	// orphanAge is how old items without a manifest must be before they are
	// purged: far longer than storing them takes.
	orphanAge = time.Hour
	// lostAge is how long a job may stand open with nothing stored for it before
	// its event is published again.
	lostAge = 10 * time.Minute
)

// sweep is the janitor: it runs until ctx ends.
func (f *Fetcher) sweep(ctx context.Context) {
	for pause(ctx, sweepInterval/2+rand.N(sweepInterval)) {
		if err := errors.Join(f.purgeOrphans(ctx, time.Now()), f.recoverLost(ctx, time.Now())); err != nil && ctx.Err() == nil {
			f.logger.Warn().Err(err).Msg(logevent.SweepFailed)
		}
	}
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
		if err := f.pipe.Purge(ctx, jetstream.WithPurgeSubject(subj)); err != nil {
			return fmt.Errorf("purge %s: %w", subj, err)
		}
		f.logger.Info().Stringer("job_id", job).Str("attempt", attempt).Msg(logevent.AttemptPurged)
	}
	return nil
}

// recoverLost publishes the event again of a job that is open here and has
// neither manifest nor, since long, a fetcher. A job that is held after all has
// its event acked in silence.
func (f *Fetcher) recoverLost(ctx context.Context, now time.Time) error {
	type event struct {
		JobID     string `json:"jobId"`
		CompanyID string `json:"companyId,omitempty"` // tells the next fetcher the credential
	}
	lost := map[uuid.UUID]event{}
	err := f.jobs.List(ctx, func(s *ledgerlinev1.JobState, at time.Time) {
		job, err := subject.ParseID(s.GetJobId())
		// One that a gateway has marked is the gateway's: it may be pending still.
		if err == nil && !ledger.Final(s.GetPhase()) && !jobstate.Starting(s) && now.Sub(at) > lostAge {
			lost[job] = event{JobID: job.String(), CompanyID: s.GetCompanyId()}
		}
	})
	if err != nil {
		return err
	}
	for job, e := range lost {
		manifest, _, err := f.manifest(ctx, job)
		if err != nil {
			return err
		}
		if manifest != nil {
			continue
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode the event of job %s: %w", job, err)
		}
		if _, err := f.js.Publish(ctx, subject.JobStarted, encoded); err != nil {
			return fmt.Errorf("publish the event of job %s again: %w", job, err)
		}
		f.logger.Warn().Stringer("job_id", job).Msg(logevent.EventRepublished)
	}
	return nil
}
