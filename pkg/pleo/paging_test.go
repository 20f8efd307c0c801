package pleo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// pagesByCursor serves the page of each cursor; "" is the first.
func pagesByCursor(t *testing.T, pages map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := pages[r.URL.Query().Get("after")]
		if !ok {
			t.Errorf("asked for %q", r.URL.RawQuery)
		}
		answer(w, 200, body)
	}
}

// The upstream's own example, asked for as its documentation does: with capitals
// in the id (trap 20), an endCursor on the last page (trap 11), null failure
// types (trap 26).
func TestDocumentedExample(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/export-job-items.json")
	if err != nil {
		t.Fatal(err)
	}
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v3/export-jobs/"+jobID+"/items" || r.URL.RawQuery != "limit=100" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, 200, string(body))
	})
	var all []JobItem
	stats, err := u.EachJobItem(t.Context(), "8eb648ab-464b-42a0-BA17-eda703657e33", func(items []JobItem) error {
		all = append(all, items...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []JobItem
	for _, entry := range []string{entryA, entryB, "9ea2ef81-4d73-460d-bbb4-ccf3da6f6f61", "0c76ea71-aaaa-4ece-bb68-e1166ccaea04"} {
		want = append(want, JobItem{JobID: jobID, AccountingEntryID: entry, Status: ItemPending})
	}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("items %+v", all)
	}
	if stats != (PageStats{Pages: 1, Rows: 4, Total: 4}) {
		t.Errorf("stats %+v", stats)
	}
}

// Only hasNextPage ends a drain: short pages, empty pages and absent totals do
// not (traps 11, 12, 17). The next request says after (trap 13), with the cursor
// escaped (trap 19), an explicit limit (trap 17) and no status filter (trap 14).
func TestDrainFollowsHasNextPageOnly(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"":           pageJSON("AAAA=B~C=2", jobItemJSON(entryA)),
		"AAAA=B~C=2": pageJSON("EMPTY="),
		"EMPTY=":     pageJSON("AAAA=B~C=3"),
		"AAAA=B~C=3": pageJSON("AAAA=B~C=4", jobItemJSON(entryB), jobItemJSON(entryA)),
		// The last page repeats a cursor: nobody follows it (trap 11).
		"AAAA=B~C=4": `{"data":[],"pagination":{"hasNextPage":false,"endCursor":"AAAA=B~C=4"}}`,
	}
	var queries []string
	next := pagesByCursor(t, pages)
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		next(w, r)
	}, func(cfg *Config) { cfg.PageSize = 2 })
	all, stats, err := drainItems(t.Context(), u)
	if err != nil || len(all) != 3 || stats != (PageStats{Pages: 5, Rows: 3, Total: -1}) {
		t.Errorf("%d items, %+v, %v", len(all), stats, err)
	}
	want := []string{
		"limit=2", "after=AAAA%3DB~C%3D2&limit=2", "after=EMPTY%3D&limit=2",
		"after=AAAA%3DB~C%3D3&limit=2", "after=AAAA%3DB~C%3D4&limit=2",
	}
	if !reflect.DeepEqual(queries, want) {
		t.Errorf("queries %q", queries)
	}
	fetched := u.logs.events(t, logevent.PageFetched)
	if len(fetched) != 5 || fetched[3]["page"] != 4.0 || fetched[3]["rows"] != 2.0 || fetched[3]["job_id"] != jobID ||
		fetched[3]["has_next_page"] != true || fetched[3]["level"] != "debug" {
		t.Errorf("log %v", fetched)
	}
}

