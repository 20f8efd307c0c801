package fetcher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// A job whose drain fails waits longer each time; one that NATS held up goes on at
// once.
func TestHandBackGrowsOnlyWhereTheJobIsAtFault(t *testing.T) {
	t.Parallel()
	fault := errors.New("the job's own")
	for _, c := range []struct {
		name      string
		reason    error
		delivered uint64
		want      time.Duration
	}{
		{"first", fault, 1, time.Second},
		{"fourth", fault, 4, 8 * time.Second},
		{"hundredth", fault, 100, 30 * time.Second},
		{"no answer", fmt.Errorf("seal: %w", context.DeadlineExceeded), 100, time.Second},
		{"no answer of Pleo's", fmt.Errorf("%w: %w", errLater, context.DeadlineExceeded), 4, 8 * time.Second},
	} {
		if got := handBackDelay(natstest.Delivered{Times: c.delivered}, c.reason); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
