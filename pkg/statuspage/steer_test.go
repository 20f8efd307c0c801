package statuspage

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/steer"
)

const html = "text/html,application/xhtml+xml"

// Every action needs the token, and without one configured there is nothing to
// press and nothing that could be pressed.
func TestNobodySteersWithoutTheToken(t *testing.T) {
	t.Parallel()
	reading := Reading{Jobs: []Job{running(jobA)}, Parked: []Parked{{JobID: jobB, Reason: "stopped", At: time.Now()}}}
	open := serve(t, testToken, reading)
	session := open.session()
	expired := strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10)
	later := strconv.FormatInt(time.Now().Add(1e6*time.Second).Unix(), 10)
	_, seal, _ := strings.Cut(session, ".")
	for _, c := range []struct {
		name    string
		site    *site
		status  int
		headers []string
	}{
		{"read-only", serve(t, "", reading), 403, nil},
		{"read-only, with a token", serve(t, "", reading), 403, []string{"Authorization", "Bearer " + testToken}},
		{"read-only, with an empty token", serve(t, "", reading), 403, []string{"Authorization", "Bearer "}},
		{"the token is too short", serve(t, "short", reading), 403, []string{"Authorization", "Bearer short"}},
		{"nothing", open, 401, nil},
		{"a wrong token", open, 401, []string{"Authorization", "Bearer " + testToken + "!"}},
		{"half the token", open, 401, []string{"Authorization", "Bearer " + testToken[:16]}},
		{"no token", open, 401, []string{"Authorization", "Bearer "}},
		{"a wrong token beside a session", open, 401, []string{"Authorization", "Bearer x", "Cookie", session}},
		{"an empty cookie", open, 401, []string{"Cookie", sessionCookie + "="}},
		{"the token as a cookie", open, 401, []string{"Cookie", sessionCookie + "=" + strings.ReplaceAll(testToken, " ", "")}},
		{"an expired session", open, 401, []string{"Cookie", sessionCookie + "=" + expired + "." + sessionSeal(testToken, expired)}},
		{"a session made longer", open, 401, []string{"Cookie", sessionCookie + "=" + later + "." + seal}},
		{"a session of another token", open, 401, []string{"Cookie", sessionCookie + "=" + later + "." + sessionSeal("another token, long enough", later)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			headers := append([]string{"Origin", c.site.url}, c.headers...)
			for _, action := range actions {
				if response, text := c.site.ask("POST", "/status/jobs/"+jobA+"/"+string(action), "", headers...); response.StatusCode != c.status {
					t.Errorf("%s: %s: %s", action, response.Status, text)
				}
			}
			if response, _ := c.site.ask("GET", "/status/jobs/"+jobA+"/cancel", "", headers...); response.StatusCode != c.status {
				t.Errorf("the question before a cancel: %s", response.Status)
			}
			_, page := c.site.ask("GET", "/", "", headers...)
			if !strings.Contains(page, jobA) || !strings.Contains(page, "stopped") {
				t.Errorf("the page cannot be read: %s", page)
			}
			for _, of := range []string{"<form", "<button", "/status/jobs/"} {
				if strings.Contains(page, of) {
					t.Errorf("the page has %s", of)
				}
			}
			if done := c.site.source.done(); len(done) > 0 {
				t.Errorf("steered: %v", done)
			}
		})
	}
}

func TestTheTokenSteers(t *testing.T) {
	t.Parallel()
	paused := running(jobB)
	paused.State = statePaused
	s := serve(t, testToken, Reading{Jobs: []Job{running(jobA), paused}})
	_, page := s.ask("GET", "/", "", "Cookie", s.session())
	for _, of := range []string{
		`action="/status/jobs/` + jobA + `/pause"`, `href="/status/jobs/` + jobA + `/cancel"`, `action="/status/jobs/` + jobB + `/resume"`, "Sign out",
	} {
		if !strings.Contains(page, of) {
			t.Errorf("the page has no %s", of)
		}
	}
	if strings.Contains(page, "/retry") {
		t.Error("a job that is not parked can be retried")
	}
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + testToken},
		{"Cookie", s.session(), "Origin", s.url},
		{"Cookie", s.session(), "Sec-Fetch-Site", "same-origin"},
	} {
		if response, text := s.ask("POST", "/status/jobs/"+strings.ToUpper(jobA)+"/pause", "", headers...); response.StatusCode != 200 || !strings.Contains(text, "done.") {
			t.Errorf("%s: %s", response.Status, text)
		}
	}
	if want := slices.Repeat([]string{"pause " + jobA}, 3); !slices.Equal(s.source.done(), want) {
		t.Errorf("steered %v, want %v", s.source.done(), want)
	}
	if line := s.log.Wait(logevent.StatusActionAsked); line["job_id"] != jobA || line["action"] != "pause" {
		t.Errorf("logged %v", line)
	}
}

