package endtoend

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// While the sink takes an item in vain, the job's state says which and why; when
// it goes on, that is gone.
func TestAJobSaysWhatHoldsItUp(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 3, Jobs: 1, ItemsPerJob: 5})
	var cured atomic.Bool
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 3 && !cured.Load() {
			return sink.Answer{Outcome: sink.Refused, Detail: "401: the token has expired"}
		}
		return bookedAs(d)
	}}
	hold := in.gate()
	last := to.answer
	to.answer = func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 5 {
			hold.pass(ctx)
		}
		return last(ctx, d)
	}
	in.fetcher()
	in.consumer(to)
	job := in.upstream.Snapshot().Jobs[0].ID
	in.publish(job)
	state := in.until(job, "held up", func(s *ledgerlinev1.JobState) bool { return s.GetReason() != "" })
	if reason := state.GetReason(); state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE ||
		!strings.HasPrefix(reason, "item 3 was sent 3 times") || !strings.HasSuffix(reason, "401: the token has expired") {
		t.Errorf("%s: %q", state.GetPhase(), reason)
	}
	cured.Store(true)
	in.wait(hold, "the last item")
	in.until(job, "free again", func(s *ledgerlinev1.JobState) bool {
		return s.GetReason() == "" && s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE
	})
	hold.open()
	in.completes(job)
}
