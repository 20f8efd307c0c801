package tracing_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/tracing"
)

func TestReadsAndWritesTraceparents(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for header, want := range map[string]string{
		good:                               good,
		good[:53] + "00":                   good[:53] + "00",
		good[:53] + "ff":                   good, // flags that are not known are not passed on
		"cc" + good[2:] + "-what":          good, // a later version
		"00" + good[2:] + "-what":          "",
		"ff" + good[2:]:                    "",
		"cc" + good[2:] + "what":           "",
		strings.ToUpper(good):              "",
		good[:54]:                          "",
		"":                                 "",
		strings.Replace(good, "-", "_", 1): "",
		"00-" + strings.Repeat("0", 32) + good[35:]:                "",
		good[:36] + strings.Repeat("0", 16) + "-01":                "",
		"cc" + good[2:] + "-" + strings.Repeat("x", 1_000):         "",
		"00-4bf92f3577b34da6a3ce929d0e0e473\n-00f067aa0ba902b7-01": "",
		"0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":  "",
	} {
		c, ok := tracing.Parse(header)
		if ok != (want != "") || ok && c.String() != want {
			t.Errorf("%q is read as %v, %q", header, ok, c.String())
		}
	}
}

func TestAJobsTraceFollowsFromItsID(t *testing.T) {
	t.Parallel()
	job, other := uuid.New(), uuid.New()
	ctx := tracing.Continue(context.Background(), job, "")
	if tracing.Traceparent(ctx) != "" {
		t.Error("a span that nobody began")
	}
	item := func(of uuid.UUID, run, position uint32) string {
		return tracing.Item{Job: of, Run: run, Position: position}.Of(tracing.From(tracing.Continue(context.Background(), of, ""))).String()
	}
	seen := map[string]bool{}
	for _, one := range []string{item(job, 1, 1), item(job, 1, 2), item(job, 2, 1), item(other, 1, 1)} {
		c, ok := tracing.Parse(one)
		if !ok || c.Flags != 0 || seen[one] {
			t.Errorf("%q: %v, seen %v", one, ok, seen[one])
		}
		seen[one] = true
	}
	first, _ := tracing.Parse(item(job, 1, 1))
	again, _ := tracing.Parse(item(job, 2, 7))
	if first.Trace != again.Trace || !seen[item(job, 1, 1)] {
		t.Error("one job, two traces")
	}
	// A trace that has begun is gone on with, and so is whether it is recorded.
	const begun = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	c := tracing.Item{Job: job, Run: 1, Position: 1}.Of(tracing.From(tracing.Continue(context.Background(), job, begun)))
	if got := c.String(); got[:36] != begun[:36] || got[36:52] == begun[36:52] || got[52:] != "-01" {
		t.Errorf("%s goes on with %s", got, begun)
	}
}
