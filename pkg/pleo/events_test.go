package pleo

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"
)

// Trap 23: the field is jobId. Trap 5: 202 is the answer, and its body, which has
// no schema, is not read as JSON.
func TestPostJobEvent(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]JobEvent{
		`{"jobId":"` + jobID + `","event":"started"}`:               {JobID: strings.ToUpper(jobID), Event: EventStarted},
		`{"jobId":"` + jobID + `","event":"completed"}`:             {JobID: jobID, Event: EventCompleted},
		`{"jobId":"` + jobID + `","event":"completed_with_errors"}`: {JobID: jobID, Event: EventCompletedWithErrors},
		`{"jobId":"` + jobID + `","event":"failed","failureReason":"ERP said \"no\"","failureReasonType":"accounting_system_unreachable"}`: {
			JobID: jobID, Event: EventFailed, FailureReason: `ERP said "no"`, FailureReasonType: JobSystemUnreachable,
		},
		`{"jobId":"` + jobID + `","event":"failed"}`: {JobID: jobID, Event: EventFailed},
	} {
		t.Run(string(e.Event), func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if r.Method != http.MethodPost || r.URL.Path != "/v3/export-job-events" || string(body) != want || err != nil {
					t.Errorf("got %s %s %s %v, want %s", r.Method, r.URL, body, err, want)
				}
				if got := r.Header.Get("Content-Type"); got != "application/json;charset=UTF-8" {
					t.Errorf("Content-Type %q", got)
				}
				w.WriteHeader(http.StatusAccepted)
				_, _ = io.WriteString(w, "Export Job Event created")
			})
			if err := u.PostJobEvent(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
}

// An accepted event stays accepted when the body that nobody reads is cut.
func TestEventWithCutBodyIsAccepted(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusAccepted)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if err := u.PostJobEvent(t.Context(), JobEvent{JobID: jobID, Event: EventCompleted}); err != nil || posts.Load() != 1 {
		t.Errorf("%d posts, %v", posts.Load(), err)
	}
}

// Trap 6: the reply to started gets lost; the second one is refused, and the
// error tells that it was not the first try.
func TestLostReplyToAnEvent(t *testing.T) {
	var posts atomic.Int32
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
		if posts.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		answer(w, 422, `{"type":"invalid_export_job_status_change","message":"Export Job status change failed"}`)
	}, func(t *testing.T, u upstream) {
		err := u.PostJobEvent(t.Context(), JobEvent{JobID: jobID, Event: EventStarted})
		refusal, ok := errors.AsType[*APIError](err)
		if !ok || refusal.Status != 422 || !refusal.HasType(TypeInvalidStatusChange) || refusal.Attempt != 2 {
			t.Errorf("error %#v", err)
		}
		if !strings.HasPrefix(err.Error(), "post event started of job "+jobID+": pleo answered 422") {
			t.Error(err)
		}
	})
}

