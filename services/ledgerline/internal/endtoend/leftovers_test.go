package endtoend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Ended jobs, whatever their end, leave no consumer, no item, no manifest, no event
// and no metric series behind. (That no goroutine and no file is left TestMain sees.)
func TestEndedJobsLeaveNothing(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 130})
	in.add(simulator.JobSpec{}) // never announced, so never here
	ends := map[string]uuid.UUID{}
	for n, name := range []string{"completed", "failed", "cancelled", "empty", "expired", "page fault"} {
		spec := simulator.JobSpec{CompanyID: in.upstream.Company(n), Items: items(30)}
		switch name {
		case "empty":
			spec.Items = items(0)
		case "expired":
			spec.ExpiresIn, spec.CreatedAt = 3, time.Now()
		}
		ends[name] = in.add(spec)
	}
	bad := ends["page fault"]
	if err := in.upstream.Override(simulator.Override{
		Method: "GET", Path: "/v3/export-jobs/" + bad.String() + "/items", Body: `{"data":[],"pagination":{"hasNextPage":true}}`,
	}); err != nil {
		t.Fatal(err)
	}
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		switch uuid.MustParse(d.JobID) {
		case ends["failed"]:
			return sink.Answer{Outcome: sink.Failed, FailureReason: "no", FailureReasonType: "tag_unknown"}
		case ends["cancelled"]:
			if d.Position == 5 {
				if err := in.upstream.Cancel(ends["cancelled"]); err != nil {
					t.Error(err)
				}
			}
		case ends["expired"]:
			return sink.Answer{Outcome: sink.Retry}
		}
		return bookedAs(d)
	}}
	set := metrics.New("consumer", "test")
	workers := []*worker{in.fetcher(), in.fetcher(), in.consumer(to, shows(set)), in.consumer(to)}
	for _, job := range ends {
		in.publish(job)
	}
	for _, job := range ends {
		in.ends(job)
	}
	for name := range in.figures(set, map[string]float64{"ledgerline_jobs_waiting": 0, "ledgerline_jobs_active": 0, "ledgerline_lag_items": 0}) {
		if strings.Contains(name, "job_id=") {
			t.Errorf("the series %s is left", name)
		}
	}
	for _, w := range workers {
		w.stop()
	}
	in.nothingLeft()
}
