package simulator_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func TestEveryTransition(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	events := []string{"started", "completed", "completed_with_errors", "failed"}
	for state, lead := range map[string][]string{
		"pending": {}, "in_progress": {"started"}, "completed": {"started", "completed"},
		"completed_with_errors": {"started", "completed_with_errors"}, "failed": {"started", "failed"},
	} {
		allowed := map[string]bool{}
		switch state {
		case "pending":
			allowed = map[string]bool{"started": true, "failed": true}
		case "in_progress":
			allowed = map[string]bool{"completed": true, "completed_with_errors": true, "failed": true}
		}
		for _, event := range events {
			job := u.add(3)
			for _, step := range lead {
				u.event(job, step).want(t, http.StatusAccepted, nil)
			}
			if got := u.job(job).Status; got != state {
				t.Fatalf("after %v the job is %s", lead, got)
			}
			if allowed[event] {
				u.event(job, event).want(t, http.StatusAccepted, nil)
				continue
			}
			u.event(job, event).wantRefusal(t, http.StatusUnprocessableEntity, "INVALID_EXPORT_JOB_STATUS_CHANGE")
			if got := u.job(job).Status; got != state {
				t.Errorf("a refused %s moved the job from %s to %s", event, state, got)
			}
		}
	}
}

func TestAJobFromClaimToEnd(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	job := u.add(3)
	if j := u.job(job); j.StartedAt != nil || j.CompletedAt != nil || j.FailureReasonType != nil || j.ExpiresIn != 3600 || j.NumberOfItems != 3 {
		t.Errorf("pending job %+v", j)
	}
	u.clock.Advance(time.Minute)
	u.started(job)
	if j := u.job(job); j.Status != "in_progress" || *j.StartedAt != "2026-04-01T09:01:00Z" || *j.LastUpdatedAt != *j.StartedAt {
		t.Errorf("started job %+v", j)
	}
	for _, item := range u.items(job, "10") {
		if item.Status != "pending" {
			t.Errorf("the start moved an item to %s", item.Status)
		}
	}
	items := u.items(job, "10")
	u.clock.Advance(time.Minute)
	var answer wireUpdate
	u.put(job, booked(strings.ToUpper(items[0].AccountingEntryID)), map[string]any{
		"accountingEntryId": items[1].AccountingEntryID, "status": "failed", "failureReason": "blocked", "failureReasonType": "vendor_unknown",
	}).want(t, http.StatusOK, &answer)
	if len(answer.Data) != 2 || len(answer.Errors) != 0 || answer.Data[0].AccountingEntryID != items[0].AccountingEntryID {
		t.Errorf("update %+v", answer)
	}
	if j := u.job(job); *j.LastUpdatedAt != "2026-04-01T09:02:00Z" {
		t.Errorf("the update did not renew the clock: %s", *j.LastUpdatedAt)
	}
	after := u.items(job, "10")
	if after[0].Status != "successful" || !strings.HasPrefix(*after[0].ExternalID, "JE-") || *after[0].ExportedAt != "2026-04-01T09:00:00Z" ||
		after[1].Status != "failed" || *after[1].FailureReasonType != "vendor_unknown" || after[2].FailureReasonType != nil {
		t.Errorf("items %+v", after)
	}
	u.event(job, "completed_with_errors").want(t, http.StatusAccepted, nil)
	snapshot, err := u.Job(job)
	if err != nil || snapshot.OpenAtClose != 1 || snapshot.Events[1].OpenItems != 1 || len(snapshot.Events) != 2 {
		t.Errorf("snapshot %+v, %v", snapshot, err)
	}
	if problems := u.Snapshot().Problems(); len(problems) != 1 || !strings.Contains(problems[0], "1 open items") {
		t.Errorf("problems %q", problems)
	}
	// Finished: no update, no payload; the control records stay readable (trap 3, 33).
	u.put(job, booked(items[2].AccountingEntryID)).wantRefusal(t, http.StatusUnprocessableEntity, "EXPORT_JOB_STATUS_UNPROCESSABLE")
	u.get("/v3/export-items?job_id="+job.String()).wantRefusal(t, http.StatusUnprocessableEntity, "EXPORT_JOB_STATUS_UNPROCESSABLE")
	if len(u.items(job, "10")) != 3 {
		t.Error("the items of a finished job are gone")
	}
}

