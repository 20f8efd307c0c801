package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/config"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/upstream"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// clients are those of one process, with a connection of its own, by settings as an
// operator writes them.
func (in *installation) clients(settings config.Pleo) *upstream.Clients {
	in.t.Helper()
	settings.URL, settings.Timeout, settings.PageSize = in.url, 5*time.Second, 100
	conn := in.connect()
	c, err := upstream.New(upstream.Options{Settings: settings, Conn: conn, Replicas: 1, UserAgent: "ledgerline/test", Logger: in.logger()})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() {
		c.Close()
		conn.Close()
	})
	return c
}

// Trap 37: two fetchers and two consumers share an OAuth client whose tokens live a
// second and whose server voids everything at the second use of a refresh token.
// All jobs complete, no refresh is refused, and nothing of a token is logged.
func TestProcessesShareRotatingTokens(t *testing.T) {
	t.Parallel()
	const clientID = "installation"
	in := install(t, simulator.Config{
		Seed: 37, Jobs: 8, ItemsPerJob: 150, Companies: 4,
		OAuthClients: []simulator.OAuthClient{{
			ClientID: clientID, ClientSecret: "hush/secret", RefreshToken: "rt_first",
			AccessLifetime: time.Second, ReuseKillsFamily: true,
		}},
	})
	settings := config.Pleo{
		Rate: 1000, ClientID: clientID, ClientSecret: config.NewSecret("hush/secret"),
		RefreshToken: config.NewSecret("rt_first"), TokenURL: in.url + "/oauth/token",
	}
	// An item a hundredth of a second, so that some tokens are lived through.
	to := &book{answer: slowly(10 * time.Millisecond)}
	for range 2 {
		in.fetcher(func(c *fetcher.Config) { c.Pleo = in.clients(settings) })
		in.consumer(to, func(c *consumer.Config) { c.Pleo = in.clients(settings) })
	}
	var jobs []uuid.UUID
	for _, j := range in.upstream.Snapshot().Jobs {
		jobs = append(jobs, j.ID)
	}
	in.publish(jobs...)
	in.completes(jobs...)
	for _, job := range jobs {
		to.once(in, job, 150)
	}
	rotations, refusals, err := in.upstream.TokenCounts(clientID)
	if err != nil || rotations < 3 || refusals != 0 {
		t.Errorf("%d rotations, %d refusals: %v", rotations, refusals, err)
	}
	for _, secret := range []string{"rt_", "at_", "hush"} {
		if strings.Contains(in.log.Text(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// Every simulator fault: the reply to a refresh is lost, and the server voids what is
// offered twice. Nothing is parked for it and nothing lost: it is told with the way
// out, and with a new login the jobs go on where they stood.
func TestALostRefreshIsToldAndANewLoginGoesOn(t *testing.T) {
	t.Parallel()
	login := func(id string, lives time.Duration) simulator.OAuthClient {
		return simulator.OAuthClient{
			ClientID: id, ClientSecret: "hush/secret", RefreshToken: "rt_" + id, AccessLifetime: lives, ReuseKillsFamily: true,
		}
	}
	in := install(t, simulator.Config{
		Seed: 39, Jobs: 4, ItemsPerJob: 100, Companies: 4,
		OAuthClients: []simulator.OAuthClient{login("first", 2*time.Second), login("second", time.Hour)},
	})
	settings := func(id string) config.Pleo {
		return config.Pleo{
			Rate: 1000, ClientID: id, ClientSecret: config.NewSecret("hush/secret"),
			RefreshToken: config.NewSecret("rt_" + id), TokenURL: in.url + "/oauth/token",
		}
	}
	lost := simulator.FaultPlan{{Fault: simulator.FaultLostRefresh, Mode: simulator.FaultOnce}}
	// The jobs outlive the pair of tokens with which they began.
	to, slow := &book{}, slowly(30*time.Millisecond)
	to.answer = func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 20 {
			if err := in.upstream.SetFaults(lost); err != nil {
				t.Error(err)
			}
		}
		return slow(ctx, d)
	}
	work := func(id string) []*worker {
		return []*worker{
			in.fetcher(func(c *fetcher.Config) { c.Pleo = in.clients(settings(id)) }),
			in.consumer(to, func(c *consumer.Config) { c.Pleo = in.clients(settings(id)) }),
		}
	}
	before := work("first")
	var jobs []uuid.UUID
	for _, j := range in.upstream.Snapshot().Jobs {
		jobs = append(jobs, j.ID)
	}
	in.publish(jobs...)
	event := in.log.Wait(logevent.PleoAuthorisationLost)
	if out, _ := event["way_out"].(string); event["level"] != "error" || !strings.Contains(out, "LEDGERLINE_PLEO_REFRESH_TOKEN") {
		t.Errorf("event %v", event)
	}
	for _, w := range before {
		w.stop()
	}
	work("second")
	in.completes(jobs...)
	for _, job := range jobs {
		to.once(in, job, 100)
	}
}

// Trap 38, and isolation: of three companies two have credentials of their own, the
// third is served by the organisation's. Whatever an event says, nothing of a
// company's job is read or written with another company's credential; with the
// organisation's no more than the one look at a job that tells whose it is.
func TestCompaniesAreKeptApart(t *testing.T) {
	t.Parallel()
	companyA, companyB, other := uuid.New(), uuid.New(), uuid.New()
	in := install(t, simulator.Config{
		Seed: 38,
		Credentials: []simulator.Credential{
			{Token: "token-organisation"},
			{Token: "token-a", CompanyID: companyA},
			{APIKey: "key-b", CompanyID: companyB},
		},
	})
	settings := config.Pleo{
		Rate: 1000, Token: config.NewSecret("token-organisation"),
		Credentials: []config.Credential{
			{CompanyID: companyA.String(), Token: config.NewSecret("token-a")},
			{CompanyID: companyB.String(), APIKey: config.NewSecret("key-b")},
		},
	}
	own := map[uuid.UUID]string{companyA: "token-a", companyB: "key-b", other: "token-organisation"}
	jobs := map[uuid.UUID]uuid.UUID{} // and their companies
	seen := &requests{}
	in.intercept(seen.note)

	events := []struct{ of, says uuid.UUID }{
		{companyA, companyA}, {companyB, companyB}, {other, other}, // the truth
		{companyA, uuid.Nil}, {companyB, uuid.Nil}, {other, uuid.Nil}, // nothing
		{companyB, companyA}, {other, companyB}, {companyA, other}, // something else
	}
	for _, e := range events {
		job := in.add(simulator.JobSpec{CompanyID: e.of, Items: items(5)})
		jobs[job] = e.of
		event := map[string]string{"jobId": job.String()}
		if e.says != uuid.Nil {
			event["companyId"] = e.says.String()
		}
		encoded, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		in.publishRaw("", encoded)
	}
	to := &book{}
	in.fetcher(func(c *fetcher.Config) { c.Pleo = in.clients(settings) })
	in.consumer(to, func(c *consumer.Config) { c.Pleo = in.clients(settings) })
	in.completes(slices.Collect(maps.Keys(jobs))...)

	counts := map[string]int{}
	for _, r := range seen.all() {
		company, known := jobs[r.job]
		switch {
		case !known:
			t.Errorf("%s %s is about no job", r.method, r.path)
		case r.credential == own[company]:
			counts[r.credential]++
		case r.method == http.MethodGet && r.path == "/v3/export-jobs/"+r.job.String() && r.status != http.StatusOK:
			// A company's credential was asked because the event named that company:
			// Pleo has shown it nothing.
		case r.credential == "token-organisation" && r.method == http.MethodGet && r.path == "/v3/export-jobs/"+r.job.String():
		default:
			t.Errorf("%s %s of company %s with %s", r.method, r.path, company, r.credential)
		}
	}
	for _, credential := range own {
		if counts[credential] < 3*4 { // job, items, payload, report of three jobs at least
			t.Errorf("%d requests with %s", counts[credential], credential)
		}
	}
}

// Without a default credential an event that names no company is parked, and the
// reason says what to do; a company that is listed goes on.
func TestCompanyWithoutCredentialIsParked(t *testing.T) {
	t.Parallel()
	company := uuid.New()
	in := install(t, simulator.Config{Seed: 39, Credentials: []simulator.Credential{{Token: "token-a", CompanyID: company}}})
	settings := config.Pleo{Credentials: []config.Credential{{CompanyID: company.String(), Token: config.NewSecret("token-a")}}}
	to := &book{}
	in.fetcher(func(c *fetcher.Config) { c.Pleo = in.clients(settings) })
	in.consumer(to, func(c *consumer.Config) { c.Pleo = in.clients(settings) })
	nameless := in.add(simulator.JobSpec{CompanyID: company, Items: items(3)})
	in.publish(nameless)
	p := in.parkedThing(func(p *ledgerlinev1.Parked) bool { return p.GetJobId() == nameless.String() })
	if !strings.Contains(p.GetReason(), "no credential for this company") {
		t.Errorf("parked for %q", p.GetReason())
	}
	job := in.add(simulator.JobSpec{CompanyID: company, Items: items(3)})
	in.publishRaw("", []byte(`{"jobId":"`+job.String()+`","companyId":"`+company.String()+`"}`))
	in.completes(job)
}

// slowly books each item after d.
func slowly(d time.Duration) func(context.Context, sink.Delivery) sink.Answer {
	return func(ctx context.Context, delivery sink.Delivery) sink.Answer {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return bookedAs(delivery)
	}
}

// request is one that came to the upstream.
type request struct {
	method, path, credential string
	job                      uuid.UUID
	status                   int
}

// requests keeps them.
type requests struct {
	mu   sync.Mutex
	kept []request
}

func (s *requests) note(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	seen := request{method: r.Method, path: r.URL.Path, credential: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	if key, _, ok := r.BasicAuth(); ok {
		seen.credential = key
	}
	// The job stands in the path, in the query or in the body.
	for _, text := range append(strings.Split(r.URL.Path, "/"), r.URL.Query().Get("job_id"), jobOf(body)) {
		if id, err := uuid.Parse(text); err == nil {
			seen.job = id
		}
	}
	answer := recorded(next, r)
	seen.status = answer.Code
	s.mu.Lock()
	s.kept = append(s.kept, seen)
	s.mu.Unlock()
	replay(w, answer)
}

func jobOf(body []byte) string {
	var event struct {
		Data struct {
			JobID string `json:"jobId"`
		} `json:"data"`
		JobID string `json:"jobId"`
	}
	if json.Unmarshal(body, &event) != nil {
		return ""
	}
	return event.JobID + event.Data.JobID
}

func (s *requests) all() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept)
}