// Arguments that cannot be sent are refused without a request.
func TestArgumentsAreChecked(t *testing.T) {
	t.Parallel()
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("sent %s %s", r.Method, r.URL) })
	ctx := t.Context()
	event := func(e JobEvent) func() error { return func() error { return u.PostJobEvent(ctx, e) } }
	update := func(job string, up ...ItemUpdate) func() error {
		return func() error { _, err := u.UpdateJobItems(ctx, job, up); return err }
	}
	tooMany := make([]ItemUpdate, MaxUpdateBatch+1)
	for i := range tooMany {
		tooMany[i] = ItemUpdate{AccountingEntryID: nthEntry(i), Status: ItemSuccessful}
	}
	for name, do := range map[string]func() error{
		"job id":               func() error { _, err := u.Job(ctx, "../../v1/introspect"); return err },
		"job id, items":        func() error { _, err := u.EachJobItem(ctx, "", nil); return err },
		"job id, export items": func() error { _, err := u.EachExportItem(ctx, "a.b.>", nil); return err },
		"company id":           func() error { _, err := u.Jobs(ctx, JobsQuery{CompanyID: "x"}); return err },
		"event's job id":       event(JobEvent{JobID: "x", Event: EventStarted}),
		"no event":             event(JobEvent{JobID: jobID}),
		"unknown event":        event(JobEvent{JobID: jobID, Event: "canceled"}),
		"reason on started":    event(JobEvent{JobID: jobID, Event: EventStarted, FailureReason: "x"}),
		// Trap 25: an item's reason is not a job's.
		"item's reason":         event(JobEvent{JobID: jobID, Event: EventFailed, FailureReasonType: "accounting_system_validation_failure"}),
		"update's job id":       update("x", ItemUpdate{AccountingEntryID: entryA, Status: ItemSuccessful}),
		"update's entry id":     update(jobID, ItemUpdate{Status: ItemSuccessful}),
		"update's status":       update(jobID, ItemUpdate{AccountingEntryID: entryA, Status: "done"}),
		"update's reason":       update(jobID, ItemUpdate{AccountingEntryID: entryA, Status: ItemFailed, FailureReasonType: "job_expired"}),
		"101 updates (trap 39)": update(jobID, tooMany...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := do(); !errors.Is(err, ErrInvalidArgument) || IsPageFault(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Trap 21: a bare array. Trap 22: a 200 may refuse items. Trap 28: exportedAt is
// the time given, in the form of the description.
func TestUpdateJobItems(t *testing.T) {
	t.Parallel()
	third := nthEntry(3)
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want := `[{"accountingEntryId":"` + entryA + `","status":"successful","exportedAt":"2026-04-22T10:08:56Z","externalId":"JE-1","externalUrl":"https://erp.example/je/1?a=1\u0026b=2"},` +
			`{"accountingEntryId":"` + entryB + `","status":"failed","failureReason":"Vendor blocked","failureReasonType":"vendor_unknown"},` +
			`{"accountingEntryId":"` + third + `","status":"in_progress"}]`
		if r.Method != http.MethodPut || r.URL.Path != "/v3/export-jobs/"+jobID+"/items" || string(body) != want || err != nil {
			t.Errorf("got  %s %s %s %v\nwant %s", r.Method, r.URL, body, err, want)
		}
		answer(w, 200, `{"data":[{"exportJobId":"`+strings.ToUpper(jobID)+`","accountingEntryId":"`+entryA+`","status":"successful","externalId":"JE-1"}],
			"errors":[{"accountingEntryId":"`+strings.ToUpper(entryB)+`","type":"ACCOUNTING_ENTRY_UPDATE_FAILED","message":"no"}]}`)
	})
	result, err := u.UpdateJobItems(t.Context(), jobID, []ItemUpdate{
		{
			AccountingEntryID: strings.ToUpper(entryA), Status: ItemSuccessful, ExternalID: "JE-1", ExternalURL: "https://erp.example/je/1?a=1&b=2",
			ExportedAt: time.Date(2026, 4, 22, 12, 8, 56, 999e6, time.FixedZone("", 2*60*60)),
		},
		{AccountingEntryID: entryB, Status: ItemFailed, FailureReason: "Vendor blocked", FailureReasonType: ItemVendorUnknown},
		{AccountingEntryID: third, Status: ItemInProgress},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := UpdateResult{
		Updated:    []JobItem{{JobID: jobID, AccountingEntryID: entryA, Status: ItemSuccessful, ExternalID: "JE-1"}},
		Errors:     []ItemRefusal{{AccountingEntryID: entryB, Type: "ACCOUNTING_ENTRY_UPDATE_FAILED", Message: "no"}},
		Unanswered: []string{third},
	}
	if fmt.Sprint(result) != fmt.Sprint(want) {
		t.Errorf("result %+v\nwant   %+v", result, want)
	}
}

func TestUpdateAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		check  func(error) bool
	}{
		"errors left out":     {200, `{"data":[]}`, func(err error) bool { return err == nil }},
		"data left out":       {200, `{"errors":[]}`, func(err error) bool { return err == nil }},
		"neither":             {200, `{}`, func(err error) bool { return errors.Is(err, ErrPageShape) }},
		"another job":         {200, `{"data":[` + strings.ReplaceAll(jobItemJSON(entryA), jobID, otherJob) + `]}`, func(err error) bool { return errors.Is(err, ErrForeignItem) }},
		"error without an id": {200, `{"errors":[{"type":"X"}]}`, func(err error) bool { return errors.Is(err, ErrPageShape) }},
		"job ended (trap 3, 4)": {422, `{"type":"export_job_status_unprocessable"}`, func(err error) bool {
			refusal, ok := errors.AsType[*APIError](err)
			return ok && refusal.HasType(TypeJobStatusUnprocessable) && refusal.Attempt == 1
		}},
		"too many (trap 39)": {413, `{"type":"EXPORT_JOB_ITEMS_UPDATE_LIMIT"}`, func(err error) bool {
			refusal, ok := errors.AsType[*APIError](err)
			return ok && refusal.Status == 413 && refusal.HasType(TypeItemsUpdateLimit)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, c.status, c.body) })
			if _, err := u.UpdateJobItems(t.Context(), jobID, []ItemUpdate{{AccountingEntryID: entryA, Status: ItemSuccessful}}); !c.check(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("nothing to send", func(t *testing.T) {
		t.Parallel()
		u := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("request was sent") })
		if _, err := u.UpdateJobItems(t.Context(), jobID, nil); err != nil {
			t.Error(err)
		}
	})
}

// A lost reply to an update: the same bytes again.
func TestLostReplyToAnUpdate(t *testing.T) {
	var bodies []string
	onFakeClock(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bodies = append(bodies, string(body)); len(bodies) == 1 {
			panic(http.ErrAbortHandler)
		}
		answer(w, 200, `{"data":[`+jobItemJSON(entryA)+`],"errors":[]}`)
	}, func(t *testing.T, u upstream) {
		result, err := u.UpdateJobItems(t.Context(), jobID, []ItemUpdate{{AccountingEntryID: entryA, Status: ItemSuccessful}})
		if err != nil || len(result.Updated) != 1 || len(bodies) != 2 || bodies[0] != bodies[1] {
			t.Errorf("%+v, %v, %q", result, err, bodies)
		}
	})
}

func TestLongReasonsAreCut(t *testing.T) {
	t.Parallel()
	if got := shortened(strings.Repeat("ø", MaxReasonRunes)); utf8.RuneCountInString(got) != MaxReasonRunes || strings.HasSuffix(got, "…") {
		t.Error("a reason of the allowed length was cut")
	}
	got := shortened(strings.Repeat("ø", MaxReasonRunes+1))
	if utf8.RuneCountInString(got) != MaxReasonRunes || !strings.HasSuffix(got, "ø…") {
		t.Errorf("%d runes", utf8.RuneCountInString(got))
	}
}