func TestUpdatesOneByOne(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	job := u.add(2)
	items := u.items(job, "10")
	other := u.items(u.add(1), "10")[0].AccountingEntryID
	put := func(changes ...map[string]any) wireUpdate {
		var answer wireUpdate
		u.put(job, changes...).want(t, http.StatusOK, &answer)
		return answer
	}
	status := func(entry, status string) map[string]any {
		return map[string]any{"accountingEntryId": entry, "status": status}
	}
	first := items[0].AccountingEntryID
	if got := put(status(first, "in_progress"), status(other, "successful"), status(uuid.NewString(), "failed")); len(got.Data) != 1 ||
		len(got.Errors) != 2 || got.Errors[0].Type != "ACCOUNTING_ENTRY_DOES_NOT_EXIST" || got.Errors[0].AccountingEntryID != other {
		t.Errorf("strangers: %+v", got)
	}
	put(booked(first))
	// Repeated: accepted, and what is not sent stays.
	if got := put(status(first, "successful")); len(got.Data) != 1 || got.Data[0].ExternalID == nil {
		t.Errorf("repeated: %+v", got)
	}
	if got := put(status(first, "failed")); len(got.Errors) != 1 || got.Errors[0].Type != "EXPORT_ENTRY_STATUS_UPDATE_FAILED" {
		t.Errorf("changed after the end: %+v", got)
	}
	if got := put(); len(got.Data) != 0 || len(got.Errors) != 0 {
		t.Errorf("empty update: %+v", got)
	}
	updates, err := u.Updates(job)
	if err != nil || len(updates) != 3 || updates[1].Status != "successful" || updates[1].By != simulator.ByClient {
		t.Errorf("updates %+v, %v", updates, err)
	}
}

func TestUpdatesThatAreRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	u.spoiled = true // 400 is not in the description of updates
	job := u.add(150)
	var many []map[string]any
	for _, item := range u.items(job, "101") {
		many = append(many, booked(item.AccountingEntryID))
	}
	many = many[:101]
	u.put(job, many...).wantRefusal(t, http.StatusRequestEntityTooLarge, "EXPORT_JOB_ITEMS_UPDATE_LIMIT")
	u.put(job, many[:100]...).want(t, http.StatusOK, nil)
	entry := many[100]["accountingEntryId"]
	for _, body := range []any{
		map[string]any{"items": many[:1]}, "no JSON", "null", []string{"text"},
		[]map[string]any{{"accountingEntryId": entry}}, []map[string]any{{"status": "failed"}},
		[]map[string]any{{"accountingEntryId": "7", "status": "failed"}}, []map[string]any{{"accountingEntryId": entry, "status": "done"}},
		[]map[string]any{{"accountingEntryId": entry, "status": "failed", "failureReasonType": "job_expired"}},
		[]map[string]any{{"accountingEntryId": entry, "status": "successful", "exportedAt": "today"}},
	} {
		u.do(http.MethodPut, "/v3/export-jobs/"+job.String()+"/items", body).wantRefusal(t, http.StatusBadRequest, "BAD_REQUEST")
	}
	for body, kind := range map[string]string{
		`{"exportJobId":"` + job.String() + `","event":"started"}`:                                                     "REQUIRED_PARAMETER_MISSING", // trap 23
		`{"jobId":"` + job.String() + `","event":"canceled"}`:                                                          "BAD_REQUEST",
		`{"jobId":"` + job.String() + `","event":"failed","failureReasonType":"accounting_system_validation_failure"}`: "BAD_REQUEST", // trap 25
		`[]`: "BAD_REQUEST",
	} {
		u.do(http.MethodPost, "/v3/export-job-events", body).wantRefusal(t, http.StatusBadRequest, kind)
	}
	u.event(uuid.New(), "started").wantRefusal(t, http.StatusNotFound, "EXPORT_NOT_FOUND")
	u.put(uuid.New()).wantRefusal(t, http.StatusNotFound, "EXPORT_NOT_FOUND")
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{ExpiresIn: 600})
	job, idle := u.add(4), u.add(1)
	u.started(job)
	items := u.items(job, "10")
	u.clock.Advance(599 * time.Second)
	u.put(job, booked(items[0].AccountingEntryID)).want(t, http.StatusOK, nil) // renews
	u.clock.Advance(599 * time.Second)
	if got := u.job(job).Status; got != "in_progress" {
		t.Fatalf("the job is %s although an update renewed it", got)
	}
	if j := u.job(idle); j.Status != "failed" || *j.FailureReasonType != "job_expired" || *j.ExpiredAt != "2026-04-01T09:10:00Z" {
		t.Errorf("an idle pending job: %+v", j)
	}
	u.Advance(time.Second)
	j := u.job(job)
	if j.Status != "failed" || *j.FailureReasonType != "job_expired" || *j.ExpiredAt != "2026-04-01T09:19:59Z" || j.CompletedAt != nil {
		t.Errorf("expired job %+v", j)
	}
	if snapshot, err := u.Job(job); err != nil || snapshot.Refusals != (simulator.Refusals{}) {
		t.Errorf("refusals %+v, %v", snapshot.Refusals, err)
	}
	left := 0
	for _, item := range u.items(job, "10") {
		if item.Status == "abandoned" {
			left++
		}
	}
	if left != 3 {
		t.Errorf("%d items are abandoned, want 3", left)
	}
	u.put(job, booked(items[1].AccountingEntryID)).wantRefusal(t, http.StatusUnprocessableEntity, "EXPORT_JOB_STATUS_UNPROCESSABLE")
	u.event(job, "completed").wantRefusal(t, http.StatusUnprocessableEntity, "INVALID_EXPORT_JOB_STATUS_CHANGE")
	if snapshot, err := u.Job(job); err != nil || snapshot.Refusals != (simulator.Refusals{Events: 1, Updates: 1}) {
		t.Errorf("refusals %+v, %v", snapshot.Refusals, err)
	}
}

