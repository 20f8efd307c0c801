package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func TestTheControlPlaneIsClosedUnlessAsked(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{})
	u.get("/_simulator/snapshot").wantRefusal(t, http.StatusNotFound, "NOT_FOUND")
	u.get("/").wantRefusal(t, http.StatusNotFound, "NOT_FOUND")
}

// controlled calls the control plane, whose answers carry no request-Id.
func controlled(t *testing.T, u *upstream, method, path, body string, status int, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, u.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := u.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		t.Fatalf("%s %s: %d, want %d", method, path, response.StatusCode, status)
	}
	if into != nil {
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

func TestTheControlPlane(t *testing.T) {
	t.Parallel()
	cfg := oauthConfig(false)
	cfg.Seed, cfg.ItemsPerJob, cfg.Token = 1, 3, simulator.DefaultToken
	u := start(t, cfg)
	call := func(method, path, body string, status int, into any) {
		t.Helper()
		controlled(t, u, method, path, body, status, into)
	}
	var list map[string]string
	call(http.MethodGet, "/_simulator/", "", 200, &list)
	if len(list) != len(simulator.ControlEndpoints) {
		t.Errorf("%d endpoints listed", len(list))
	}
	var added struct{ ID uuid.UUID }
	call(http.MethodPost, "/_simulator/jobs", `{"items":2,"status":"in_progress","expiresIn":60}`, 200, &added)
	path := "/_simulator/jobs/" + added.ID.String()
	var job simulator.JobSnapshot
	call(http.MethodGet, path, "", 200, &job)
	if job.Status != "in_progress" || len(job.Items) != 2 || job.ExpiresIn != 60 {
		t.Errorf("added %+v", job)
	}
	call(http.MethodPost, path+"/touch", `{"items":[{"accountingEntryId":"`+job.Items[0].AccountingEntryID.String()+`","status":"in_progress"}]}`, 200, nil)
	var updates []simulator.ItemUpdate
	call(http.MethodGet, path+"/updates", "", 200, &updates)
	if len(updates) != 1 || updates[0].By != simulator.ByOther {
		t.Errorf("updates %+v", updates)
	}
	var clock struct{ Now time.Time }
	call(http.MethodPost, "/_simulator/clock", `{"advanceSeconds":60}`, 200, &clock)
	if !clock.Now.Equal(epoch.Add(time.Minute)) {
		t.Errorf("now %s", clock.Now)
	}
	var events []simulator.JobEvent
	call(http.MethodGet, path+"/events", "", 200, &events)
	if len(events) != 1 || events[0].Event != "expired" || events[0].By != simulator.ByPleo {
		t.Errorf("events %+v", events)
	}
	call(http.MethodPost, path+"/cancel", "", 409, nil)
	call(http.MethodPost, path+"/announce", "", 200, nil)
	var snapshot struct {
		simulator.Snapshot
		Problems []string
	}
	call(http.MethodGet, "/_simulator/snapshot", "", 200, &snapshot)
	if len(snapshot.Jobs) != 2 || len(snapshot.Problems) != 0 {
		t.Errorf("snapshot of %d jobs, problems %q", len(snapshot.Jobs), snapshot.Problems)
	}
	call(http.MethodPost, "/_simulator/jobs/"+snapshot.Jobs[0].ID.String()+"/expire", "", 200, nil)
	call(http.MethodPut, "/_simulator/faults", `{"faults":"unauthorized:always"}`, 200, nil)
	u.get("/v3/export-jobs").wantRefusal(t, http.StatusUnauthorized, "UNAUTHORIZED")
	var counters simulator.Counters
	call(http.MethodGet, "/_simulator/counters", "", 200, &counters)
	if counters.Requests["list_jobs"][401] != 1 || counters.Faults[simulator.FaultUnauthorized] != 1 {
		t.Errorf("counters %+v", counters)
	}
	call(http.MethodPut, "/_simulator/faults", `{"faults":"everything"}`, 400, nil)
	call(http.MethodPost, "/_simulator/oauth/app/expire", "", 200, nil)
	call(http.MethodPost, "/_simulator/oauth/app/revoke", "", 200, nil)
	u.refresh(t, "", "first", http.StatusBadRequest)
	var counts struct{ Rotations, Refusals int }
	call(http.MethodGet, "/_simulator/oauth/app/requests", "", 200, &counts)
	if counts.Refusals != 1 {
		t.Errorf("counts %+v", counts)
	}
	var deliveries []simulator.WebhookDelivery
	call(http.MethodGet, "/_simulator/webhooks", "", 200, &deliveries)
	for path, status := range map[string]int{
		"/_simulator/jobs/" + uuid.NewString() + "/cancel": 404, "/_simulator/jobs/x/touch": 404, "/_simulator/oauth/nobody/expire": 404,
	} {
		call(http.MethodPost, path, "{}", status, nil)
	}
	call(http.MethodPost, "/_simulator/jobs", `{"itmes":2}`, 400, nil)
	call(http.MethodPost, "/_simulator/jobs", `{"id":"`+added.ID.String()+`"}`, 409, nil)
}

// The exact bytes of a documented answer, asked for in mixed case (trap 20).
func TestAnAnswerCanBeReplaced(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{Control: true})
	id := uuid.MustParse("8eb648ab-464b-42a0-ba17-eda703657e33")
	entries := []simulator.EntrySpec{
		{ID: uuid.MustParse("59540ed2-0d68-4e36-9e31-58223975d9e9"), Payload: json.RawMessage(`{ "accountingEntryId": "59540ed2-0d68-4e36-9e31-58223975d9e9", "amount": 1.50 }`)},
		{ID: uuid.MustParse("6678bcee-c6a4-4b49-bb1e-8f9fd653d16c"), NoPayload: true},
		{ID: uuid.MustParse("9ea2ef81-4d73-460d-bbb4-ccf3da6f6f61"), Status: "successful"},
	}
	if _, err := u.AddJob(simulator.JobSpec{ID: id, Entries: entries}); err != nil {
		t.Fatal(err)
	}
	u.spoiled = true
	mixed := "/v3/export-jobs/8eb648ab-464b-42a0-BA17-eda703657e33/items"
	raw := "{\n  \"data\": [],\t\"pagination\" : { \"hasNextPage\": false }\n}"
	body, err := json.Marshal(simulator.Override{Method: "get", Path: mixed, Body: raw, Times: 2})
	if err != nil {
		t.Fatal(err)
	}
	controlled(t, u, http.MethodPut, "/_simulator/overrides", string(body), 200, nil)
	if r := u.get(mixed+"?limit=10").want(t, http.StatusOK, nil); string(r.body) != raw {
		t.Errorf("answered %q", r.body)
	}
	u.as("").get(mixed).want(t, http.StatusUnauthorized, nil) // authentication comes first
	u.get(strings.ToLower(mixed)).want(t, http.StatusOK, nil)
	rows := u.items(id, "10") // used up
	if len(rows) != 3 || rows[0].Status != "successful" || rows[0].ExportJobID != id.String() {
		t.Errorf("rows %+v", rows)
	}
	controlled(t, u, http.MethodPut, "/_simulator/overrides", string(body), 200, nil)
	controlled(t, u, http.MethodDelete, "/_simulator/overrides", "", 200, nil)
	if len(u.items(id, "10")) != 3 {
		t.Error("the override was not cleared")
	}
	payloads, _ := drain[json.RawMessage](u, "/v3/export-items", map[string][]string{"job_id": {id.String()}})
	if len(payloads) != 2 || !slices.ContainsFunc(payloads, func(p json.RawMessage) bool { return strings.Contains(string(p), `1.50`) }) {
		t.Errorf("payloads %s", payloads)
	}
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := simulator.New(simulator.Config{
		Jobs: -1, ItemsPerJob: -2, RateLimit: -1, PageLimit: 20, MaxPageLimit: 10, Credentials: []simulator.Credential{{}},
		OAuthClients: []simulator.OAuthClient{{}}, Webhook: simulator.WebhookConfig{URL: "not a url"}, Faults: simulator.FaultPlan{{Fault: "x"}},
	})
	if !errors.Is(err, simulator.ErrConfig) {
		t.Fatalf("error %v", err)
	}
	for _, name := range []string{"Jobs", "ItemsPerJob", "RateLimit", "PageLimit", "Credentials[0]", "OAuthClients[0]", "Webhook.URL", "Webhook.Secret", `"x"`} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
	if _, err := simulator.New(simulator.Config{Webhook: simulator.WebhookConfig{URL: "http://127.0.0.1:1", Secret: "whsec_%"}}); !errors.Is(err, simulator.ErrConfig) {
		t.Errorf("bad secret: %v", err)
	}
}

func TestRunServesUntilItIsEnded(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*simulator.Simulator, context.CancelFunc){
		"context": func(_ *simulator.Simulator, cancel context.CancelFunc) { cancel() },
		"close":   func(s *simulator.Simulator, _ context.CancelFunc) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := simulator.New(simulator.Config{Jobs: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer sim.Close()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- sim.Run(ctx, listener) }()
			u := &upstream{
				Simulator: sim, t: t, url: "http://" + listener.Addr().String(), credential: "Bearer " + simulator.DefaultToken,
				http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
			}
			u.get("/v3/export-jobs").want(t, http.StatusOK, nil)
			end(sim, cancel)
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
