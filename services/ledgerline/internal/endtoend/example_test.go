package endtoend

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// documentedItems is the answer that the upstream's own documentation shows, byte
// for byte: asked for with an id in mixed case, an endCursor on its last page.
//
//go:embed testdata/export-job-items.json
var documentedItems string

const documentedJob = "8eb648ab-464b-42a0-BA17-eda703657e33"

func TestDocumentedExampleRuns(t *testing.T) {
	t.Parallel()
	var example struct {
		Data []struct {
			AccountingEntryID uuid.UUID `json:"accountingEntryId"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(documentedItems), &example); err != nil {
		t.Fatal(err)
	}
	var byEntry []string
	var specs []simulator.EntrySpec
	for i, item := range example.Data {
		byEntry = append(byEntry, item.AccountingEntryID.String())
		// The documented order is that of the dates here.
		payload := json.RawMessage(`{"accountingEntryId":"` + item.AccountingEntryID.String() + `","date":"2026-04-0` + string(rune('1'+i)) + `"}`)
		specs = append(specs, simulator.EntrySpec{ID: item.AccountingEntryID, Payload: payload})
	}
	byDate := slices.Clone(byEntry)
	slices.Sort(byEntry)
	for name, c := range map[string]struct {
		order   fetcher.Order
		payload consumer.Payload
		want    []string
	}{
		"entry and none": {fetcher.OrderEntry, consumer.PayloadNone, byEntry},
		"date and full":  {fetcher.OrderDate, consumer.PayloadFull, byDate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 40})
			job := in.add(simulator.JobSpec{ID: uuid.MustParse(documentedJob), Entries: specs})
			// Once, for the drain: later the upstream shows what was reported.
			if err := in.upstream.Override(simulator.Override{
				Method: http.MethodGet, Path: "/v3/export-jobs/" + documentedJob + "/items", Body: documentedItems, Times: 1,
			}); err != nil {
				t.Fatal(err)
			}
			in.fetcher(func(f *fetcher.Config) { f.Order = c.order })
			to := &book{}
			in.consumer(to, func(k *consumer.Config) { k.Payload = c.payload })
			in.publishRaw("", []byte(`{"jobId":"`+documentedJob+`"}`))
			in.completes(job)
			to.once(in, job, 4)
			if got := to.ids(job); !slices.Equal(got, c.want) {
				t.Errorf("sent as %v, want %v", got, c.want)
			}
			for _, d := range to.deliveries() {
				if d.JobID != "8eb648ab-464b-42a0-ba17-eda703657e33" || (d.Item != nil) != (c.payload == consumer.PayloadFull) {
					t.Errorf("sent for job %s with payload %s", d.JobID, d.Item)
				}
			}
		})
	}
}

func mustMarshal(t *testing.T, m proto.Message) string {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
