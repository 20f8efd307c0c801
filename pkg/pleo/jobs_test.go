package pleo

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestJob(t *testing.T) {
	t.Parallel()
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/v3/export-jobs/"+jobID || r.URL.RawQuery != "" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, 200, strings.ReplaceAll(jobJSON(`,"startedAt":"2026-04-22T10:01:00+02:00","lastUpdatedAt":"2026-04-22T08:05:00.250Z",
			"completedAt":null,"failureReason":null,"failureReasonType":null,"createdBy":null`), jobID, strings.ToUpper(jobID)))
	}, func(cfg *Config) { cfg.BaseURL += "/base/" })
	job, err := u.Job(t.Context(), strings.ToUpper(jobID))
	if err != nil {
		t.Fatal(err)
	}
	if job.ReadAt.IsZero() {
		t.Error("ReadAt is zero")
	}
	job.ReadAt = time.Time{}
	want := Job{
		ID: jobID, CompanyID: companyID, Status: JobPending, NumberOfItems: 4, ExpiresIn: time.Hour, Interactive: true,
		CreatedAt:     time.Date(2026, 4, 22, 10, 0, 0, 0, time.UTC),
		StartedAt:     time.Date(2026, 4, 22, 8, 1, 0, 0, time.UTC),
		LastUpdatedAt: time.Date(2026, 4, 22, 8, 5, 0, 250e6, time.UTC),
	}
	if job != want {
		t.Errorf("job  %+v\nwant %+v", job, want)
	}
}

// Trap 1: the job's own expiresIn, counted from its last action.
func TestDeadline(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 4, 22, 10, minute, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		job  Job
		want time.Time
	}{
		"last update":          {Job{LastUpdatedAt: at(9), StartedAt: at(5), CreatedAt: at(1), ExpiresIn: 10 * time.Minute, ReadAt: at(30)}, at(19)},
		"started":              {Job{StartedAt: at(5), CreatedAt: at(1), ExpiresIn: 10 * time.Minute, ReadAt: at(10)}, at(15)},
		"created":              {Job{CreatedAt: at(1), ExpiresIn: 10 * time.Minute, ReadAt: at(10)}, at(11)},
		"alive all the same":   {Job{Status: JobInProgress, StartedAt: at(5), ExpiresIn: 10 * time.Minute, ReadAt: at(30)}, at(40)},
		"and ended":            {Job{Status: JobFailed, StartedAt: at(5), ExpiresIn: 10 * time.Minute, ReadAt: at(30)}, at(15)},
		"no time at all":       {Job{ExpiresIn: 10 * time.Minute, ReadAt: at(30)}, at(40)},
		"no expiry":            {Job{LastUpdatedAt: at(9), ReadAt: at(30)}, at(69)},
		"nothing but the read": {Job{ReadAt: at(0)}, at(60)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.job.Deadline(); !got.Equal(c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestJobsOddShapes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body  string
		fault error // nil: accepted
	}{
		"nothing but what is needed": {`{"data":{"id":"` + jobID + `","companyId":"` + companyID + `","status":"paused"}}`, nil},
		"an unreadable date":         {jobJSON(`,"lastUpdatedAt":1776852000`), nil},
		"a huge expiry":              {strings.Replace(jobJSON(""), "3600", "9223372036854775807", 1), nil},
		"another job":                {strings.ReplaceAll(jobJSON(""), jobID, otherJob), ErrPageShape},
		"no data":                    {`{}`, ErrPageShape},
		"null data":                  {`{"data":null}`, ErrPageShape},
		"a list":                     {`[]`, ErrPageShape},
		"id is no UUID":              {strings.ReplaceAll(jobJSON(""), jobID, "8eb648ab464b42a0ba17eda703657e33"), ErrPageShape},
		"company is no UUID":         {strings.ReplaceAll(jobJSON(""), companyID, ""), ErrPageShape},
		"status is empty":            {strings.ReplaceAll(jobJSON(""), "pending", ""), ErrPageShape},
		"numberOfItems is text":      {strings.ReplaceAll(jobJSON(""), `"numberOfItems":4`, `"numberOfItems":"4"`), ErrPageShape},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, c.body) })
			job, err := u.Job(t.Context(), jobID)
			if !errors.Is(err, c.fault) || IsPageFault(err) != (c.fault != nil) {
				t.Fatalf("error %v, want %v", err, c.fault)
			}
			if err == nil && (job.ID != jobID || job.Deadline().Before(time.Date(2026, 4, 22, 10, 0, 0, 0, time.UTC))) {
				t.Errorf("job %+v", job)
			}
		})
	}
}

// Traps 24 and 38: company_id in snake case, and its jobs only.
func TestJobsOfACompany(t *testing.T) {
	t.Parallel()
	row := strings.TrimSuffix(strings.TrimPrefix(jobJSON(""), `{"data":`), "}")
	var queries []string
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		if r.URL.Query().Get("after") == "" {
			answer(w, 200, pageJSON("A=", row))
			return
		}
		answer(w, 200, pageJSON("", strings.ReplaceAll(row, jobID, otherJob)))
	})
	q := JobsQuery{CompanyID: strings.ToUpper(companyID), Statuses: []JobStatus{JobPending, JobInProgress}}
	page, err := u.Jobs(t.Context(), q)
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != jobID || !page.HasNextPage || page.EndCursor != "A=" || page.Total != -1 {
		t.Errorf("page %+v, %v", page, err)
	}
	var ids []string
	stats, err := u.EachJob(t.Context(), q, func(jobs []Job) error {
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		return nil
	})
	if err != nil || !reflect.DeepEqual(ids, []string{jobID, otherJob}) || stats.Pages != 2 {
		t.Errorf("jobs %v, %+v, %v", ids, stats, err)
	}
	first := "company_id=" + companyID + "&limit=100&statuses=pending&statuses=in_progress"
	if want := []string{first, first, "after=A%3D&" + first}; !reflect.DeepEqual(queries, want) {
		t.Errorf("queries %q", queries)
	}

	q.CompanyID = otherJob
	if _, err := u.Jobs(t.Context(), q); !errors.Is(err, ErrForeignItem) {
		t.Errorf("another company's job: %v", err)
	}
}

// A cursor that the caller came with counts as followed.
func TestGivenCursorCannotRepeat(t *testing.T) {
	t.Parallel()
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, pageJSON("A=")) })
	if _, err := u.EachJob(t.Context(), JobsQuery{After: "A="}, func([]Job) error { return nil }); !errors.Is(err, ErrCursorRepeated) {
		t.Error(err)
	}
}

func TestStatusKinds(t *testing.T) {
	t.Parallel()
	for status, final := range map[JobStatus]bool{
		JobPending: false, JobInProgress: false, JobCompleted: true, JobCompletedWithErrors: true, JobFailed: true, "new": false,
	} {
		if status.Final() != final {
			t.Errorf("job status %s: final %t", status, !final)
		}
	}
	// Trap 8: in_progress counts as open.
	for status, want := range map[ItemStatus][2]bool{
		ItemPending: {true, false}, ItemInProgress: {true, false}, ItemSuccessful: {false, true},
		ItemFailed: {false, true}, ItemAbandoned: {false, true}, "new": {false, false},
	} {
		if got := [2]bool{status.Open(), status.Final()}; got != want {
			t.Errorf("item status %s: open, final %v, want %v", status, got, want)
		}
	}
}
