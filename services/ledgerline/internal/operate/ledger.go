package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// LedgerLine is one settled item.
type LedgerLine struct {
	CompanyID         string    `json:"companyId"`
	AccountingEntryID string    `json:"accountingEntryId"`
	JobID             string    `json:"jobId"`
	Position          uint32    `json:"position"`
	Epoch             uint64    `json:"epoch"`
	Outcome           string    `json:"outcome"`
	ExternalID        string    `json:"externalId"`
	At                time.Time `json:"at"`
}

// optionalJob is a job id that may be left out.
type optionalJob struct {
	ID string `arg:"" optional:"" name:"job" help:"Id of the export job; all jobs when left out."`
}

// Validate returns a fault where it is no id.
func (j optionalJob) Validate() config.Faults {
	if j.ID == "" {
		return nil
	}
	return jobArgument(j).Validate()
}

func (j optionalJob) id() (uuid.UUID, error) {
	if j.ID == "" {
		return uuid.Nil, nil
	}
	return subject.ParseID(j.ID)
}

// Ledger is `ledgerline ledger [JOB]`.
type Ledger struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  optionalJob `embed:""`
}

// Run prints every settled item, one a line, in the order in which they were
// recorded.
func (c *Ledger) Run(s *Session) error {
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		book, err := ledger.Open(ctx, js)
		if err != nil {
			return err
		}
		lines := json.NewEncoder(s.Runtime.Stdout)
		return book.Each(ctx, id, func(e *ledger.Entry) error {
			for _, settled := range e.Record.GetSettled() {
				entry, err := uuid.FromBytes(settled.GetEntryId())
				if err != nil {
					return fmt.Errorf("record %d of job %s: %w", e.Sequence, e.Job, err)
				}
				line := LedgerLine{
					CompanyID: e.Company.String(), AccountingEntryID: entry.String(), JobID: e.Job.String(),
					Position: settled.GetPosition(), Epoch: e.Record.GetEpoch(),
					Outcome:    strings.ToLower(strings.TrimPrefix(settled.GetOutcome().String(), "OUTCOME_")),
					ExternalID: settled.GetExternalId(), At: settled.GetAt().AsTime(),
				}
				if s.Output == OutputJSON {
					err = lines.Encode(line)
				} else {
					err = s.printf("%s %6d %s %s\n", line.At.Local().Format("01-02 15:04:05"), line.Position, line.AccountingEntryID,
						cut(strings.TrimSpace(line.Outcome+" "+line.ExternalID), tableWidth-59))
				}
				if err != nil {
					return fmt.Errorf("write the ledger: %w", err)
				}
			}
			return nil
		})
	})
}