// The page faults (trap 12 for the cursors). Each ends the drain at once, with a
// sentence that names the page and the job.
func TestPageFaults(t *testing.T) {
	t.Parallel()
	item := jobItemJSON(entryA)
	onePage := func(body string) map[string]string { return map[string]string{"": body} }
	for name, c := range map[string]struct {
		pages map[string]string
		fault error
		says  string
		rows  int
	}{
		"cursor repeated": {
			map[string]string{"": pageJSON("AA", item), "AA": pageJSON("AA", item)},
			ErrCursorRepeated, "fetch page 2 of the items of job " + jobID + ": cursor repeated", 1,
		},
		"cycle of cursors": {
			map[string]string{"": pageJSON("AA", item), "AA": pageJSON("BB", item), "BB": pageJSON("CC", item), "CC": pageJSON("AA", item)},
			ErrCursorRepeated, "fetch page 4 of", 3,
		},
		"no cursor": {
			map[string]string{"": pageJSON("AA", item), "AA": `{"data":[],"pagination":{"hasNextPage":true}}`},
			ErrCursorMissing, "fetch page 2 of the items of job " + jobID, 1,
		},
		"null cursor":         {onePage(`{"data":[],"pagination":{"hasNextPage":true,"endCursor":null}}`), ErrCursorMissing, "page 1", 0},
		"pagination first":    {onePage(`{"pagination":{"hasNextPage":true},"data":[` + item + `]}`), ErrCursorMissing, "page 1", 0},
		"endless cursor":      {onePage(pageJSON(strings.Repeat("A", maxCursorBytes+1))), ErrPageShape, "endCursor", 0},
		"another job's item":  {onePage(pageJSON("", item, strings.ReplaceAll(item, jobID, otherJob))), ErrForeignItem, "row 2: row of another job or company: it is job " + otherJob, 0},
		"nobody's item":       {onePage(pageJSON("", strings.ReplaceAll(item, jobID, ""))), ErrForeignItem, "exportJobId is empty", 0},
		"item without a job":  {onePage(pageJSON("", `{"accountingEntryId":"`+entryA+`","status":"pending"}`)), ErrForeignItem, "exportJobId is empty", 0},
		"job id is no UUID":   {onePage(pageJSON("", strings.ReplaceAll(item, jobID, "ledgerline.>"))), ErrPageShape, "exportJobId is not a UUID", 0},
		"entry id is no UUID": {onePage(pageJSON("", strings.ReplaceAll(item, entryA, "a.b.>"))), ErrPageShape, "accountingEntryId is not a UUID", 0},
		"entry id in braces":  {onePage(pageJSON("", strings.ReplaceAll(item, entryA, "{"+entryA+"}"))), ErrPageShape, "accountingEntryId is not a UUID", 0},
		"entry id is missing": {onePage(pageJSON("", `{"exportJobId":"`+jobID+`","status":"pending"}`)), ErrPageShape, "accountingEntryId", 0},
		"status is missing":   {onePage(pageJSON("", `{"exportJobId":"`+jobID+`","accountingEntryId":"`+entryA+`"}`)), ErrPageShape, "status is missing", 0},
		"status is a number":  {onePage(pageJSON("", `{"exportJobId":"`+jobID+`","accountingEntryId":"`+entryA+`","status":7}`)), ErrPageShape, "status is not a string", 0},
		"row is null":         {onePage(pageJSON("", "null")), ErrForeignItem, "row 1", 0},
		"row is an array":     {onePage(pageJSON("", "[]")), ErrPageShape, "row 1", 0},
		"page is an array":    {onePage("[" + item + "]"), ErrPageShape, "not an object", 0},
		"page is null":        {onePage("null"), ErrPageShape, "not an object", 0},
		"page is an error":    {onePage(`{"type":"X"}`), ErrPageShape, "data is missing", 0},
		"data is null":        {onePage(`{"data":null,"pagination":{"hasNextPage":false}}`), ErrPageShape, "data is not an array", 0},
		"data is an object":   {onePage(`{"data":{"a":[1]},"pagination":{"hasNextPage":false}}`), ErrPageShape, "data is not an array", 0},
		"data twice":          {onePage(`{"data":[],"data":[],"pagination":{"hasNextPage":false}}`), ErrPageShape, "data stands twice", 0},
		"no pagination":       {onePage(`{"data":[]}`), ErrPageShape, "pagination is missing", 0},
		"pagination is null":  {onePage(`{"data":[],"pagination":null}`), ErrPageShape, "hasNextPage is missing", 0},
		"pagination is text":  {onePage(`{"data":[],"pagination":"no"}`), ErrPageShape, "pagination", 0},
		"no hasNextPage":      {onePage(`{"data":[],"pagination":{"endCursor":"AA"}}`), ErrPageShape, "hasNextPage is missing", 0},
		"hasNextPage is text": {onePage(`{"data":[],"pagination":{"hasNextPage":"true"}}`), ErrPageShape, "hasNextPage is not a bool", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, pagesByCursor(t, c.pages))
			all, stats, err := drainItems(t.Context(), u)
			if !errors.Is(err, c.fault) || !IsPageFault(err) {
				t.Fatalf("error %v, want %v", err, c.fault)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), jobID) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if len(all) != c.rows || stats.Rows != c.rows {
				t.Errorf("%d rows handed on, %d counted, want %d", len(all), stats.Rows, c.rows)
			}
			if u.logs.events(t, logevent.PleoRequestRetried) != nil {
				t.Error("a page fault was tried again")
			}
		})
	}
}

