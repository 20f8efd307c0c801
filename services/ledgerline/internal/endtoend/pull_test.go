package endtoend

import (
	"context"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// The next items come while there are still some at hand: a lane that runs out waits
// for the server, and writes a record for the send alone of the item after it.
func TestTheNextItemsComeBeforeTheLaneRunsOut(t *testing.T) {
	t.Parallel()
	const (
		pulled = 64  // the first pull
		total  = 200 // more than two
	)
	in := install(t, simulator.Config{Seed: 192})
	in.fetcher(orderEntry)
	job := in.add(simulator.JobSpec{Entries: entries(total)})
	ctx := in.bounded("the second pull did not come")
	to := &book{}
	to.answer = func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position != pulled-1 {
			return bookedAs(d)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			info, err := in.js.Consumer(ctx, subject.StreamPipe, subject.DurableJob(job))
			if err != nil {
				t.Error(err)
				return bookedAs(d)
			}
			if info.CachedInfo().NumPending == total-2*pulled {
				return bookedAs(d)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Errorf("%v: %d items are still with the server", context.Cause(ctx), info.CachedInfo().NumPending)
				return bookedAs(d)
			}
		}
	}
	in.consumer(to, payloadNone)
	in.publish(job)
	in.completes(job)
	to.once(in, job, total)
}
