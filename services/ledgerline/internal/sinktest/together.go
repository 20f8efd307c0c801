package sinktest

import (
	"context"
	"fmt"
	"sync"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// jobsTogether is how many jobs are sent at the same time, and itemsTogether how
// many items of each, one after another: enough for a sink's handlers to meet, and
// few enough bookings to clean up.
const jobsTogether, itemsTogether = 8, 3

// jobsAtOnce sends several jobs at the same time, each in order.
func (s *suite) jobsAtOnce(ctx context.Context) finding {
	var (
		mu      sync.Mutex
		worst   = finding{}
		put     int
		entryOf = map[string]string{}
		running sync.WaitGroup
	)
	judge := func(d sink.Delivery, first, a sink.Answer) {
		mu.Lock()
		defer mu.Unlock()
		if first.Outcome == sink.Retry {
			put++
		}
		f := mustBook(a)
		if other, taken := entryOf[a.ExternalID]; taken && a.ExternalID != "" && other != d.AccountingEntryID {
			f = failed("two entries were both booked as %s", a.ExternalID)
		}
		entryOf[a.ExternalID] = d.AccountingEntryID
		worst = worse(worst, f)
	}
	for job := range jobsTogether {
		running.Go(func() {
			of := s.item(fmt.Sprintf("job %d", job)).JobID
			for i := range itemsTogether {
				d := s.item(fmt.Sprintf("job %d item %d", job, i))
				d.JobID, d.Position, d.Total = of, uint32(i+1), itemsTogether
				first := s.send(ctx, d)
				a := first
				if d.Attempt++; first.Outcome == sink.Retry {
					a = s.settle(ctx, &d)
				}
				judge(d, first, a)
			}
		})
	}
	running.Wait()
	switch {
	case worst.result == Fail:
		return worst
	case put > 0:
		return warned("%d of %d items were put off and booked at a later try", put, jobsTogether*itemsTogether)
	}
	return passed("%d items of %d jobs, each booked as itself", jobsTogether*itemsTogether, jobsTogether)
}
