//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// waits are times in rising order.
type waits []time.Duration

// share is the wait that a share of all does not exceed.
func (w waits) share(of float64) time.Duration {
	if len(w) == 0 {
		return 0
	}
	return w[min(int(of*float64(len(w))), len(w)-1)]
}

func (w waits) String() string {
	if len(w) == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %.1f s, p99 %.1f s, longest %.1f s (%d jobs)",
		w.share(0.5).Seconds(), w.share(0.99).Seconds(), w[len(w)-1].Seconds(), len(w))
}

// MarshalJSON gives the shares in seconds.
func (w waits) MarshalJSON() ([]byte, error) {
	longest := time.Duration(0)
	if len(w) > 0 {
		longest = w[len(w)-1]
	}
	return json.Marshal(map[string]any{
		"jobs": len(w), "p50Seconds": w.share(0.5).Seconds(), "p99Seconds": w.share(0.99).Seconds(), "longestSeconds": longest.Seconds(),
	})
}

// MarshalJSON gives the counts.
func (t tally) MarshalJSON() ([]byte, error) { return json.Marshal(t.count()) }

// print tells people.
func (v *verdict) print(to io.Writer) {
	fmt.Fprintf(to, "%s (%s)\n", v.Command, v.Took.Round(time.Second))
	fmt.Fprintf(to, "faults         %s\n", v.Faults)
	fmt.Fprintf(to, "work           %d jobs, %d items, %d of them settled by the sink\n", v.Jobs, v.Items, v.Settled)
	fmt.Fprintf(to, "takeovers      %d, of which %d without a fault of the worker's\n", v.Takeovers, v.Unexplained)
	fmt.Fprintf(to, "sent again     %d after a takeover, %d in place behind a cut, %d arrived late\n", v.SentAgain, v.InPlace, v.Late)
	fmt.Fprintf(to, "refused        %d by their epoch\n", v.Refused)
	fmt.Fprintf(to, "kill to item   %s\n", v.Resumed)
	for _, c := range classes {
		fmt.Fprintf(to, "%-16s%d\n", c, v.Broken[c])
		for _, problem := range v.Problems[c] {
			fmt.Fprintf(to, "  %s\n", problem)
		}
	}
}