func TestUpdatesThatDoNotRenew(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{UpdatesDoNotRenew: true})
	job := u.add(1)
	u.started(job)
	entry := u.items(job, "1")[0].AccountingEntryID
	u.clock.Advance(time.Minute)
	u.put(job, booked(entry)).want(t, http.StatusOK, nil)
	if j := u.job(job); *j.LastUpdatedAt != "2026-04-01T09:00:00Z" {
		t.Errorf("lastUpdatedAt %s", *j.LastUpdatedAt)
	}
}

func TestCancelAndASecondIntegration(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	job := u.add(3)
	u.started(job)
	items := u.items(job, "10")
	touch := `[{"accountingEntryId":"` + items[0].AccountingEntryID + `","status":"successful","externalId":"THEIRS"}]`
	if err := u.Touch(job, simulator.Touch{Items: []byte(touch)}); err != nil {
		t.Fatal(err)
	}
	if got := u.items(job, "10")[0]; *got.ExternalID != "THEIRS" {
		t.Errorf("touched item %+v", got)
	}
	if err := u.Cancel(job); err != nil {
		t.Fatal(err)
	}
	if j := u.job(job); j.Status != "failed" || *j.FailureReasonType != "canceled_by_user" {
		t.Errorf("canceled job %+v", j)
	}
	if got := u.items(job, "10")[1].Status; got != "abandoned" {
		t.Errorf("an open item of a canceled job is %s", got)
	}
	if err := u.Cancel(job); err == nil {
		t.Error("canceled twice")
	}
	second := u.add(1)
	if err := u.Touch(second, simulator.Touch{Event: "started"}); err != nil {
		t.Fatal(err)
	}
	u.event(second, "started").wantRefusal(t, http.StatusUnprocessableEntity, "INVALID_EXPORT_JOB_STATUS_CHANGE")
}

func TestOneUnfinishedJobPerCompany(t *testing.T) {
	t.Parallel()
	u := start(t, config(1, 1, 2))
	first := u.Snapshot().Jobs[0]
	body := map[string]any{"companyId": first.CompanyID, "accountingEntryIds": []string{uuid.NewString()}, "isInteractive": false}
	create := func() reply { return u.do(http.MethodPost, "/v3/export-jobs", body) }
	create().wantRefusal(t, http.StatusConflict, "EXPORT_ALREADY_IN_PROGRESS")
	u.started(first.ID)
	u.event(first.ID, "completed").want(t, http.StatusAccepted, nil)
	var created struct{ Data wireJob }
	create().want(t, http.StatusCreated, &created)
	if j := created.Data; j.Status != "pending" || j.NumberOfItems != 1 || j.IsInteractive || j.CreatedBy != nil {
		t.Errorf("created %+v", j)
	}
	create().wantRefusal(t, http.StatusConflict, "EXPORT_ALREADY_IN_PROGRESS")
	u.clock.Advance(time.Hour) // expired: finished
	create().want(t, http.StatusCreated, nil)
	u.spoiled = true // 400 and 404 have other examples in the description, or none
	body["companyId"] = uuid.NewString()
	create().wantRefusal(t, http.StatusNotFound, "COMPANY_NOT_FOUND")
	delete(body, "companyId")
	create().wantRefusal(t, http.StatusBadRequest, "REQUIRED_PARAMETER_MISSING")
}

func TestTheLookUpByEntry(t *testing.T) {
	t.Parallel()
	u := start(t, config(1, 1, 5))
	first := u.Snapshot().Jobs[0]
	entry := first.Items[2].AccountingEntryID
	find := func(query string) reply { return u.get("/v3/export-job-items?" + query) }
	var found struct{ Data wireItem }
	find("accounting_entry_id="+strings.ToUpper(entry.String())).want(t, http.StatusOK, &found)
	if found.Data.ExportJobID != first.ID.String() || found.Data.AccountingEntryID != entry.String() {
		t.Errorf("found %+v", found)
	}
	later, err := u.AddJob(simulator.JobSpec{CompanyID: first.CompanyID, Entries: []simulator.EntrySpec{{ID: entry}}})
	if err != nil {
		t.Fatal(err)
	}
	find("company_id="+first.CompanyID.String()+"&accounting_entry_id="+entry.String()).want(t, http.StatusOK, &found)
	if found.Data.ExportJobID != later.String() {
		t.Error("the look-up does not show the newest job")
	}
	find("accounting_entry_id="+uuid.NewString()).wantRefusal(t, http.StatusNotFound, "EXPORT_ENTRY_NOT_FOUND")
	find("company_id="+uuid.NewString()+"&accounting_entry_id="+entry.String()).wantRefusal(t, http.StatusNotFound, "EXPORT_ENTRY_NOT_FOUND")
}
