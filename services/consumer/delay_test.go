package consumer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// A job that fails by itself waits longer each time; one that NATS held up, or that
// got on, goes on at once.
func TestHandBackGrowsOnlyWhereTheJobIsAtFault(t *testing.T) {
	t.Parallel()
	fault := errors.New("the job's own")
	noAnswer := fmt.Errorf("record position 3: %w", context.DeadlineExceeded)
	for _, c := range []struct {
		name      string
		reason    error
		delivered uint64
		tenure    *ledger.Tenure
		begun     uint32
		want      time.Duration
	}{
		{"first", fault, 1, &ledger.Tenure{}, 0, time.Second},
		{"fourth", fault, 4, &ledger.Tenure{}, 0, 8 * time.Second},
		{"hundredth", fault, 100, &ledger.Tenure{}, 0, 30 * time.Second},
		{"got on", fault, 100, &ledger.Tenure{Position: 7}, 6, time.Second},
		{"stood still", fault, 100, &ledger.Tenure{Position: 7}, 7, 30 * time.Second},
		{"no answer", noAnswer, 100, &ledger.Tenure{}, 0, time.Second},
		{"no answer to the claim", noAnswer, 100, nil, 0, time.Second},
		{"no place", errLater, 1, nil, 0, heldDelay},
	} {
		j := &job{msg: natstest.Delivered{Times: c.delivered}, tenure: c.tenure, begun: c.begun}
		if got := j.handBackDelay(c.reason); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
