package operate

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/jobview"
	"github.com/ledgerline/ledgerline/pkg/lag"
)

// Lag is `ledgerline lag`.
type Lag struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
}

// Run prints what waits.
func (c *Lag) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		reader, err := lag.Open(ctx, js)
		if err != nil {
			return err
		}
		snapshot, err := reader.Snapshot(ctx)
		if err != nil {
			return err
		}
		waits := jobview.LagOf(snapshot, time.Now())
		return s.print(waits, func() error {
			return s.printf("jobs waiting  %d\njobs active   %d\nitems         %d\noldest job    %s\n",
				waits.JobsWaiting, waits.JobsActive, waits.Items, time.Duration(waits.OldestJobAgeSeconds*float64(time.Second)).Round(time.Second))
		})
	})
}