// What is odd and legal.
func TestPagesThatAreAccepted(t *testing.T) {
	t.Parallel()
	upper := strings.ReplaceAll(strings.ReplaceAll(jobItemJSON(entryA), jobID, strings.ToUpper(jobID)), entryA, strings.ToUpper(entryA))
	for name, c := range map[string]struct {
		body  string
		want  JobItem
		total int64
	}{
		"ids in capitals (trap 20)": {pageJSON("", upper), JobItem{JobID: jobID, AccountingEntryID: entryA, Status: ItemPending}, -1},
		"unknown status and reason are kept (trap 26)": {
			pageJSON("", `{"exportJobId":"`+jobID+`","accountingEntryId":"`+entryA+`","status":"on_hold","failureReasonType":"moon_phase","failureReason":"full"}`),
			JobItem{JobID: jobID, AccountingEntryID: entryA, Status: "on_hold", FailureReasonType: "moon_phase", FailureReason: "full"}, -1,
		},
		"unknown members, huge numbers, total as text": {
			`{"x":[{"y":1e999}],"pagination":{"total":"4","hasNextPage":false,"z":{}},"data":[` + jobItemJSON(entryA) + `],"w":-0.5e-7}` + "\n \t",
			JobItem{JobID: jobID, AccountingEntryID: entryA, Status: ItemPending}, -1,
		},
		"total": {
			`{"pagination":{"total":40,"hasNextPage":false},"data":[` + jobItemJSON(entryA) + `]}`,
			JobItem{JobID: jobID, AccountingEntryID: entryA, Status: ItemPending}, 40,
		},
		"an empty cursor on the last page": {
			`{"pagination":{"endCursor":"","hasNextPage":false},"data":[` + jobItemJSON(entryA) + `]}`,
			JobItem{JobID: jobID, AccountingEntryID: entryA, Status: ItemPending}, -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, stats, err := drainItems(t.Context(), serve(t, pagesByCursor(t, map[string]string{"": c.body})))
			if err != nil || len(all) != 1 || all[0] != c.want || stats.Total != c.total {
				t.Errorf("items %+v, %+v, %v", all, stats, err)
			}
		})
	}
}

// Text that is no JSON is asked for again even where its beginning had a wrong
// shape: it is not the upstream's answer. Nothing of it is handed on.
func TestCutPageIsAskedForAgain(t *testing.T) {
	t.Parallel()
	good := pageJSON("", jobItemJSON(entryA), jobItemJSON(entryB))
	for name, first := range map[string]string{
		"within a row":          good[:len(good)/3],
		"between rows":          good[:strings.Index(good, "},{")+1],
		"after the data":        good[:strings.Index(good, `,"pagination"`)],
		"at the last byte":      good[:len(good)-1],
		"empty":                 "",
		"wrong shape, then cut": `{"data":[{"exportJobId":5}`,
		"array, then cut":       `[1,2`,
		"second value":          good + "{}",
		"garbage behind":        good + "]",
		"wrong bracket":         `{"data":[},"pagination":{}}`,
		"missing comma":         `{"data":[` + jobItemJSON(entryA) + jobItemJSON(entryB) + `]}`,
		"comma too many":        `{"data":[` + jobItemJSON(entryA) + `,]}`,
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
				if tries++; tries == 1 {
					answer(w, 200, first)
					return
				}
				answer(w, 200, good)
			}, func(t *testing.T, u upstream) {
				all, stats, err := drainItems(t.Context(), u)
				if err != nil || len(all) != 2 || stats.Pages != 1 {
					t.Errorf("%d items, %+v, %v", len(all), stats, err)
				}
				if got := u.calls.codes(); got != "invalid 200" && got != "connection 200" {
					t.Errorf("calls %q", got)
				}
			})
		})
	}
}

