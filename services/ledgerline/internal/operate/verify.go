package operate

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/program"
)

// ProofView is what the ledger proves of a job.
type ProofView struct {
	JobID      string   `json:"jobId"`
	Items      int      `json:"items"`
	Booked     int      `json:"booked"`
	Failed     int      `json:"failed"`
	Missing    int      `json:"missing"`
	Doubled    int      `json:"doubled"`
	OutOfOrder int      `json:"outOfOrder"`
	OK         bool     `json:"ok"`
	Problems   []string `json:"problems,omitempty"`
}

// Verify is `ledgerline verify [JOB]`.
type Verify struct {
	NATS config.NATS `embed:""`
	Log  config.Log  `embed:""`
	Job  optionalJob `embed:""`
}

// Run proves a job, or all of them, from the ledger alone; the exit code is 1
// where a proof fails.
func (c *Verify) Run(s *Session) error {
	id, err := c.Job.id()
	if err != nil {
		return err
	}
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		book, err := ledger.Open(ctx, js)
		if err != nil {
			return err
		}
		proofs, err := verify(ctx, book, id)
		if err != nil {
			return err
		}
		var answer any = proofs
		if id != uuid.Nil {
			answer = proofs[0]
		}
		if err := s.print(answer, func() error { return s.printProofs(proofs) }); err != nil {
			return err
		}
		for _, p := range proofs {
			if !p.OK {
				return program.Exit(1)
			}
		}
		return nil
	})
}

func verify(ctx context.Context, book *ledger.Ledger, id uuid.UUID) ([]ProofView, error) {
	ids := []uuid.UUID{id}
	if id == uuid.Nil {
		ids = nil
		seen := map[uuid.UUID]bool{}
		err := book.Each(ctx, uuid.Nil, func(e *ledger.Entry) error {
			if !seen[e.Job] {
				seen[e.Job] = true
				ids = append(ids, e.Job)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	proofs := make([]ProofView, 0, len(ids))
	for _, id := range ids {
		p, err := book.Verify(ctx, id)
		if errors.Is(err, ledger.ErrUnknown) {
			return nil, fmt.Errorf("%w: nothing of it was worked here yet; `ledgerline jobs` lists the jobs that are here", err)
		}
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, ProofView{
			JobID: p.Job.String(), Items: p.Items, Booked: p.Booked, Failed: p.Failed, Missing: p.Missing,
			Doubled: p.Doubled, OutOfOrder: p.OutOfOrder, OK: p.OK(), Problems: p.Problems,
		})
	}
	return proofs, nil
}

func (s *Session) printProofs(proofs []ProofView) error {
	if len(proofs) == 0 {
		return s.printf("The ledger is empty.\n")
	}
	table := tabwriter.NewWriter(s.Runtime.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tITEMS\tBOOKED\tFAILED\tMISSING\tPROOF")
	for _, p := range proofs {
		verdict := "ok"
		if !p.OK {
			verdict = "NOT OK"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", p.JobID, short(uint64(p.Items)), short(uint64(p.Booked)), short(uint64(p.Failed)), short(uint64(p.Missing)), verdict)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, p := range proofs {
		for _, problem := range p.Problems {
			if err := s.printf("%s", wrap(p.JobID+": "+problem, "", tableWidth)); err != nil {
				return err
			}
		}
	}
	return nil
}
