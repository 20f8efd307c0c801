package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/terminal"
)

// maxProblems is how many problems are printed; the log has the rest.
const maxProblems = 10

// print writes the summary.
func (r report) print(s *operate.Session, c *Command, dir string) error {
	out := s.Runtime.Stdout
	if s.Output == operate.OutputJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		return nil
	}
	var b strings.Builder
	look := terminal.Of(out)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %s %s\n", look.Soft(fmt.Sprintf("%-11s", name)), fmt.Sprintf(format, args...))
	}
	if len(r.Problems) == 0 {
		fmt.Fprintf(&b, "\n%s%s %s\n\n", look.Mark(true), look.Good("Every item was booked once, in order, and every job is completed."), r.Took.Round(10*time.Millisecond))
	} else {
		fmt.Fprintf(&b, "\n%s%s\n\n", look.Mark(false), look.Bad(fmt.Sprintf("This run is NOT right: %d problems.", len(r.Problems))))
	}
	row("jobs", "%d webhooks taken, %d of %d jobs completed at Pleo", r.Webhooks, r.Completed, r.Jobs)
	row("items", "%d booked once each, %d sent again", r.Items, r.SentAgain)
	row("order", "%s", orderSentence(r))
	row("pages", "%d read; nothing of a job was sent before its last page was", r.Pages)
	row("retries", "%d of %d requests to Pleo were tried again, %d faults shown", r.Retried, r.Requests, r.Faults)
	row("takeovers", "%d", r.Takeovers)
	row("speed", "%.0f items/s, each one synced to disk before the next is sent", r.PerSecond)
	for i, p := range r.Problems {
		if i == maxProblems {
			fmt.Fprintf(&b, "  … and %d more\n", len(r.Problems)-i)
			break
		}
		fmt.Fprintf(&b, "  %s %s\n", look.Bad("!"), p)
	}
	fmt.Fprintf(&b, "\n%s\n", look.Strong("Where to look next"))
	switch {
	case len(r.Problems) > 0 || c.Keep != "":
		fmt.Fprintf(&b, "  the log            %s/demo.log\n  the sink's record  %s/booked.jsonl\n", dir, dir)
	default:
		b.WriteString("  keep the log and the sink's record   ledgerline demo --keep DIR\n")
	}
	b.WriteString("  trouble at Pleo                      ledgerline demo --jobs 50 --items 400 --faults storm\n")
	b.WriteString("  your own installation                ledgerline up --help\n")
	b.WriteString("  a Pleo to test against               ledgerline simulate\n")
	if _, err := fmt.Fprint(out, b.String()); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

func orderSentence(r report) string {
	for _, p := range r.Problems {
		if strings.Contains(p, "came ") {
			return "BROKEN"
		}
	}
	return "proved: in each job by date, then entry id, one at a time"
}