// An answer is bounded, whether it tells its length or not; for the page's bound a
// lower one stands here.
func TestPageBound(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	for name, announced := range map[string]bool{"announced": true, "streamed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if announced {
					w.Header().Set("Content-Length", fmt.Sprint(bound+1))
				}
				blank := []byte(strings.Repeat(" ", 1<<10))
				for range bound/len(blank) + 1 {
					if _, err := w.Write(blank); err != nil {
						return
					}
				}
			})
			u.pageBound = bound
			_, _, err := drainItems(t.Context(), u)
			if !errors.Is(err, ErrPageTooLarge) || !IsPageFault(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("object", func(t *testing.T) {
		t.Parallel()
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, strings.Repeat(" ", MaxObjectBytes+1))
		})
		if _, err := u.Job(t.Context(), jobID); !errors.Is(err, ErrPageTooLarge) {
			t.Errorf("error %v", err)
		}
	})
}

// endlessServer answers without a network; page gives the body of the nth.
type endlessServer struct {
	page func(n int) string
	n    int
}

func (e *endlessServer) RoundTrip(*http.Request) (*http.Response, error) {
	e.n++
	return &http.Response{
		StatusCode: 200, Header: http.Header{}, ContentLength: -1,
		Body: io.NopCloser(strings.NewReader(e.page(e.n))),
	}, nil
}

// Pages are bounded: without rows soon, with rows at MaxPages, for which a lower
// bound stands here.
func TestTooManyPages(t *testing.T) {
	t.Parallel()
	const bound = 2*MaxEmptyPages + 500
	for name, c := range map[string]struct {
		page  func(n int) string
		pages int
	}{
		"empty ones": {func(n int) string { return pageJSON(nthCursor(n)) }, MaxEmptyPages},
		"full ones":  {func(n int) string { return pageJSON(nthCursor(n), jobItemJSON(entryA)) }, bound},
		"empty ones, not one after another": {func(n int) string {
			if n%MaxEmptyPages == 0 {
				return pageJSON(nthCursor(n), jobItemJSON(entryA))
			}
			return pageJSON(nthCursor(n))
		}, bound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &endlessServer{page: c.page}
			client, err := New(Config{Auth: BearerToken(StaticSecret(token)), Transport: server})
			if err != nil {
				t.Fatal(err)
			}
			client.maxPages = bound
			stats, err := client.EachJobItem(t.Context(), jobID, func([]JobItem) error { return nil })
			if !errors.Is(err, ErrTooManyPages) || !IsPageFault(err) || stats.Pages != c.pages || server.n != c.pages {
				t.Errorf("%d requests, %+v, %v", server.n, stats, err)
			}
		})
	}
}

// The callback's error ends the drain and comes back as it is.
func TestCallbackEndsTheDrain(t *testing.T) {
	t.Parallel()
	u := serve(t, pagesByCursor(t, map[string]string{"": pageJSON("AA", jobItemJSON(entryA))}))
	full := errors.New("disk is full")
	_, err := u.EachJobItem(t.Context(), jobID, func([]JobItem) error { return full })
	if err != full { //nolint:errorlint // the very same error is promised
		t.Error(err)
	}
}

// A drain that stops between pages tells the page.
func TestDrainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	u := serve(t, pagesByCursor(t, map[string]string{"": pageJSON("AA", jobItemJSON(entryA))}))
	ctx, cancel := context.WithCancelCause(t.Context())
	shutdown := errors.New("worker is shutting down")
	stats, err := u.EachJobItem(ctx, jobID, func([]JobItem) error {
		cancel(shutdown)
		return nil
	})
	if !errors.Is(err, shutdown) || !errors.Is(err, context.Canceled) || stats.Pages != 1 ||
		!strings.Contains(err.Error(), "fetch page 2 of the items of job "+jobID) {
		t.Errorf("%+v, %v", stats, err)
	}
}
