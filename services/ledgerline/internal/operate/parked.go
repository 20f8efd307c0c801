package operate

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/parked"
)

// ParkedView is something that waits for a person.
type ParkedView struct {
	Kind     string    `json:"kind"`
	JobID    string    `json:"jobId"`
	Reason   string    `json:"reason"`
	ParkedAt time.Time `json:"parkedAt"`
}

// Parked is `ledgerline parked`.
type Parked struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
}

// Run prints what is parked, oldest first.
func (c *Parked) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		store, err := parked.Open(ctx, js)
		if err != nil {
			return err
		}
		list := []ParkedView{}
		err = store.List(ctx, func(_ string, p *ledgerlinev1.Parked) {
			kind := "job"
			if p.GetKind() == ledgerlinev1.ParkedKind_PARKED_KIND_EVENT {
				kind = "event"
			}
			list = append(list, ParkedView{Kind: kind, JobID: p.GetJobId(), Reason: p.GetReason(), ParkedAt: p.GetParkedAt().AsTime()})
		})
		if err != nil {
			return err
		}
		return s.print(list, func() error {
			if len(list) == 0 {
				return s.printf("Nothing is parked.\n")
			}
			for _, p := range list {
				if err := s.printf("%-5s  %-36s  %s\n%s", p.Kind, orDash(p.JobID), p.ParkedAt.Local().Format(time.DateTime), wrap(p.Reason, "       ", tableWidth)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
