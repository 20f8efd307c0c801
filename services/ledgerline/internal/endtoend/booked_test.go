package endtoend

import (
	"context"
	"slices"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// Guards promise 4 over jobs: an entry that an earlier job of the company booked
// is not sent again but reported with that booking, and keeps its place; one that
// failed is sent again; another company's entry with the same id is another entry.
// Trap 2.
func TestBookedOnceOverJobs(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 70})
	in.fetcher(orderEntry)
	to := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.AccountingEntryID == entryID(3).String() && d.Total == 5 {
			return sink.Answer{Outcome: sink.Failed, FailureReason: "blocked", FailureReasonType: "vendor_unknown"}
		}
		return sink.Answer{Outcome: sink.Booked, ExternalID: d.JobID[:8] + "-" + d.AccountingEntryID[:4], ExternalURL: "https://erp.example/" + d.AccountingEntryID[:4]}
	}}
	in.consumer(to)
	all := entries(8)
	first := in.add(simulator.JobSpec{Entries: all[:5]}) // 1 to 5
	in.publish(first)
	in.ends(first)
	second := in.add(simulator.JobSpec{Entries: all[1:]}) // 2 to 8
	other := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(9), Entries: all[:2]})
	in.publish(second, other)
	in.completes(second, other)
	if got, want := to.ids(second), idsOf([]int{3, 6, 7, 8}); !slices.Equal(got, want) {
		t.Errorf("the second job sent %v, want %v", got, want)
	}
	if got, want := to.ids(other), idsOf([]int{1, 2}); !slices.Equal(got, want) {
		t.Errorf("the other company's job sent %v, want %v", got, want)
	}
	for _, d := range to.deliveries() {
		if d.JobID == second.String() && (entryID(int(d.Position)+1).String() != d.AccountingEntryID || d.Total != 7 || d.Attempt != 1) {
			t.Errorf("entry %s was sent at position %d of %d, attempt %d", d.AccountingEntryID, d.Position, d.Total, d.Attempt)
		}
	}
	for _, it := range in.job(second).Items {
		booker := second
		if slices.Contains(idsOf([]int{2, 4, 5}), it.AccountingEntryID.String()) {
			booker = first
		}
		want := booker.String()[:8] + "-" + it.AccountingEntryID.String()[:4]
		if it.Status != simulator.ItemSuccessful || it.ExternalID != want || it.ExternalURL == "" || it.ExportedAt.IsZero() {
			t.Errorf("entry %s is %s as %q (%s) of %s, want successful as %q", it.AccountingEntryID, it.Status, it.ExternalID, it.ExternalURL, it.ExportedAt, want)
		}
	}
	in.records(second)

	// A third job has nothing left to send at all.
	third := in.add(simulator.JobSpec{Entries: all})
	in.publish(third)
	in.completes(third)
	if got := to.ids(third); len(got) != 0 {
		t.Errorf("the third job sent %v", got)
	}
}
