package simulator_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func entriesOf(rows []wireItem) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.AccountingEntryID
	}
	return ids
}

func TestAllPagesShowEveryItemOnce(t *testing.T) {
	t.Parallel()
	u := start(t, config(1, 1, 103))
	job := u.Snapshot().Jobs[0]
	whole := entriesOf(u.items(job.ID, "1000"))
	if len(whole) != 103 {
		t.Fatalf("%d items", len(whole))
	}
	for _, limit := range []string{"1", "7", "103", "102", "0"} {
		if got := entriesOf(u.items(job.ID, limit)); !slices.Equal(got, whole) {
			t.Errorf("limit %s shows other rows", limit)
		}
	}
	// Newest first: the items of the snapshot are in order of creation.
	for i, id := range whole {
		if job.Items[102-i].AccountingEntryID.String() != id {
			t.Fatalf("row %d is not the %dth newest", i, i)
		}
	}
	ascending, _ := drain[wireItem](u, "/v3/export-jobs/"+job.ID.String()+"/items",
		url.Values{"limit": {"10"}, "sorting_keys": {"createdAt"}, "sorting_order": {"ASC"}})
	got := entriesOf(ascending)
	slices.Reverse(got)
	if !slices.Equal(got, whole) {
		t.Error("ascending is not the reverse of the default")
	}
}

func TestPagesForwardAndBackward(t *testing.T) {
	t.Parallel()
	u := start(t, config(4, 1, 25))
	job := u.Snapshot().Jobs[0].ID
	path := "/v3/export-jobs/" + strings.ToUpper(job.String()) + "/items" // trap 20
	alphabet := regexp.MustCompile("^[A-Z2-7=~]+$")
	var pages []wirePage[wireItem]
	query := url.Values{"limit": {"10"}}
	for {
		var page wirePage[wireItem]
		u.get(path+"?"+query.Encode()).want(t, http.StatusOK, &page)
		pages = append(pages, page)
		p := page.Pagination
		if p.StartCursor == nil || p.EndCursor == nil || !alphabet.MatchString(*p.StartCursor) || !alphabet.MatchString(*p.EndCursor) {
			t.Fatalf("cursors %v and %v", p.StartCursor, p.EndCursor) // the last page has one too (trap 11)
		}
		if *p.Total != 25 || p.CurrentRequestPagination.After != query.Get("after") || *p.CurrentRequestPagination.Limit != 10 {
			t.Errorf("pagination %+v", p)
		}
		if got := p.CurrentRequestPagination.Parameters["jobId"]; !slices.Equal(got, []string{job.String()}) {
			t.Errorf("parameters name the job %q", got)
		}
		if p.HasPreviousPage != (len(pages) > 1) {
			t.Errorf("page %d: hasPreviousPage %v", len(pages), p.HasPreviousPage)
		}
		if !p.HasNextPage {
			break
		}
		query.Set("after", *p.EndCursor)
	}
	if len(pages) != 3 || len(pages[2].Data) != 5 {
		t.Fatalf("%d pages", len(pages))
	}
	var back wirePage[wireItem]
	u.get(path+"?limit=10&before="+url.QueryEscape(*pages[2].Pagination.StartCursor)).want(t, http.StatusOK, &back)
	if !slices.Equal(entriesOf(back.Data), entriesOf(pages[1].Data)) || !back.Pagination.HasNextPage || !back.Pagination.HasPreviousPage {
		t.Error("before the third page is not the second")
	}
	var offset wirePage[wireItem]
	u.get(path+"?limit=10&offset=10").want(t, http.StatusOK, &offset)
	if !slices.Equal(entriesOf(offset.Data), entriesOf(pages[1].Data)) {
		t.Error("offset 10 is not the second page")
	}
	var end wirePage[wireItem]
	u.get(path+"?after="+url.QueryEscape(*pages[2].Pagination.EndCursor)).want(t, http.StatusOK, &end)
	if len(end.Data) != 0 || end.Pagination.HasNextPage || !end.Pagination.HasPreviousPage {
		t.Errorf("after the end: %+v", end)
	}
}

func TestPageParametersThatAreRefused(t *testing.T) {
	t.Parallel()
	u := start(t, config(4, 1, 5))
	job := u.Snapshot().Jobs[0].ID.String()
	var page wirePage[wireItem]
	u.get("/v3/export-jobs/"+job+"/items").want(t, http.StatusOK, &page)
	cursor := url.QueryEscape(*page.Pagination.EndCursor)
	u.spoiled = true // 400 is not in the description of the list of items
	for _, query := range []string{
		"after=" + cursor + "&offset=1", "after=" + cursor + "&before=" + cursor, "after=nonsense", "after=AAAA=AAAA", "after=",
		"offset=-1", "limit=-1", "limit=x", "limit=99999999999", "sorting_keys=createdAt", "sorting_keys=date&sorting_order=ASC",
		"sorting_keys=createdAt&sorting_order=UP", "status=done",
	} {
		u.get("/v3/export-jobs/"+job+"/items?"+query).wantRefusal(t, http.StatusBadRequest, "BAD_REQUEST")
	}
	u.get("/v3/export-jobs?statuses=done").wantRefusal(t, http.StatusBadRequest, "BAD_REQUEST")
	u.get("/v3/export-jobs?company_id=1").wantRefusal(t, http.StatusBadRequest, "BAD_REQUEST")
	u.get("/v3/export-items").wantRefusal(t, http.StatusBadRequest, "REQUIRED_PARAMETER_MISSING")
	u.get("/v3/export-jobs/not-an-id/items").wantRefusal(t, http.StatusBadRequest, "BAD_REQUEST")
	u.get("/v3/export-jobs/00000000-0000-4000-8000-000000000000/items").wantRefusal(t, http.StatusNotFound, "EXPORT_NOT_FOUND")
}

