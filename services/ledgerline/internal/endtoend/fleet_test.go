package endtoend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	fleetCompanies = 100
	fleetItems     = 10
	// fleetReason is what the sink says of the items it refuses.
	fleetReason = "Vendor blocked in the accounting system"
)

// refusedBySink picks a tenth of the entries, the same in every run.
func refusedBySink(entry string) bool {
	return strings.HasSuffix(entry, "0") || strings.HasSuffix(entry, "1f")
}

// A hundred companies, two gateways, two fetchers and three consumers, webhooks
// and polling both on, a tenth of the items refused by the sink, faults at Pleo.
// The judge compares the simulator's final state with the sink's own record and
// asks nobody else.
func TestAFleetServesAHundredCompanies(t *testing.T) {
	t.Parallel()
	faults, err := simulator.ParseFaults("some")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 77, Faults: faults, Companies: fleetCompanies, Webhook: d.webhooks()})
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if refusedBySink(d.AccountingEntryID) {
			return sink.Answer{Outcome: sink.Failed, FailureReason: fleetReason, FailureReasonType: "vendor_unknown"}
		}
		return bookedAs(d)
	}}
	for range 2 {
		d.gateway(in, polls(2*time.Second))
		in.fetcher(startsNothing)
	}
	for range 3 {
		in.consumer(to)
	}
	began := in.upstream.Now().Add(-time.Minute)
	jobs := make([]uuid.UUID, 0, fleetCompanies)
	for n := range fleetCompanies {
		jobs = append(jobs, in.add(simulator.JobSpec{
			CompanyID: in.upstream.Company(n), Items: items(fleetItems), Status: simulator.JobPending,
			CreatedAt: began.Add(time.Duration(n) * 100 * time.Millisecond),
			Quiet:     n%4 == 3, // announced by nobody: only the poll finds it
		}))
	}
	in.ends(jobs...)
	in.startedOnce()

	answered := map[string]sink.Outcome{}
	for _, d := range to.deliveries() {
		key := d.JobID + ":" + d.AccountingEntryID
		if d.Attempt != 1 {
			t.Errorf("entry %s of job %s was sent %d times without a crash", d.AccountingEntryID, d.JobID, d.Attempt)
		}
		answered[key] = sink.Booked
		if refusedBySink(d.AccountingEntryID) {
			answered[key] = sink.Failed
		}
	}
	refused := 0
	for _, id := range jobs {
		j := in.job(id)
		if j.OpenAtClose != 0 {
			t.Errorf("job %s was closed with %d open items", id, j.OpenAtClose)
		}
		if events := eventsOf(j); len(events) != 2 {
			t.Errorf("job %s had the events %v, want started and one closing event", id, events)
		}
		for _, item := range j.Items {
			switch answered[id.String()+":"+item.AccountingEntryID.String()] {
			case sink.Booked:
				if item.Status != "successful" || item.ExternalID == "" {
					t.Errorf("entry %s was booked and is %s at Pleo, externalId %q", item.AccountingEntryID, item.Status, item.ExternalID)
				}
			case sink.Failed:
				refused++
				if item.Status != "failed" || item.FailureReason != fleetReason || item.FailureReasonType != "vendor_unknown" {
					t.Errorf("entry %s was refused and is %s at Pleo: %q (%s)", item.AccountingEntryID, item.Status, item.FailureReason, item.FailureReasonType)
				}
			default:
				t.Errorf("entry %s of job %s never reached the sink", item.AccountingEntryID, id)
			}
		}
	}
	if all := fleetCompanies * fleetItems; len(answered) != all || refused == 0 || refused > all/5 {
		t.Errorf("%d items reached the sink, %d of them refused; want %d and about a tenth", len(answered), refused, all)
	}
}
