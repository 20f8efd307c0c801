package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Reconcile is `ledgerline reconcile JOB [--fix]`.
type Reconcile struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  jobArgument `embed:""`
	Fix  bool        `help:"Mend what can be mended: report results again, close the job at Pleo, retry a parked job, publish a lost event."`
}

// Run shows what Pleo, the stream and the ledger say of a job. Pleo is read by a
// consumer: an operator needs no credential for it. The exit code is 1 where
// something is left to do.
func (c *Reconcile) Run(s *Session) error {
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	// The consumer reads all pages of the job.
	ctx, cancel := context.WithTimeout(s.Context, reconcile.Limit+commandTimeout)
	defer cancel()
	return s.onNATSUntil(ctx, c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		report, err := c.ask(ctx, js, id)
		if err != nil {
			return err
		}
		if c.Fix {
			if err := wishes(ctx, js, id, report); err != nil {
				return err
			}
		}
		if err := s.print(report, func() error { return s.printReport(report) }); err != nil {
			return err
		}
		if !report.OK && len(report.Fixed) == 0 {
			return program.Exit(1)
		}
		return nil
	})
}

func (c *Reconcile) ask(ctx context.Context, js jetstream.JetStream, id uuid.UUID) (*reconcile.Report, error) {
	report := new(reconcile.Report)
	err := endpoint.Ask(ctx, js.Conn(), subject.ConsumerReconcile, reconcile.Request{JobID: id.String(), Fix: c.Fix}, report)
	if errors.Is(err, endpoint.ErrNobody) {
		return nil, errors.New("no consumer is running on this server, and only a consumer has the credential to ask Pleo; start one, or `ledgerline up`; `ledgerline verify` and `ledgerline job` need none")
	}
	var refused *endpoint.RefusedError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("the consumer says: %s", refused.Text)
	}
	return report, err
}

// wishes does what is an operator's to do about the findings.
func wishes(ctx context.Context, js jetstream.JetStream, id uuid.UUID, report *reconcile.Report) error {
	needs := func(fix reconcile.Fix) bool {
		return slices.ContainsFunc(report.Findings, func(f reconcile.Finding) bool { return f.Fix == fix })
	}
	switch {
	case needs(reconcile.ByRetry):
		jobs, err := steer.Open(ctx, js)
		if err != nil {
			return err
		}
		if _, err := jobs.Retry(ctx, id); err != nil {
			return err
		}
		report.Fixed = append(report.Fixed, "the job is drained again")
	case needs(reconcile.ByStart):
		if _, err := steer.Publish(ctx, js, id, report.CompanyID); err != nil {
			return err
		}
		report.Fixed = append(report.Fixed, "the job-started event is published")
	}
	return nil
}

func (s *Session) printReport(r *reconcile.Report) error {
	if err := s.printf("job %s of company\n    %s\n\n", r.JobID, r.CompanyID); err != nil {
		return err
	}
	table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
	row := func(name string, cells ...any) {
		fmt.Fprint(table, name)
		for _, cell := range cells {
			fmt.Fprintf(table, "\t%v", cell)
		}
		fmt.Fprintln(table)
	}
	stream := "not there"
	if r.Stream.Sealed {
		stream = fmt.Sprintf("sealed, run %d", r.Stream.Run)
	}
	state := orDash(r.State)
	row("", "AT PLEO", "IN THE STREAM", "IN THE LEDGER")
	row("job", r.Pleo.Status, stream, state)
	row("items", r.Pleo.Items, r.Stream.Items, r.Ledger.Booked+r.Ledger.Failed)
	row("open", r.Pleo.Open, "-", "-")
	row("successful", r.Pleo.Successful, "-", r.Ledger.Booked)
	row("failed", r.Pleo.Failed, "-", r.Ledger.Failed)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	if r.Reason != "" {
		if err := s.printf("\n%s", wrap(r.State+": "+r.Reason, "", tableWidth)); err != nil {
			return err
		}
	}
	if err := s.printFindings(r); err != nil {
		return err
	}
	for _, did := range r.Fixed {
		if err := s.printf("Done: %s.\n", did); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) printFindings(r *reconcile.Report) error {
	if len(r.Findings) == 0 {
		return s.printf("\nNothing differs.\n")
	}
	if err := s.printf("\n"); err != nil {
		return err
	}
	for _, f := range r.Findings {
		text := wrap(f.Text+": "+wayOut(f.Fix, r.JobID), "", tableWidth)
		if f.AccountingEntryID != "" {
			text = cut(fmt.Sprintf("%s  %-6s  %s", f.AccountingEntryID, f.Fix, f.Text), tableWidth) + "\n"
		}
		if err := s.printf("%s", text); err != nil {
			return err
		}
	}
	if r.More > 0 {
		return s.printf("and %d more\n", r.More)
	}
	return nil
}

// wayOut says what mends a finding.
func wayOut(fix reconcile.Fix, job string) string {
	switch fix {
	case reconcile.ByNobody:
		return "nothing to do"
	case reconcile.ByReport, reconcile.ByClose, reconcile.ByStart:
		return "--fix mends it"
	case reconcile.ByRetry:
		return "--fix, or `ledgerline retry " + job + "`"
	}
	return "a person must decide"
}
