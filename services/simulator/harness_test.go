package simulator_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch is when every manual clock of these tests starts.
var epoch = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

// upstream is a simulator behind a real HTTP server, with a manual clock.
type upstream struct {
	*simulator.Simulator
	t     *testing.T
	clock *simulator.ManualClock
	url   string
	http  *http.Client
	// credential goes into Authorization; "" sends none.
	credential string
	// spoiled answers are not held against the OpenAPI description.
	spoiled bool
}

// reply is one answer, read to its end. err is a broken connection or body.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func start(t *testing.T, cfg simulator.Config) *upstream {
	t.Helper()
	clock := simulator.NewManualClock(epoch)
	if cfg.Clock == nil {
		cfg.Clock = clock
	}
	if cfg.SlowBody == 0 {
		cfg.SlowBody = 8 * time.Millisecond
	}
	sim, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(func() {
		sim.Close()
		server.Close()
	})
	return &upstream{
		Simulator: sim, t: t, clock: clock, url: server.URL, credential: "Bearer " + simulator.DefaultToken,
		// Without kept-alive connections net/http repeats nothing by itself.
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

func (u *upstream) as(credential string) *upstream {
	other := *u
	other.credential = credential
	return &other
}

func (u *upstream) do(method, path string, body any) reply {
	u.t.Helper()
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			u.t.Fatal(err)
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.url+path, payload)
	if err != nil {
		u.t.Fatal(err)
	}
	if u.credential != "" {
		request.Header.Set("Authorization", u.credential)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := u.http.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer response.Body.Close()
	r := reply{status: response.StatusCode, header: response.Header}
	r.body, r.err = io.ReadAll(response.Body)
	if response.Header.Get("request-Id") == "" {
		u.t.Errorf("%s %s: no request-Id", method, path)
	}
	if r.err == nil && !u.spoiled {
		checkAgainstDescription(u.t, method, path, r)
	}
	return r
}

func (u *upstream) get(path string) reply { u.t.Helper(); return u.do(http.MethodGet, path, nil) }

// want reads the answer into a value and insists on the status.
func (r reply) want(t *testing.T, status int, into any) reply {
	t.Helper()
	if r.err != nil {
		t.Fatalf("no whole answer: %v", r.err)
	}
	if r.status != status {
		t.Fatalf("status %d, want %d: %.300s", r.status, status, r.body)
	}
	if into != nil {
		if err := json.Unmarshal(r.body, into); err != nil {
			t.Fatalf("decode %.300s: %v", r.body, err)
		}
	}
	return r
}

func (r reply) wantRefusal(t *testing.T, status int, kind string) {
	t.Helper()
	var e struct{ Type, Message string }
	r.want(t, status, &e)
	if e.Type != kind || e.Message == "" {
		t.Fatalf("refused with %+v, want %s", e, kind)
	}
}

// The shapes below are written for these tests alone.

type wireJob struct {
	ID, CompanyID, Status, CreatedAt                 string
	NumberOfItems, ExpiresIn                         int
	StartedAt, LastUpdatedAt, CompletedAt, ExpiredAt *string
	FailureReason, FailureReasonType                 *string
	CreatedBy                                        *string
	IsInteractive, VendorBasedBookkeeping            bool
}

type wireItem struct {
	ExportJobID, AccountingEntryID, Status string
	ExternalID, ExternalURL, ExportedAt    *string
	FailureReason, FailureReasonType       *string
}

type wirePayload struct {
	AccountingEntryID, CompanyID, Type, Date string
	User, Supplier, Vendor, Bookkeeping      *json.RawMessage
	Files                                    []struct{ URL string }
	Amount                                   json.RawMessage
}

type wirePagination struct {
	HasNextPage, HasPreviousPage bool
	StartCursor, EndCursor       *string
	Total                        *int64
	CurrentRequestPagination     struct {
		Parameters    map[string][]string
		After, Before string
		Limit         *int
		Offset        *int64
		SortingKeys   []string
		SortingOrder  []string
	}
}

type wirePage[T any] struct {
	Data       []T
	Pagination wirePagination
}

type wireUpdate struct {
	Data   []wireItem
	Errors []struct{ AccountingEntryID, Type, Message string }
}

func (u *upstream) job(id uuid.UUID) wireJob {
	u.t.Helper()
	var body struct{ Data wireJob }
	u.get("/v3/export-jobs/"+id.String()).want(u.t, http.StatusOK, &body)
	return body.Data
}

func (u *upstream) event(id uuid.UUID, event string) reply {
	u.t.Helper()
	return u.do(http.MethodPost, "/v3/export-job-events", map[string]string{"jobId": id.String(), "event": event})
}

func (u *upstream) started(id uuid.UUID) {
	u.t.Helper()
	u.event(id, "started").want(u.t, http.StatusAccepted, nil)
}

// drain reads all pages of a list, and fails on one that leads nowhere.
func drain[T any](u *upstream, path string, query url.Values) (rows []T, pages int) {
	u.t.Helper()
	query = cloneValues(query)
	for {
		var page wirePage[T]
		u.get(path+"?"+query.Encode()).want(u.t, http.StatusOK, &page)
		rows = append(rows, page.Data...)
		if pages++; !page.Pagination.HasNextPage {
			return rows, pages
		}
		if page.Pagination.EndCursor == nil || *page.Pagination.EndCursor == query.Get("after") {
			u.t.Fatalf("page %d of %s leads nowhere", pages, path)
		}
		query.Set("after", *page.Pagination.EndCursor)
	}
}

func cloneValues(values url.Values) url.Values {
	clone := url.Values{}
	for name, list := range values {
		clone[name] = append([]string{}, list...)
	}
	return clone
}

func (u *upstream) items(id uuid.UUID, limit string) []wireItem {
	u.t.Helper()
	rows, _ := drain[wireItem](u, "/v3/export-jobs/"+id.String()+"/items", url.Values{"limit": {limit}})
	return rows
}

func (u *upstream) payloads(id uuid.UUID, limit string) []wirePayload {
	u.t.Helper()
	rows, _ := drain[wirePayload](u, "/v3/export-items", url.Values{"job_id": {id.String()}, "limit": {limit}})
	return rows
}

func (u *upstream) put(id uuid.UUID, changes ...map[string]any) reply {
	u.t.Helper()
	if changes == nil {
		changes = []map[string]any{} // [] and not null
	}
	return u.do(http.MethodPut, "/v3/export-jobs/"+id.String()+"/items", changes)
}

func booked(entry string) map[string]any {
	return map[string]any{"accountingEntryId": entry, "status": "successful", "externalId": "JE-" + entry[:8], "exportedAt": "2026-04-01T09:00:00Z"}
}

// add puts a job of n generated items in place.
func (u *upstream) add(n int) uuid.UUID {
	u.t.Helper()
	id, err := u.AddJob(simulator.JobSpec{Items: &n})
	if err != nil {
		u.t.Fatal(err)
	}
	return id
}

func plan(t *testing.T, text string) simulator.FaultPlan {
	t.Helper()
	p, err := simulator.ParseFaults(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
