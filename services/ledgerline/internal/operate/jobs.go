package operate

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
)

// Jobs is `ledgerline jobs`.
type Jobs struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
}

// Run prints all jobs, oldest first.
func (c *Jobs) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		v, err := openView(ctx, js)
		if err != nil {
			return err
		}
		jobs, err := v.all(ctx)
		if err != nil {
			return err
		}
		return s.print(jobs, func() error {
			if len(jobs) == 0 {
				return s.printf("No jobs yet. `ledgerline start JOB` publishes a job-started event.\n")
			}
			table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "JOB\tSTATE\tDONE\tLAG")
			for _, j := range jobs {
				fmt.Fprintf(table, "%s\t%s\t%d/%d\t%d\n", j.JobID, j.State, j.Position, j.Total, j.Lag)
			}
			return table.Flush()
		})
	})
}

// Job is `ledgerline job JOB`.
type Job struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
}

// Run prints one job.
func (c *Job) Run(s *Session) error {
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		v, err := openView(ctx, js)
		if err != nil {
			return err
		}
		job, err := v.one(ctx, id)
		if err != nil {
			return err
		}
		return s.print(job, func() error { return s.printJob(job) })
	})
}

func (s *Session) printJob(j JobView) error {
	table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	row("job", j.JobID)
	row("company", j.CompanyID)
	row("state", j.State)
	row("reason", j.Reason)
	row("done", fmt.Sprintf("%d of %d", j.Position, j.Total))
	row("lag", fmt.Sprint(j.Lag))
	row("worker", j.Worker)
	row("epoch", fmt.Sprint(j.Epoch))
	if j.Deadline != nil {
		row("deadline", j.Deadline.Format("2006-01-02 15:04:05 MST"))
	}
	return table.Flush()
}
