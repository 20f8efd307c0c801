package simulator_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/services/simulator"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{Jobs: 1, Token: "tok", APIKey: "pls_0123_x"})
	for credential, status := range map[string]int{
		"Bearer tok": http.StatusOK, "bearer tok": http.StatusOK, basic("pls_0123_x", ""): http.StatusOK,
		"": http.StatusUnauthorized, "Bearer ": http.StatusUnauthorized, "Bearer " + simulator.DefaultToken: http.StatusUnauthorized,
		basic("pls_0123_x", "password"): http.StatusUnauthorized, basic("", ""): http.StatusUnauthorized, "Bearer pls_0123_x": http.StatusUnauthorized,
	} {
		u.as(credential).get("/v3/export-jobs").want(t, status, nil)
	}
	u.as("").get("/v3/export-jobs").wantRefusal(t, http.StatusUnauthorized, "UNAUTHORIZED")
}

func TestACompanyCredentialSeesItsCompany(t *testing.T) {
	t.Parallel()
	cfg := simulator.Config{Seed: 1, Jobs: 2, Companies: 2, ItemsPerJob: 1}
	probe, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	own, foreign := probe.Company(0), probe.Company(1)
	cfg.Credentials = []simulator.Credential{
		{Token: "company", CompanyID: own}, {Token: "org"}, {Token: "reader", Scopes: []string{simulator.ScopeJobsRead}},
	}
	u := start(t, cfg)
	jobs := u.Snapshot().Jobs
	company, org, reader := u.as("Bearer company"), u.as("Bearer org"), u.as("Bearer reader")
	if mine, _ := drain[wireJob](company, "/v3/export-jobs", url.Values{}); len(mine) != 1 || mine[0].CompanyID != own.String() {
		t.Errorf("a company credential lists %+v", mine)
	}
	if all, _ := drain[wireJob](org, "/v3/export-jobs", url.Values{}); len(all) != 2 { // trap 38
		t.Errorf("an organisation credential lists %d jobs", len(all))
	}
	for _, path := range []string{
		"/v3/export-jobs?company_id=" + foreign.String(), "/v3/export-jobs/" + jobs[1].ID.String(), "/v3/export-jobs/" + jobs[1].ID.String() + "/items",
		"/v3/export-items?job_id=" + jobs[1].ID.String(), "/v3/export-job-items?accounting_entry_id=" + jobs[1].Items[0].AccountingEntryID.String() + "&company_id=" + foreign.String(),
	} {
		company.get(path).wantRefusal(t, http.StatusForbidden, "FORBIDDEN")
		org.get(path).want(t, http.StatusOK, nil)
	}
	company.event(jobs[1].ID, "started").wantRefusal(t, http.StatusForbidden, "FORBIDDEN")
	company.put(jobs[1].ID).wantRefusal(t, http.StatusForbidden, "FORBIDDEN")
	company.event(jobs[0].ID, "started").want(t, http.StatusAccepted, nil)

	reader.get("/v3/export-jobs").want(t, http.StatusOK, nil)
	reader.get("/v3/export-items?job_id="+jobs[0].ID.String()).wantRefusal(t, http.StatusForbidden, "FORBIDDEN")
	reader.event(jobs[1].ID, "started").wantRefusal(t, http.StatusForbidden, "FORBIDDEN")

	var who struct {
		Data struct{ SubjectURN, Scope, AuthMethod string }
	}
	company.get("/v1/introspect").want(t, http.StatusOK, &who)
	if who.Data.SubjectURN != "urn:pleo:company:"+own.String() {
		t.Errorf("introspect %+v", who)
	}
	reader.get("/v1/introspect").want(t, http.StatusOK, &who)
	if who.Data.Scope != simulator.ScopeJobsRead {
		t.Errorf("introspect %+v", who)
	}
}

type pair struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
	Error        string
	Description  string `json:"error_description"`
}

func (u *upstream) refresh(t *testing.T, credential, token string, status int) pair {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	if credential == "" {
		form.Set("client_id", "app")
		form.Set("client_secret", "s3cret")
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.url+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if credential != "" {
		request.Header.Set("Authorization", credential)
	}
	response, err := u.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 4096)
	n, _ := response.Body.Read(body)
	var p pair
	reply{status: response.StatusCode, body: body[:n]}.want(t, status, &p)
	return p
}

