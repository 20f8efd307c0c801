package operate

import (
	"context"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/steer"
)

// wish carries an operator's wish to a job and prints what became of it.
func (s *Session) wish(nats config.NATS, job jobArgument, ask func(*steer.Steer, context.Context, uuid.UUID) (steer.Answer, error)) error {
	id, err := job.id()
	if err != nil {
		return err
	}
	return s.onNATS(nats, func(ctx context.Context, js jetstream.JetStream) error {
		jobs, err := steer.Open(ctx, js)
		if err != nil {
			return err
		}
		answer, err := ask(jobs, ctx, id)
		if err != nil {
			return err
		}
		return s.print(answer, func() error { return s.printf("%s", wrap("Job "+id.String()+": "+answer.Text+".", "", tableWidth)) })
	})
}

// Retry is `ledgerline retry JOB`.
type Retry struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run asks for a further run of a parked job.
func (c *Retry) Run(s *Session) error { return s.wish(c.NATS, c.Job, (*steer.Steer).Retry) }

// Pause is `ledgerline pause JOB`.
type Pause struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run holds a job between two items.
func (c *Pause) Run(s *Session) error { return s.wish(c.NATS, c.Job, (*steer.Steer).Pause) }

// Resume is `ledgerline resume JOB`.
type Resume struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run lets a paused job go on.
func (c *Resume) Run(s *Session) error { return s.wish(c.NATS, c.Job, (*steer.Steer).Resume) }

// Cancel is `ledgerline cancel JOB`.
type Cancel struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run ends a job, with what was booked reported.
func (c *Cancel) Run(s *Session) error { return s.wish(c.NATS, c.Job, (*steer.Steer).Cancel) }
