package endtoend

import (
	"testing"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/services/simulator"
)

func TestJobsRunFromEventToCompletion(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 1, Jobs: 10, ItemsPerJob: 250, Companies: 5})
	to := &book{}
	in.fetcher()
	in.consumer(to)
	var jobs []uuid.UUID
	for _, j := range in.upstream.Snapshot().Jobs {
		jobs = append(jobs, j.ID)
		in.publish(j.ID)
	}
	for job, state := range in.ends(jobs...) {
		if state.GetPhase() != ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED {
			t.Errorf("job %s is %s: %s", job, state.GetPhase(), state.GetReason())
		}
	}
	for _, j := range in.upstream.Snapshot().Jobs {
		if j.Status != "completed" || j.OpenAtClose != 0 {
			t.Errorf("job %s at Pleo is %s, %d open at close, events %v", j.ID, j.Status, j.OpenAtClose, j.Events)
		}
	}
	if n := len(to.deliveries()); n != 2500 {
		t.Errorf("%d deliveries, want 2500", n)
	}
}