func oauthConfig(strict bool) simulator.Config {
	return simulator.Config{Jobs: 1, Control: true, OAuthClients: []simulator.OAuthClient{{
		ClientID: "app", ClientSecret: "s3cret", RefreshToken: "first", ReuseKillsFamily: strict,
	}}}
}

// Trap 37: a refresh replaces both tokens at once.
func TestTokensRotate(t *testing.T) {
	t.Parallel()
	u := start(t, oauthConfig(false))
	jobs := func(token string, status int) {
		t.Helper()
		u.as("Bearer "+token).get("/v3/export-jobs").want(t, status, nil)
	}
	one := u.refresh(t, basic("app", "s3cret"), "first", http.StatusOK)
	jobs(one.AccessToken, http.StatusOK)
	two := u.refresh(t, "", one.RefreshToken, http.StatusOK)
	if two.ExpiresIn != 900 {
		t.Errorf("expires_in %d", two.ExpiresIn)
	}
	jobs(one.AccessToken, http.StatusUnauthorized)
	jobs(two.AccessToken, http.StatusOK)
	if refused := u.refresh(t, "", one.RefreshToken, http.StatusBadRequest); refused.Error != "invalid_grant" || refused.Description != "invalid_refresh_token" {
		t.Errorf("refused with %+v", refused)
	}
	jobs(two.AccessToken, http.StatusOK) // a lenient server keeps the family
	u.refresh(t, basic("app", "wrong"), two.RefreshToken, http.StatusUnauthorized)
	u.clock.Advance(15 * time.Minute)
	jobs(two.AccessToken, http.StatusUnauthorized)
	three := u.refresh(t, "", two.RefreshToken, http.StatusOK)
	jobs(three.AccessToken, http.StatusOK)
	if err := u.ExpireAccessToken("app"); err != nil {
		t.Fatal(err)
	}
	jobs(three.AccessToken, http.StatusUnauthorized)
	u.clock.Advance(60 * 24 * time.Hour)
	u.refresh(t, "", three.RefreshToken, http.StatusBadRequest)
	if rotations, refusals, err := u.TokenCounts("app"); err != nil || rotations != 3 || refusals != 2 {
		t.Errorf("%d rotations, %d refusals, %v", rotations, refusals, err)
	}
}

func TestReuseKillsTheFamily(t *testing.T) {
	t.Parallel()
	u := start(t, oauthConfig(true))
	one := u.refresh(t, "", "first", http.StatusOK)
	u.refresh(t, "", "first", http.StatusBadRequest)
	u.as("Bearer "+one.AccessToken).get("/v3/export-jobs").want(t, http.StatusUnauthorized, nil)
	u.refresh(t, "", one.RefreshToken, http.StatusBadRequest)
}

func TestALostRefresh(t *testing.T) {
	t.Parallel()
	cfg := oauthConfig(false)
	cfg.Faults = plan(t, "lost-refresh:once")
	u := start(t, cfg)
	if r := u.do(http.MethodPost, "/oauth/token", "grant_type=refresh_token&refresh_token=first&client_id=app&client_secret=s3cret"); r.err == nil {
		t.Fatalf("the reply arrived: %s", r.body)
	}
	u.refresh(t, "", "first", http.StatusBadRequest)
}

// Trap 40: what calls above the limit are answered.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{Jobs: 1, RateLimit: 5})
	passed, refused := 0, 0
	for range 20 {
		switch r := u.get("/v3/export-jobs"); r.status {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
			refused++
			if r.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
			}
		}
	}
	if passed != 5 || refused != 15 {
		t.Errorf("%d passed and %d refused while the clock stood still", passed, refused)
	}
	u.clock.Advance(time.Second)
	u.get("/v3/export-jobs").want(t, http.StatusOK, nil)
	c := u.Counters()
	if c.RateAccepted != 6 || c.RateRefused != 15 || c.Requests["list_jobs"][429] != 15 {
		t.Errorf("counters %+v", c)
	}
}
