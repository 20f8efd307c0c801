package pleo

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
)

// The description is data that stays outside the repository: the folder's name
// comes from the environment.
const openAPIDirVariable = "PLEO_OPENAPI_DIR"

var (
	dateMask  = regexp.MustCompile(`(?m)^ +pattern: (YYYY|yyyy).*\n`)
	knowUUIDs = sync.OnceFunc(func() {
		openapi3.DefineStringFormatValidator("uuid", openapi3.NewCallbackValidator(uuid.Validate))
	})
)

// descriptions loads the API's public descriptions. In memory only: the version
// line becomes one that the library knows, date masks that are no regular
// expressions go, and the charset leaves the media types.
func descriptions(t *testing.T) []*openapi3.T {
	t.Helper()
	dir := os.Getenv(openAPIDirVariable)
	if dir == "" {
		t.Skipf("NOT CHECKED against the API's public description: %s is not set", openAPIDirVariable)
	}
	knowUUIDs()
	files, err := filepath.Glob(filepath.Join(dir, "*.openapi.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no *.openapi.yml in %s (%v)", openAPIDirVariable, err)
	}
	var docs []*openapi3.T
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(b), "openapi: 3.2.0", "openapi: 3.1.0", 1)
		text = dateMask.ReplaceAllString(text, "")
		text = strings.ReplaceAll(text, "application/json;charset=UTF-8", "application/json")
		doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		doc.Servers = nil // ours runs on a port of its own
		docs = append(docs, doc)
	}
	return docs
}

// checker validates each request against the description before it is answered.
type checker struct {
	t       *testing.T
	routers []routers.Router

	mu         sync.Mutex
	operations []string
}

func newChecker(t *testing.T) *checker {
	c := &checker{t: t}
	for _, doc := range descriptions(t) {
		router, err := gorillamux.NewRouter(doc)
		if err != nil {
			t.Fatal(err)
		}
		c.routers = append(c.routers, router)
	}
	return c
}

func (c *checker) check(r *http.Request) error {
	for _, router := range c.routers {
		route, params, err := router.FindRoute(r)
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.operations = append(c.operations, route.Operation.OperationID)
		c.mu.Unlock()
		for name := range r.URL.Query() {
			if !slices.ContainsFunc(route.Operation.Parameters, func(p *openapi3.ParameterRef) bool {
				return p.Value.In == openapi3.ParameterInQuery && p.Value.Name == name
			}) {
				c.t.Errorf("%s: query parameter %s is not in the description", route.Operation.OperationID, name)
			}
		}
		return openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
			Request: r, PathParams: params, Route: route,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true},
		})
	}
	return routers.ErrPathNotFound
}

// Every request that the client makes is valid by the public description, for
// every operation, encoded cursors (trap 19) and mixed-case ids included.
func TestRequestsMatchTheDescription(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	job := strings.TrimSuffix(strings.TrimPrefix(jobJSON(""), `{"data":`), "}")
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := c.check(r); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		cursor := ""
		if r.URL.Query().Get("after") == "" {
			cursor = "AAAAAADJ3YT4YKWVVLYA=AFRDZIJCOBE2JLCIOQDPOKFVZY~"
		}
		switch {
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			answer(w, 200, `{"data":[],"errors":[]}`)
		case r.URL.Path == "/v3/export-jobs":
			answer(w, 200, pageJSON(cursor, job))
		case r.URL.Path == "/v3/export-items":
			answer(w, 200, pageJSON(cursor, `{"accountingEntryId":"`+entryA+`"}`))
		case strings.HasSuffix(r.URL.Path, "/items"):
			answer(w, 200, pageJSON(cursor, jobItemJSON(entryA)))
		default:
			answer(w, 200, jobJSON(""))
		}
	})
	ctx := t.Context()
	mixed := strings.ToUpper(jobID[:20]) + jobID[20:]
	must := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := u.Job(ctx, mixed)
	must("Job", err)
	_, err = u.EachJob(ctx, JobsQuery{}, func([]Job) error { return nil })
	must("EachJob", err)
	_, err = u.EachJob(ctx, JobsQuery{
		CompanyID: strings.ToUpper(companyID),
		Statuses:  []JobStatus{JobPending, JobInProgress, JobCompleted, JobCompletedWithErrors, JobFailed},
	}, func([]Job) error { return nil })
	must("EachJob of a company", err)
	_, err = u.EachJobItem(ctx, mixed, func([]JobItem) error { return nil })
	must("EachJobItem", err)
	_, err = u.EachExportItem(ctx, mixed, func([]ExportItem) error { return nil })
	must("EachExportItem", err)
	for _, e := range []Event{EventStarted, EventCompleted, EventCompletedWithErrors, EventFailed} {
		must("PostJobEvent "+string(e), u.PostJobEvent(ctx, JobEvent{JobID: mixed, Event: e}))
	}
	for _, reason := range jobFailureTypes {
		must("PostJobEvent failed "+string(reason), u.PostJobEvent(ctx, JobEvent{
			JobID: mixed, Event: EventFailed, FailureReason: "…", FailureReasonType: reason,
		}))
	}
	var updates []ItemUpdate
	for i, status := range []ItemStatus{ItemPending, ItemInProgress, ItemSuccessful, ItemFailed, ItemAbandoned} {
		updates = append(updates, ItemUpdate{AccountingEntryID: nthEntry(i), Status: status, ExportedAt: time.Now(), ExternalID: "JE-1", ExternalURL: "https://erp.example/1"})
	}
	for i, reason := range itemFailureTypes {
		updates = append(updates, ItemUpdate{AccountingEntryID: nthEntry(100 + i), Status: ItemFailed, FailureReason: "no", FailureReasonType: reason})
	}
	_, err = u.UpdateJobItems(ctx, mixed, updates)
	must("UpdateJobItems", err)

	slices.Sort(c.operations)
	want := []string{
		"createExportJobEventV3", "getExportItemsV3", "getExportJobByIdV3", "getExportJobItemsV3", "getExportJobsListV3", "updateExportJobItemsV3",
	}
	if got := slices.Compact(c.operations); !slices.Equal(got, want) {
		t.Errorf("operations checked: %v, want %v", got, want)
	}
}

