package pleo

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// maxFuzzDepth: json.Valid gives up at ten thousand levels, our reader counts
// from a level below; such text is left out.
const maxFuzzDepth = 5000

// checkPage holds for any body: a page and a page fault are valid JSON, any other
// error is not; what is handed on is in order.
func checkPage[T any](t *testing.T, body []byte, row func(json.RawMessage) (T, error)) page[T] {
	t.Helper()
	if bytes.Count(body, []byte("[")) > maxFuzzDepth || bytes.Count(body, []byte("{")) > maxFuzzDepth {
		t.Skip()
	}
	p, err := readPage(bytes.NewReader(body), row)
	if judged := err == nil || IsPageFault(err); judged != json.Valid(body) {
		t.Errorf("valid JSON: %t, and the reader says %v", json.Valid(body), err)
	}
	if err == nil && p.hasNext && p.end == "" {
		t.Error("a page to follow without a cursor")
	}
	if err != nil && p.rows != nil {
		t.Error("rows beside an error")
	}
	return p
}

func FuzzJobItemsPage(f *testing.F) {
	example, err := os.ReadFile("testdata/export-job-items.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(pageJSON("AA=", jobItemJSON(entryA))))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, item := range checkPage(t, body, jobItemRow(jobID)).rows {
			if entry, ok := normalID(item.AccountingEntryID); !ok || entry != item.AccountingEntryID || item.JobID != jobID || item.Status == "" {
				t.Errorf("item %+v", item)
			}
		}
	})
}

func FuzzExportItemsPage(f *testing.F) {
	f.Add([]byte(pageJSON("", `{"accountingEntryId":"`+entryA+`","date":"2025-12-10T15:46:34Z","amount":1.10}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, item := range checkPage(t, body, exportItemRow).rows {
			if entry, ok := normalID(item.AccountingEntryID); !ok || entry != item.AccountingEntryID {
				t.Errorf("id %q", item.AccountingEntryID)
			}
			if !bytes.Contains(body, item.Raw) || !json.Valid(item.Raw) {
				t.Errorf("raw %q is not as received", item.Raw)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:00 GMT")
	now := time.Date(2026, 10, 21, 7, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if d := retryAfter(h, now); d < 0 || d > MaxRetryAfter {
			t.Errorf("%q at %q gives %s", value, date, d)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"2025-12-10T15:46:34.123+02:00", "2025-12-10", "2025-12-10T15:46"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseDate(s)
		if !ok {
			if !got.IsZero() {
				t.Errorf("%q: refused, and yet %s", s, got)
			}
			return
		}
		// What we read can be written and read again by anyone, as the same instant.
		text := got.Format(time.RFC3339Nano)
		again, ok := parseDate(text)
		if !ok || !again.Equal(got) || !strings.HasSuffix(text, "Z") {
			t.Errorf("%q was read as %s, which is then %s %t", s, text, again, ok)
		}
	})
}

// The single export item: whatever its other members are, it keeps its bytes, and
// a date that cannot be read does not cost the item.
func FuzzExportItem(f *testing.F) {
	for _, s := range []string{
		`{"accountingEntryId":"` + entryA + `","date":"2025-12-10T15:46:34Z","amount":1.10}`, `{"accountingEntryId":"` + entryA + `","date":7}`,
		`{"accountingEntryId":"` + entryA + `","date":null}`, `{"accountingEntryId":7}`, `{}`, `[]`, `null`, `{"date":"9999-12-31T23:59:59-23:59","accountingEntryId":"` + entryA + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			t.Skip("the page's reader hands on valid JSON only")
		}
		item, err := exportItemRow(raw)
		if err != nil {
			if !IsPageFault(err) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(item.Raw, raw) || item.Date != nil && (item.Date.IsZero() || item.DateText == "") {
			t.Errorf("item %+v of %q", item, raw)
		}
	})
}

func FuzzJob(f *testing.F) {
	id := `"id":"` + jobID + `","companyId":"` + entryA + `"`
	for _, s := range []string{
		`{` + id + `,"status":"in_progress","expiresIn":3600,"lastUpdatedAt":"2026-01-01T00:00:00Z"}`, `{` + id + `,"status":"x","expiresIn":9223372036854775807}`,
		`{` + id + `,"status":"pending","numberOfItems":-1,"lastUpdatedAt":"9999-12-31T23:59:59Z"}`, `{"id":7}`, `{}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var w wireJob
		if asShape(json.Unmarshal(raw, &w)) != nil {
			return
		}
		job, err := w.job()
		switch {
		case err != nil && !IsPageFault(err):
			t.Errorf("an error of no kind: %v", err)
		case err == nil && (job.Status == "" || job.NumberOfItems < 0 || job.ExpiresIn < 0 || job.Deadline().IsZero() || !job.Deadline().After(job.LastUpdatedAt)):
			t.Errorf("job %+v, deadline %s", job, job.Deadline())
		}
	})
}

// A 200 is not yet an accepted batch: each item of the request is accepted,
// refused or unanswered, and nothing of it is left out.
func FuzzUpdateAnswer(f *testing.F) {
	for _, s := range []string{
		`{"data":[` + jobItemJSON(entryA) + `],"errors":[]}`, `{"data":[],"errors":[{"accountingEntryId":"` + entryA + `","type":"T","message":"m"}]}`,
		`{"data":null}`, `{}`, `[]`, `{"errors":[{}]}`,
	} {
		f.Add([]byte(s))
	}
	batch := []wireItemUpdate{{AccountingEntryID: entryA, Status: ItemSuccessful}}
	f.Fuzz(func(t *testing.T, body []byte) {
		result, err := readUpdateResult(bytes.NewReader(body), jobID, batch)
		if err != nil {
			return
		}
		named := slices.Contains(result.Unanswered, entryA)
		for _, i := range result.Updated {
			named = named || i.AccountingEntryID == entryA
		}
		for _, e := range result.Errors {
			named = named || e.AccountingEntryID == entryA
		}
		if !named {
			t.Errorf("%q: the item that was reported is nowhere in %+v", body, result)
		}
	})
}
