package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// reconcile reads what Pleo, the stream and the ledger say of a job, and reports
// and closes at Pleo what was left open of a job that has ended here. All else that
// mends a difference is an operator's wish.
func (c *Consumer) reconcile(ctx context.Context, ask reconcile.Request) (*reconcile.Report, error) {
	id, err := subject.ParseID(ask.JobID)
	if err != nil {
		return nil, endpoint.Refuse("400", err.Error())
	}
	if c.config.Pleo == nil {
		return nil, endpoint.Refuse("409", "this consumer has no credential for Pleo (LEDGERLINE_REPORT=false): only the sink can tell what Pleo knows; `ledgerline verify` proves the ledger")
	}
	fixed := []string{}
	for {
		j, sides, err := c.sides(ctx, id)
		if err != nil {
			return nil, err
		}
		report := reconcile.Compare(sides)
		report.Fixed = fixed
		if !ask.Fix || len(fixed) >= maxMends {
			return report, nil
		}
		did, err := j.mend(ctx, sides, report)
		if err != nil {
			return nil, err
		}
		if did == "" {
			return report, nil
		}
		fixed = append(fixed, did)
	}
}

// maxMends bounds the steps of one reconciliation: a hundred results each.
const maxMends = 20

// sides reads the three sides. Pleo first: what is settled while the others are
// read is not taken for a contradiction.
func (c *Consumer) sides(ctx context.Context, id uuid.UUID) (*job, *reconcile.Sides, error) {
	s := &reconcile.Sides{Job: id, Settled: map[uuid.UUID]*ledgerlinev1.Settlement{}, Sealed: map[uuid.UUID]struct{}{}}
	var err error
	if s.State, err = c.state(ctx, id); err != nil {
		return nil, nil, err
	}
	if s.Last, err = c.ledger.LastOfJob(ctx, id); err != nil {
		return nil, nil, err
	}
	named := uuid.Nil
	if s.Last != nil {
		named = s.Last.Company
	} else if company, err := subject.ParseID(s.State.GetCompanyId()); err == nil {
		named = company
	}
	j := &job{c: c, id: id, company: named, logger: c.logger.With().Stringer("job_id", id).Logger()}
	if j.pleo, err = c.config.Pleo.For(named); err != nil {
		return nil, nil, endpoint.Refuse("409", err.Error())
	}
	if s.Read, err = j.pleo.Job(ctx, id.String()); err != nil {
		return nil, nil, err
	}
	if s.Company, err = subject.ParseID(s.Read.CompanyID); err != nil {
		return nil, nil, fmt.Errorf("read job %s at Pleo: company: %w", id, err)
	}
	j.company, j.manifest = s.Company, &ledgerlinev1.Manifest{}
	if s.Items, err = j.statuses(ctx, 0); err != nil {
		return nil, nil, fmt.Errorf("read the items of job %s at Pleo: %w", id, err)
	}
	if s.Manifest, err = c.manifest(ctx, id); err != nil {
		return nil, nil, err
	}
	if s.Manifest != nil {
		j.manifest = s.Manifest
		if s.Sealed, err = j.entries(ctx); err != nil && !errors.Is(err, context.Canceled) {
			// Its worker has just ended it and removed the items.
			if again, lookErr := c.manifest(ctx, id); lookErr != nil || again != nil {
				return nil, nil, err
			}
			s.Manifest, s.Sealed = nil, map[uuid.UUID]struct{}{}
		}
	}
	if s.Event, err = c.eventWaits(ctx); err != nil {
		return nil, nil, err
	}
	// After the items: the ledger's last word is at least as new as Pleo's.
	if s.Last, err = c.ledger.LastOfJob(ctx, id); err != nil {
		return nil, nil, err
	}
	if s.State, err = c.state(ctx, id); err != nil {
		return nil, nil, err
	}
	err = c.ledger.Each(ctx, id, func(e *ledger.Entry) error {
		for _, settled := range e.Record.GetSettled() {
			entry, err := uuid.FromBytes(settled.GetEntryId())
			if err != nil {
				return fmt.Errorf("record %d of job %s: %w", e.Sequence, id, err)
			}
			reconcile.Remember(s.Settled, entry, settled)
		}
		return nil
	})
	return j, s, err
}

// eventWaits tells whether a job-started event is stored and not finished.
func (c *Consumer) eventWaits(ctx context.Context) (bool, error) {
	stream, err := c.js.Stream(ctx, subject.StreamEvents)
	if err != nil {
		return false, fmt.Errorf("look for job-started events: %w", err)
	}
	return stream.CachedInfo().State.Msgs > 0, nil
}

// mend does one step of what only a credential for Pleo can do, and says what it
// was; empty for nothing.
func (j *job) mend(ctx context.Context, s *reconcile.Sides, r *reconcile.Report) (did string, err error) {
	var unreported []pleo.ItemUpdate
	closes := false
	for _, f := range r.Findings {
		switch f.Fix {
		case reconcile.ByReport:
			if id, err := uuid.Parse(f.AccountingEntryID); err == nil {
				unreported = append(unreported, update(s.Settled[id]))
			}
		case reconcile.ByClose:
			closes = true
		}
	}
	switch n := len(unreported); {
	case n > 0:
		crashpoint.Before(crashpoint.ConsumerMendReport)
		answer, err := j.pleo.UpdateJobItems(ctx, j.id.String(), unreported)
		crashpoint.After(crashpoint.ConsumerMendReport)
		if err != nil {
			return "", fmt.Errorf("report %d results of job %s: %w", n, j.id, err)
		}
		if refused := len(answer.Errors) + len(answer.Unanswered); refused > 0 {
			return "", endpoint.Refuse("409", fmt.Sprintf("Pleo refuses %d of %d results of job %s", refused, n, j.id))
		}
		did = fmt.Sprintf("%d results reported", n)
	case closes:
		event := closingEvent(r.EndsAs())
		event.JobID = j.id.String()
		crashpoint.Before(crashpoint.ConsumerMendClose)
		err := j.pleo.PostJobEvent(ctx, event)
		crashpoint.After(crashpoint.ConsumerMendClose)
		var refusal *pleo.APIError
		if err != nil && (!errors.As(err, &refusal) || refusal.Status != http.StatusUnprocessableEntity) {
			return "", fmt.Errorf("close job %s: %w", j.id, err)
		}
		// It need not show at once, and is not posted twice; refused, it may have ended
		// by an earlier try.
		read, readErr := j.pleo.AwaitJob(ctx, j.id.String(), pleo.ShowPatience, func(read pleo.Job) bool { return read.Status.Final() })
		if readErr != nil {
			return "", fmt.Errorf("read job %s after its closing event: %w", j.id, readErr)
		}
		switch {
		case err != nil && !read.Status.Final():
			return "", fmt.Errorf("close job %s: %w", j.id, err)
		case err != nil:
			did = fmt.Sprintf("the job was found %s at Pleo", read.Status)
		case !read.Status.Final():
			return "", endpoint.Refuse("503", fmt.Sprintf("the event %s was posted, and job %s is still %s at Pleo: look again later", event.Event, j.id, read.Status))
		default:
			did = fmt.Sprintf("the event %s posted", event.Event)
		}
	default:
		return "", nil
	}
	j.logger.Info().Str("did", did).Msg(logevent.JobMended)
	return did, nil
}