// A page of another site, in the browser of somebody who is signed in here.
func TestAnotherSitesPageCannotPress(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, Reading{Jobs: []Job{running(jobA)}})
	session := s.session()
	for _, headers := range [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Origin", "https" + strings.TrimPrefix(s.url, "http") + ".evil.example"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "cross-site", "Origin", s.url},
		{}, // a browser too old to say
	} {
		headers = append(headers, "Cookie", session)
		if response, _ := s.ask("POST", "/status/jobs/"+jobA+"/cancel", "", headers...); response.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %s", headers, response.Status)
		}
	}
	if response, _ := s.ask("POST", "/status/sign-in", "token="+strings.ReplaceAll(testToken, " ", "+"), "Origin", "https://evil.example"); response.StatusCode != http.StatusForbidden {
		t.Errorf("signing in: %s", response.Status)
	}
	if done := s.source.done(); len(done) > 0 {
		t.Errorf("steered: %v", done)
	}
}

func TestSigningInAndOut(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, Reading{})
	response, text := s.ask("POST", "/status/sign-in", "token=wrong", "Origin", s.url, "Accept", html)
	if response.StatusCode != 401 || !strings.Contains(text, "not the token") || len(response.Cookies()) != 0 {
		t.Errorf("a wrong token: %s, %s", response.Status, text)
	}
	s.log.Wait(logevent.StatusSignInRefused)
	form := "token=" + strings.ReplaceAll(testToken, " ", "+")
	for _, c := range []struct {
		forwarded string
		secure    bool
	}{{"", false}, {"https", true}} {
		response, _ = s.ask("POST", "/status/sign-in", form, "Origin", s.url, "X-Forwarded-Proto", c.forwarded)
		cookie := response.Cookies()[0]
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure != c.secure || cookie.MaxAge != 12*60*60 || cookie.Path != "/" {
			t.Errorf("the cookie is %v", cookie)
		}
		if strings.Contains(cookie.Value, testToken) {
			t.Error("the cookie holds the token")
		}
	}
	response, _ = s.ask("POST", "/status/sign-out", "", "Origin", s.url, "Cookie", s.session())
	if cookie := response.Cookies()[0]; cookie.MaxAge >= 0 || cookie.Value != "" {
		t.Errorf("signing out leaves the cookie %v", cookie)
	}
	if strings.Contains(s.log.Text(), testToken) {
		t.Error("the token is in the log")
	}
}

func TestARotatedTokenEndsEverySession(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, Reading{})
	headers := []string{"Cookie", s.session(), "Origin", s.url}
	s.page.token = func() (string, error) { return "quite another token", nil }
	if response, _ := s.ask("POST", "/status/jobs/"+jobA+"/pause", "", headers...); response.StatusCode != 401 {
		t.Errorf("got %s", response.Status)
	}
	s.page.token = func() (string, error) { return "", errors.New("the file is gone") }
	if response, _ := s.ask("POST", "/status/jobs/"+jobA+"/pause", "", headers...); response.StatusCode != 403 {
		t.Errorf("got %s", response.Status)
	}
	s.log.Wait(logevent.StatusTokenUnread)
}

func TestWhatBecameOfAnAction(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, Reading{Jobs: []Job{running(jobA)}})
	bearer := []string{"Authorization", "Bearer " + testToken}
	for _, c := range []struct {
		path    string
		refusal error
		status  int
		text    string
	}{
		{"/status/jobs/" + jobA + "/retry", nil, 200, "done."},
		{"/status/jobs/" + jobA + "/retry", fmt.Errorf("job x: %w", jobstate.ErrNotFound), 404, "no such job"},
		{"/status/jobs/" + jobA + "/retry", fmt.Errorf("job x is active: %w", steer.ErrRefused), 409, "job x is active"},
		{"/status/jobs/" + jobA + "/retry", errors.New("NATS is away"), 503, "retry job " + jobA + ": NATS is away"},
		{"/status/jobs/" + jobA + "/delete", nil, 404, "no such action"},
		{"/status/jobs/nonsense/retry", nil, 404, "no such action"},
	} {
		s.source.refusal = c.refusal
		if response, text := s.ask("POST", c.path, "", bearer...); response.StatusCode != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s with %v: %s: %s", c.path, c.refusal, response.Status, text)
		}
		// The same as a page, where a browser asks.
		response, text := s.ask("POST", c.path, "", append(bearer, "Accept", html)...)
		if c.status == 200 {
			if want := "/?done=retry&job=" + jobA; response.StatusCode != 303 || response.Header.Get("Location") != want {
				t.Errorf("%s: %s to %s", c.path, response.Status, response.Header.Get("Location"))
			}
		} else if response.StatusCode != c.status || !strings.Contains(text, c.text) || !strings.Contains(text, "<h1>Not done</h1>") {
			t.Errorf("%s with %v: %s: %s", c.path, c.refusal, response.Status, text)
		}
	}
	if _, page := s.ask("GET", "/?done=retry&job="+jobA, ""); !strings.Contains(page, "Job "+jobA+" is drained again") {
		t.Error("the page does not say what was done")
	}
	for _, forged := range []string{"?done=send+money&job=" + jobA, "?done=retry&job=your+mother"} {
		if _, page := s.ask("GET", "/"+forged, ""); strings.Contains(page, "money") || strings.Contains(page, "mother") {
			t.Errorf("%s puts words into the page", forged)
		}
	}
}