// The checker itself notices what it is there for.
func TestCheckerNoticesWrongRequests(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for name, r := range map[string][3]string{
		"cursor outside the alphabet": {http.MethodGet, "/v3/export-items?after=a-b", ""},
		"limit is text":               {http.MethodGet, "/v3/export-items?limit=ten", ""},
		"job id is no UUID":           {http.MethodGet, "/v3/export-jobs/x/items", ""},
		"unknown job status":          {http.MethodGet, "/v3/export-jobs?statuses=done", ""},
		"exportJobId (trap 23)":       {http.MethodPost, "/v3/export-job-events", `{"exportJobId":"` + jobID + `","event":"started"}`},
		"items object (trap 21)":      {http.MethodPut, "/v3/export-jobs/" + jobID + "/items", `{"items":[]}`},
		"unknown path":                {http.MethodGet, "/v3/export-job", ""},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), r[0], r[1], strings.NewReader(r[2]))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json;charset=UTF-8")
			if c.check(req) == nil {
				t.Error("accepted")
			}
		})
	}
}

var (
	jobFailureTypes = []JobFailureType{
		JobInvalidConfiguration, JobMissingConfiguration, JobAuthenticationFailure, JobSystemAuthentication,
		JobPleoRateLimit, JobSystemRateLimit, JobServiceUnreachable, JobSystemUnreachable, JobValidationFailure,
		JobAuthorizationFailure, JobIntegrationUnusable, JobExpired, JobServiceTimeout, JobAccountingSystemTimeout,
		JobCanceledByUser,
	}
	itemFailureTypes = []ItemFailureType{
		ItemReceiptUploadFailure, ItemReceiptDownloadFailure, ItemReceiptFileTooLarge, ItemReceiptConversionFailure,
		ItemUnexpectedFailure, ItemInvalidConfiguration, ItemMissingConfiguration, ItemSystemAuthentication,
		ItemSystemRateLimit, ItemSystemUnreachable, ItemValidationFailure, ItemSystemValidationFailure,
		ItemAuthorizationFailure, ItemSystemTimeout, ItemVendorUnknown, ItemAccountUnknown, ItemTaxCodeUnknown,
		ItemTagUnknown,
	}
)

// Our lists are the description's lists, no more and no less (trap 27: version
// 3's, with the four *_unknown reasons).
func TestValuesMatchTheDescription(t *testing.T) {
	t.Parallel()
	ours := map[string][]any{
		"ExportJobStatus":                {JobPending, JobInProgress, JobCompleted, JobCompletedWithErrors, JobFailed},
		"ExportJobItemStatus":            {ItemPending, ItemInProgress, ItemSuccessful, ItemFailed, ItemAbandoned},
		"ExportJobEventType":             {EventStarted, EventFailed, EventCompleted, EventCompletedWithErrors},
		"ExportJobFailureReasonType":     {},
		"ExportJobItemFailureReasonType": {},
	}
	for _, v := range jobFailureTypes {
		if !v.Known() {
			t.Errorf("%s is not known", v)
		}
		ours["ExportJobFailureReasonType"] = append(ours["ExportJobFailureReasonType"], v)
	}
	for _, v := range itemFailureTypes {
		if !v.Known() {
			t.Errorf("%s is not known", v)
		}
		ours["ExportJobItemFailureReasonType"] = append(ours["ExportJobItemFailureReasonType"], v)
	}
	found := map[string]bool{}
	for _, doc := range descriptions(t) {
		for name, values := range ours {
			schema := doc.Components.Schemas[name]
			if schema == nil {
				continue
			}
			found[name] = true
			var a, b []string
			for _, v := range values {
				a = append(a, reflect.ValueOf(v).String())
			}
			for _, v := range schema.Value.Enum {
				b = append(b, reflect.ValueOf(v).String())
			}
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: ours %v, description %v", name, a, b)
			}
		}
	}
	if len(found) != len(ours) {
		t.Errorf("only %v are in the description", found)
	}
}
