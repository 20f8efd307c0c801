package pleo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

func TestCredentialForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		auth Authorizer
		want string
	}{
		"bearer":              {BearerToken(StaticSecret(" abc\n")), "Bearer abc"},
		"API key as the user": {APIKey(StaticSecret("pls_12_x\n")), "Basic cGxzXzEyX3g6"}, // "pls_12_x:"
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != c.want {
					t.Errorf("Authorization %q, want %q", got, c.want)
				}
				if got := r.Header.Get("User-Agent"); got != "ledgerline/test" {
					t.Errorf("User-Agent %q", got)
				}
				answer(w, 200, jobJSON(""))
			}, func(cfg *Config) { cfg.Auth, cfg.UserAgent = c.auth, "ledgerline/test" })
			if _, err := u.Job(t.Context(), jobID); err != nil {
				t.Error(err)
			}
		})
	}
}

// A secret that changed is used at the next try, without waiting and without an
// alert.
func TestChangedSecretIsUsedAtOnce(t *testing.T) {
	var mu sync.Mutex
	secret := "old"
	onFakeClock(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") == "Bearer old" {
			secret = "new"
			answer(w, 401, `{"type":"UNAUTHORIZED"}`)
			return
		}
		answer(w, 200, jobJSON(""))
	}, func(t *testing.T, u upstream) {
		began := time.Now()
		if _, err := u.Job(t.Context(), jobID); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %s", took)
		}
		if u.logs.String() != "" {
			t.Errorf("logged: %s", u.logs)
		}
	}, func(cfg *Config) {
		cfg.Auth = BearerToken(func() (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return secret, nil
		})
	})
}

// A credential that stays refused is tried on with growing waits, and a person
// is told once a minute, not once a try.
func TestRefusedCredentialAlertsAndWaits(t *testing.T) {
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 401, `{"type":"UNAUTHORIZED","message":"token `+token+` expired"}`)
	}, func(t *testing.T, u upstream) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, err := u.Job(ctx, jobID)
		if refusal, ok := errors.AsType[*APIError](err); !ok || refusal.Status != 401 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		tries := len(u.logs.events(t, logevent.PleoRequestRetried))
		alerts := u.logs.events(t, logevent.PleoCredentialsRefused)
		if tries < 20 || len(alerts) < 6 || len(alerts) > 10 {
			t.Errorf("%d retries and %d alerts in ten minutes", tries, len(alerts))
		}
		if a := alerts[0]; a["level"] != "error" || a["status"] != 401.0 || a["request_id"] != "req-1" || a["operation"] != "get_job" {
			t.Errorf("alert %v", a)
		}
		if strings.Contains(u.logs.String()+err.Error(), token) {
			t.Errorf("secret in log or error: %v\n%s", err, u.logs)
		}
	})
}

// Whoever comes again by himself does not wait for a person, once a refresh was tried.
func TestAnImpatientCallEndsWithARefusedCredential(t *testing.T) {
	t.Parallel()
	for name, authorize := range map[string]func(int) (string, error){
		"refused":       func(int) (string, error) { return "Bearer " + token, nil },
		"not to be had": func(int) (string, error) { return "", errors.New("authorise again") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 401, `{"type":"UNAUTHORIZED","message":"no"}`)
			}))
			defer at.Close()
			auth := &fakeOAuth{authorize: authorize, refresh: func(int, string) (bool, error) { return false, nil }}
			c, err := New(Config{BaseURL: at.URL, Auth: auth, Impatient: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			if _, err := c.Job(t.Context(), jobID); err == nil || t.Context().Err() != nil {
				t.Errorf("%v", err)
			}
			if want := map[bool]int{true: 1}[name == "refused"]; auth.refreshes != want || auth.asked != 1 {
				t.Errorf("asked for %d credentials and %d refreshes", auth.asked, auth.refreshes)
			}
		})
	}
}

// fakeOAuth stands for the authorizer to come.
type fakeOAuth struct {
	refresh   func(n int, refused string) (bool, error)
	refreshes int
	authorize func(n int) (string, error)
	asked     int
}

func (f *fakeOAuth) Authorize(_ context.Context, req *http.Request) error {
	f.asked++
	value, err := f.authorize(f.asked)
	req.Header.Set("Authorization", value)
	return err
}

func (f *fakeOAuth) Refresh(_ context.Context, refused *http.Request) (bool, error) {
	f.refreshes++
	return f.refresh(f.refreshes, refused.Header.Get("Authorization"))
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refresh   func(n int, refused string) (bool, error)
		good      string // the credential that the upstream takes
		refreshes int
		alerts    int
		waited    bool
	}{
		"renewed": {
			refresh: func(_ int, refused string) (bool, error) { return refused == "Bearer t1", nil },
			good:    "Bearer t2", refreshes: 1,
		},
		"renewed, and refused again: not asked twice": {
			refresh: func(int, string) (bool, error) { return true, nil },
			good:    "Bearer t3", refreshes: 1, alerts: 1, waited: true,
		},
		"no other credential: not asked twice": {
			refresh: func(int, string) (bool, error) { return false, nil },
			good:    "Bearer t3", refreshes: 1, alerts: 1, waited: true,
		},
		"could not be found out: asked again": {
			refresh: func(n int, _ string) (bool, error) {
				if n == 1 {
					return false, errors.New("token endpoint is away")
				}
				return true, nil
			},
			good: "Bearer t3", refreshes: 2, alerts: 1, waited: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			auth := &fakeOAuth{refresh: c.refresh, authorize: func(n int) (string, error) { return fmt.Sprintf("Bearer t%d", n), nil }}
			onFakeClock(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != c.good {
					answer(w, 401, "")
					return
				}
				answer(w, 200, jobJSON(""))
			}, func(t *testing.T, u upstream) {
				began := time.Now()
				if _, err := u.Job(t.Context(), jobID); err != nil {
					t.Fatal(err)
				}
				if auth.refreshes != c.refreshes {
					t.Errorf("%d refreshes, want %d", auth.refreshes, c.refreshes)
				}
				if n := len(u.logs.events(t, logevent.PleoCredentialsRefused)); n != c.alerts {
					t.Errorf("%d alerts, want %d", n, c.alerts)
				}
				if waited := time.Since(began) > 0; waited != c.waited {
					t.Errorf("waited: %t, want %t", waited, c.waited)
				}
			}, func(cfg *Config) { cfg.Auth = auth })
		})
	}
}

// A credential that cannot be read now sends nothing, alerts, and is read again.
func TestCredentialThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]Secret{
		"unreadable":   func() (string, error) { return "", errors.New("open token file: no such file") },
		"empty":        StaticSecret(" \n"),
		"not a header": StaticSecret("a\nb"),
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, jobJSON("")) }, func(t *testing.T, u upstream) {
				if _, err := u.Job(t.Context(), jobID); err != nil {
					t.Fatal(err)
				}
				if got := u.calls.codes(); got != "200" {
					t.Errorf("requests %q", got)
				}
				if n := len(u.logs.events(t, logevent.PleoCredentialsRefused)); n != 1 {
					t.Errorf("%d alerts", n)
				}
			}, func(cfg *Config) {
				cfg.Auth = BearerToken(func() (string, error) {
					if reads++; reads == 1 {
						return broken()
					}
					return token, nil
				})
			})
		})
	}
}
