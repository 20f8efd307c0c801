package operate

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// LagView is what waits in the whole installation.
type LagView struct {
	// JobsWaiting are sealed jobs that no worker has claimed.
	JobsWaiting int `json:"jobsWaiting"`
	// JobsActive are claimed jobs.
	JobsActive int `json:"jobsActive"`
	// Items of sealed jobs that are not acked.
	Items uint64 `json:"items"`
	// OldestJobAgeSeconds counts from the seal of the oldest unfinished job; 0
	// when there is none.
	OldestJobAgeSeconds float64 `json:"oldestJobAgeSeconds"`
}

// Lag is `ledgerline lag`.
type Lag struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
}

// Run prints what waits.
func (c *Lag) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		v, err := openView(ctx, js)
		if err != nil {
			return err
		}
		lag, err := v.lag(ctx, time.Now())
		if err != nil {
			return err
		}
		return s.print(lag, func() error {
			return s.printf("jobs waiting  %d\njobs active   %d\nitems         %d\noldest job    %s\n",
				lag.JobsWaiting, lag.JobsActive, lag.Items, time.Duration(lag.OldestJobAgeSeconds*float64(time.Second)).Round(time.Second))
		})
	})
}

// lag sums the jobs up. Waiting and active together are what the stable durable
// has pending and ack-pending, the figure an autoscaler sees.
func (v *view) lag(ctx context.Context, now time.Time) (LagView, error) {
	durable, err := v.pipe.Consumer(ctx, subject.DurableConsumer)
	if err != nil {
		return LagView{}, fmt.Errorf("look up the durable %s: %w", subject.DurableConsumer, err)
	}
	info := durable.CachedInfo()
	jobs, err := v.all(ctx)
	if err != nil {
		return LagView{}, err
	}
	var lag LagView
	for _, j := range jobs {
		switch j.phase {
		case ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, ledgerlinev1.JobPhase_JOB_PHASE_REPORTING, ledgerlinev1.JobPhase_JOB_PHASE_PAUSED:
			lag.JobsActive++
		}
		if ledger.Final(j.phase) || j.phase == ledgerlinev1.JobPhase_JOB_PHASE_DRAINING {
			continue
		}
		lag.Items += j.Lag
		if !j.sealed.IsZero() {
			lag.OldestJobAgeSeconds = max(lag.OldestJobAgeSeconds, now.Sub(j.sealed).Seconds())
		}
	}
	lag.JobsWaiting = max(int(info.NumPending)+info.NumAckPending-lag.JobsActive, 0)
	return lag, nil
}
