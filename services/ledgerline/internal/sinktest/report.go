package sinktest

import (
	"fmt"
	"io"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// Result is how a check ended.
type Result string

// The results. Skipped is a check that could not be made, with the reason; it
// fails nothing.
const (
	Pass    Result = "pass"
	Warning Result = "warning"
	Fail    Result = "fail"
	Skipped Result = "skipped"
)

// Check is one situation and how the sink stood it.
type Check struct {
	Name   string `json:"name"`
	Asks   string `json:"asks"`
	Result Result `json:"result"`
	// Found is what the sink did, or why it was not asked.
	Found string `json:"found"`
	// Cost is what a sink that does not stand this costs in production.
	Cost string `json:"cost"`
}

// Report is a whole run.
type Report struct {
	Sink      string  `json:"sink"`
	CompanyID string  `json:"companyId"`
	Checks    []Check `json:"checks"`
	Passed    int     `json:"passed"`
	Warnings  int     `json:"warnings"`
	Failed    int     `json:"failed"`
	Skipped   int     `json:"skipped"`
	// OK: nothing failed.
	OK bool `json:"ok"`
}

func (r *Report) add(c Check) {
	r.Checks = append(r.Checks, c)
	switch c.Result {
	case Pass:
		r.Passed++
	case Warning:
		r.Warnings++
	case Fail:
		r.Failed++
	case Skipped:
		r.Skipped++
	}
	r.OK = r.Failed == 0
}

// writeCheck tells one check in two or three lines. The cost stands under each of
// them: where a check passed it is what was spared.
func writeCheck(w io.Writer, c Check) {
	const indent = "          "
	fmt.Fprintf(w, "%-8s  %s: %s\n%s%s\n", c.Result, c.Name, c.Asks, indent, c.Found)
	switch c.Result {
	case Warning, Fail:
		fmt.Fprintf(w, "%sin production: %s\n", indent, c.Cost)
	default:
		fmt.Fprintf(w, "%swithout it: %s\n", indent, c.Cost)
	}
}

func writeSum(w io.Writer, r *Report) {
	fmt.Fprintf(w, "\npassed %d, warnings %d, failed %d, skipped %d\n", r.Passed, r.Warnings, r.Failed, r.Skipped)
	for _, c := range r.Checks {
		if c.Result == Fail || c.Result == Warning {
			fmt.Fprintf(w, "  %-8s %s\n", c.Result, c.Name)
		}
	}
}

// finding is what a check came to.
type finding struct {
	result Result
	found  string
}

func passed(format string, args ...any) finding { return finding{Pass, fmt.Sprintf(format, args...)} }
func warned(format string, args ...any) finding {
	return finding{Warning, fmt.Sprintf(format, args...)}
}
func failed(format string, args ...any) finding { return finding{Fail, fmt.Sprintf(format, args...)} }
func skipped(format string, args ...any) finding {
	return finding{Skipped, fmt.Sprintf(format, args...)}
}

// worse is the worse of two findings, the first of equal ones.
func worse(a, b finding) finding {
	rank := map[Result]int{Skipped: 0, Pass: 1, Warning: 2, Fail: 3}
	if rank[b.result] > rank[a.result] {
		return b
	}
	return a
}

// said is an answer for a person.
func said(a sink.Answer) string {
	switch a.Outcome {
	case sink.Booked:
		if a.ExternalID == "" {
			return "booked, without an externalId"
		}
		return "booked as " + a.ExternalID
	case sink.Failed:
		return fmt.Sprintf("failed (%s): %s", a.FailureReasonType, a.FailureReason)
	case sink.Stale:
		return "stale epoch"
	}
	return a.Outcome.String() + ": " + a.Detail
}