func TestLimitsAreCut(t *testing.T) {
	t.Parallel()
	cfg := config(4, 1, 70)
	cfg.PageLimit, cfg.MaxPageLimit = 11, 30
	u := start(t, cfg)
	job := u.Snapshot().Jobs[0].ID.String()
	for query, want := range map[string]int{"": 11, "?limit=0": 11, "?limit=12": 12, "?limit=500": 30} {
		var page wirePage[wireItem]
		u.get("/v3/export-jobs/"+job+"/items"+query).want(t, http.StatusOK, &page)
		if len(page.Data) != want || !page.Pagination.HasNextPage {
			t.Errorf("%q shows %d rows, want %d", query, len(page.Data), want)
		}
	}
}

// Updating what is filtered by shrinks the list under the pager: an offset skips
// rows (trap 14).
func TestOffsetSkipsRowsOfAShrinkingList(t *testing.T) {
	t.Parallel()
	u := start(t, config(4, 1, 20))
	job := u.Snapshot().Jobs[0].ID
	path := "/v3/export-jobs/" + job.String() + "/items?status=pending&limit=10"
	seen := map[string]bool{}
	for _, offset := range []string{"0", "10"} {
		var page wirePage[wireItem]
		u.get(path+"&offset="+offset).want(t, http.StatusOK, &page)
		changes := make([]map[string]any, 0, len(page.Data))
		for _, item := range page.Data {
			seen[item.AccountingEntryID] = true
			changes = append(changes, booked(item.AccountingEntryID))
		}
		if len(changes) > 0 {
			u.put(job, changes...).want(t, http.StatusOK, nil)
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d rows seen; the second offset should have skipped all", len(seen))
	}
}

func TestJobsAreListed(t *testing.T) {
	t.Parallel()
	cfg := config(4, 9, 2)
	cfg.Companies = 3
	u := start(t, cfg)
	all, pages := drain[wireJob](u, "/v3/export-jobs", url.Values{"limit": {"4"}})
	if len(all) != 9 || pages != 3 {
		t.Fatalf("%d jobs on %d pages", len(all), pages)
	}
	for i := 1; i < len(all); i++ {
		if all[i].CreatedAt > all[i-1].CreatedAt {
			t.Error("jobs are not newest first")
		}
	}
	company := u.Company(1).String()
	mine, _ := drain[wireJob](u, "/v3/export-jobs", url.Values{"company_id": {strings.ToUpper(company)}})
	if len(mine) != 3 || mine[0].CompanyID != company {
		t.Errorf("%d jobs of one company", len(mine))
	}
	jobs := u.Snapshot().Jobs
	u.started(jobs[0].ID)
	u.started(jobs[1].ID)
	u.event(jobs[1].ID, "completed").want(t, http.StatusAccepted, nil)
	open, _ := drain[wireJob](u, "/v3/export-jobs", url.Values{"statuses": {"pending", "in_progress"}})
	if len(open) != 8 {
		t.Errorf("%d open jobs, want 8", len(open))
	}
	oldest, _ := drain[wireJob](u, "/v3/export-jobs", url.Values{"limit": {"2"}, "sorting_keys": {"createdAt"}, "sorting_order": {"ASC"}})
	if oldest[0].ID != jobs[0].ID.String() || len(oldest) != 9 {
		t.Errorf("oldest first begins with %s of %d", oldest[0].ID, len(oldest))
	}
}

// A job of 100,000 items (largeJob) is paged without being held: what stays in memory is far
// less than its 200 MB of contents.
func TestALargeJobIsNotHeld(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{Seed: 6, Jobs: 1, ItemsPerJob: largeJob})
	u.spoiled = true // the small tests check the shape
	job := u.Snapshot().Jobs[0].ID
	seen := make(map[string]bool, largeJob)
	for _, row := range u.items(job, "1000") {
		seen[row.AccountingEntryID] = true
	}
	if len(seen) != largeJob {
		t.Fatalf("%d different items", len(seen))
	}
	clear(seen)
	path, contents, peak := "/v3/export-items?limit=1000&job_id="+job.String(), 0, uint64(0)
	after := ""
	for rows := 0; rows < largeJob; {
		r := u.get(path+after).want(t, http.StatusOK, nil)
		// Only the end is decoded: 200 MB of JSON are the slow part of this test.
		var pagination wirePagination
		tail := r.body[bytes.LastIndex(r.body, []byte(`"pagination":`))+len(`"pagination":`) : len(r.body)-1]
		if err := json.Unmarshal(tail, &pagination); err != nil {
			t.Fatal(err)
		}
		rows += bytes.Count(r.body, []byte(`"reconciliationId"`))
		contents += len(r.body)
		after = "&after=" + url.QueryEscape(*pagination.EndCursor)
		if rows%(largeJob/5) == 0 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	if contents < largeJob*1500 {
		t.Errorf("only %d bytes of contents", contents)
	}
	// Other tests share this heap; their jobs are small.
	if limit := uint64(100 << 20); peak > limit {
		t.Errorf("%d bytes stay on the heap, want at most %d of %d", peak, limit, contents)
	}
}
