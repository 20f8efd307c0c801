package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// dated are entries by the number in their id, each with the text of its date.
// "-" is an entry without a payload, "" one whose date is null.
var dated = map[int]string{
	9:  `"2026-02-28T23:30:00-05:00"`, // 04:30 in UTC, the next day
	8:  `"2026-03-01T07:59:59.999Z"`,
	3:  `"2026-03-01T10:00:00+02:00"`, // the same instant three times, by id
	5:  `"2026-03-01T08:00:00Z"`,
	7:  `"2026-03-01T08:00:00.000Z"`,
	6:  `"2026-03-01T08:00:00.25Z"`,
	2:  `"2026-03-01T08:00:00.5Z"`,
	1:  `"2026-03-01T09:00:00Z"`,
	4:  `"-"`,
	10: `null`,
	11: `"yesterday"`,
	12: `17`,
}

// byDate is their order by instant, then id; those without a date last, by id.
var byDate = []int{9, 8, 3, 5, 7, 6, 2, 1, 4, 10, 11, 12}

// datedEntries are the entries in the upstream's own order, which is by seed.
func datedEntries(seed int) []simulator.EntrySpec {
	var specs []simulator.EntrySpec
	for n, date := range dated {
		spec := simulator.EntrySpec{ID: entryID(n), NoPayload: date == `"-"`}
		if !spec.NoPayload {
			spec.Payload = json.RawMessage(fmt.Sprintf(`{"accountingEntryId":%q,"date":%s}`, spec.ID, date))
		}
		specs = append(specs, spec)
	}
	slices.SortFunc(specs, func(a, b simulator.EntrySpec) int { return int(a.ID[1])*seed%13 - int(b.ID[1])*seed%13 })
	return specs
}

func idsOf(numbers []int) []string {
	var ids []string
	for _, n := range numbers {
		ids = append(ids, entryID(n).String())
	}
	return ids
}

// Guards promise 2: order by date, whatever the upstream's order and page size,
// and by entry id where a date is the same, missing or unreadable. Traps 15, 16.
func TestItemsAreSentInOrderOfDate(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 1})
	in.fetcher(func(c *fetcher.Config) {
		c.Pleo = in.client(func(c *pleo.Config) { c.PageSize = 5 })
	})
	to := &book{}
	in.consumer(to)
	var jobs []uuid.UUID
	for seed := range 3 {
		// A company each: entries that another job of the company has booked would
		// not be sent.
		jobs = append(jobs, in.add(simulator.JobSpec{CompanyID: in.upstream.Company(seed), Entries: datedEntries(seed + 1)}))
	}
	in.publish(jobs...)
	in.completes(jobs...)
	for _, job := range jobs {
		if got := to.ids(job); !slices.Equal(got, idsOf(byDate)) {
			t.Errorf("job %s was sent as %v, want %v", job, got, idsOf(byDate))
		}
		to.once(in, job, len(byDate))
	}
	for _, d := range to.deliveries() {
		undated := d.Position > 8
		if (d.Date == nil) != undated {
			t.Errorf("entry %s has the date %v", d.AccountingEntryID, d.Date)
		}
		if hasItem := d.Item != nil; hasItem == (d.AccountingEntryID == entryID(4).String()) {
			t.Errorf("entry %s was sent with the payload %s", d.AccountingEntryID, d.Item)
		}
	}
	if n := len(in.log.Lines("dates missing")); n != 3 {
		t.Errorf("%d warnings about dates, want one a job", n)
	}
}

func TestItemsAreSentInOrderOfEntry(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 2})
	in.fetcher(orderEntry)
	to := &book{}
	in.consumer(to, payloadNone)
	job := in.add(simulator.JobSpec{Entries: datedEntries(5)})
	in.publish(job)
	in.completes(job)
	want := idsOf([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	if got := to.ids(job); !slices.Equal(got, want) {
		t.Errorf("sent as %v, want %v", got, want)
	}
	for _, d := range to.deliveries() {
		if d.Item != nil || d.Date != nil {
			t.Errorf("entry %s was sent with payload %s and date %v", d.AccountingEntryID, d.Item, d.Date)
		}
	}
	if n := in.upstream.Counters().Requests[simulator.OpListExportItems]; len(n) != 0 {
		t.Errorf("the payload was read: %v", n)
	}
}

// Guards promise 2 over crashes: each worker dies in the middle, and the items
// still come in one order.
func TestOrderHoldsOverTakeovers(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 3})
	in.fetcher()
	job := in.add(simulator.JobSpec{Entries: datedEntries(7)})
	to := &book{}
	in.publish(job)
	for kill := 1; kill <= 3; kill++ {
		var doomed *worker
		ready, stuck := make(chan struct{}), in.gate()
		dying := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
			<-ready
			to.Deliver(ctx, d)
			if int(d.Position) == 3*kill {
				doomed.die()
				stuck.pass(ctx)
			}
			return bookedAs(d)
		}}
		doomed = in.consumer(dying)
		close(ready)
		in.wait(stuck, "the worker's last item")
	}
	in.consumer(to)
	in.completes(job)
	// Each in-doubt item is sent twice in a row.
	var first []string
	doubled := 0
	for i, id := range to.ids(job) {
		if i > 0 && id == first[len(first)-1] {
			doubled++
			continue
		}
		first = append(first, id)
	}
	if !slices.Equal(first, idsOf(byDate)) || doubled != 3 {
		t.Errorf("sent as %v, %d twice; want %v, 3 twice", first, doubled, idsOf(byDate))
	}
	in.records(job)
}
