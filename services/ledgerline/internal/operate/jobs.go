package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/jobview"
)

// Jobs is `ledgerline jobs`.
type Jobs struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
}

// Run prints all jobs, oldest first.
func (c *Jobs) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		v, err := jobview.Open(ctx, js)
		if err != nil {
			return err
		}
		jobs, unreadable := v.All(ctx)
		if unreadable != nil && !errors.Is(unreadable, jobstate.ErrUnreadable) {
			return unreadable
		}
		err = s.print(jobs, func() error {
			if len(jobs) == 0 {
				return s.printf("No jobs yet. `ledgerline start JOB` publishes a job-started event.\n")
			}
			table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "JOB\tSTATE\tDONE\tLAG")
			for _, j := range jobs {
				fmt.Fprintf(table, "%s\t%s\t%s/%s\t%s\n", j.JobID, j.State, short(uint64(j.Position)), short(uint64(j.Total)), short(j.Lag))
			}
			return table.Flush()
		})
		return errors.Join(err, unreadable)
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
		v, err := jobview.Open(ctx, js)
		if err != nil {
			return err
		}
		job, err := v.One(ctx, id)
		if err != nil {
			return err
		}
		return s.print(job, func() error { return s.printJob(job) })
	})
}

func (s *Session) printJob(j jobview.Row) error {
	table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	row("job", j.JobID)
	row("company", j.CompanyID)
	row("state", j.State)
	// A long reason goes on in the column that it begins in.
	const key = 10
	for i, line := range strings.Split(strings.TrimSpace(wrap(j.Reason, "", tableWidth-key)), "\n") {
		if i == 0 {
			row("reason", line)
		} else {
			row("", line)
		}
	}
	row("done", fmt.Sprintf("%d of %d", j.Position, j.Total))
	row("lag", fmt.Sprint(j.Lag))
	row("worker", j.Worker)
	row("epoch", fmt.Sprint(j.Epoch))
	if j.Deadline != nil {
		row("deadline", j.Deadline.Format("2006-01-02 15:04:05 MST"))
	}
	return table.Flush()
}
