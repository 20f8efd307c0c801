package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/pkg/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	jobID    = "8eb648ab-464b-42a0-ba17-eda703657e33"
)

var (
	companyA = uuid.MustParse("c0ffee00-0000-4000-8000-00000000000a")
	companyB = uuid.MustParse("c0ffee00-0000-4000-8000-00000000000b")
	other    = uuid.MustParse("c0ffee00-0000-4000-8000-00000000000c")
)

// api answers every job and keeps the credentials that came.
type api struct {
	*httptest.Server
	mu   sync.Mutex
	came []string
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth/token" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token":"hush-rotated","refresh_token":"hush-next","token_type":"bearer","expires_in":900}`))
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.came = append(a.came, r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"data":{"id":"` + jobID + `","companyId":"` + companyA.String() + `","status":"pending","numberOfItems":4,"expiresIn":3600,
			"isInteractive":true,"vendorBasedBookkeeping":false,"createdAt":"2026-04-22T10:00:00Z"}}`))
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.came[len(a.came)-1]
}

func clients(t *testing.T, settings config.Pleo, change ...func(*upstream.Options)) *upstream.Clients {
	t.Helper()
	log := logtest.New(t)
	js := natstest.Start(t).JetStream(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Second}, log.Logger()); err != nil {
		t.Fatal(err)
	}
	settings.Timeout, settings.PageSize = 5*time.Second, 100
	options := upstream.Options{Settings: settings, Conn: js.Conn(), Replicas: 1, UserAgent: "ledgerline/test", Logger: log.Logger()}
	for _, c := range change {
		c(&options)
	}
	c, err := upstream.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if strings.Contains(log.Text(), "hush") {
			t.Errorf("a secret is logged: %s", log.Text())
		}
	})
	return c
}

func read(t *testing.T, c *upstream.Clients, company uuid.UUID) {
	t.Helper()
	client, err := c.For(company)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := client.Job(ctx, jobID); err != nil {
		t.Fatal(err)
	}
}

// Guards isolation: a company with a credential of its own gets that one and no
// other, and the others the default one.
func TestEachCompanyHasItsCredential(t *testing.T) {
	t.Parallel()
	at := newAPI(t)
	c := clients(t, config.Pleo{
		URL: at.URL, Rate: 1000, Token: config.NewSecret("hush-default"),
		Credentials: []config.Credential{
			{CompanyID: companyA.String(), Token: config.NewSecret("hush-a")},
			{
				CompanyID: companyB.String(), ClientID: "b", ClientSecret: config.NewSecret("hush-secret"),
				RefreshToken: config.NewSecret("hush-first"), TokenURL: at.URL + "/oauth/token",
			},
		},
	})
	for company, want := range map[uuid.UUID]string{
		companyA: "Bearer hush-a", companyB: "Bearer hush-rotated", other: "Bearer hush-default", uuid.Nil: "Bearer hush-default",
	} {
		read(t, c, company)
		if at.last() != want {
			t.Errorf("company %s: %q", company, at.last())
		}
	}
	if !slices.Equal(c.Listed(), []uuid.UUID{uuid.Nil, companyA, companyB}) {
		t.Errorf("listed: %v", c.Listed())
	}
	a, _ := c.For(companyA)
	again, _ := c.For(companyA)
	default1, _ := c.For(other)
	default2, _ := c.For(uuid.Nil)
	if !a.SameCredential(again) || a.SameCredential(default1) || !default1.SameCredential(default2) || a.SameCredential(nil) {
		t.Error("the same credential is not known as such")
	}
}

// Without a default credential a company that is not listed is not read.
func TestCompanyWithoutCredential(t *testing.T) {
	t.Parallel()
	at := newAPI(t)
	c := clients(t, config.Pleo{URL: at.URL, Credentials: []config.Credential{
		{CompanyID: companyA.String(), APIKey: config.NewSecret("hush-a")},
	}})
	read(t, c, companyA)
	for _, company := range []uuid.UUID{companyB, uuid.Nil} {
		if client, err := c.For(company); client != nil || !errors.Is(err, upstream.ErrNoCredential) {
			t.Errorf("company %s: %v", company, err)
		}
	}
	_, err := upstream.New(upstream.Options{Settings: config.Pleo{}, Conn: new(nats.Conn)})
	if err == nil {
		t.Error("no credential at all")
	}
}

// A secret that lies in a file is used at the next request after it has changed.
func TestSecretFileIsReadForEachRequest(t *testing.T) {
	t.Parallel()
	at := newAPI(t)
	for name, set := range map[string]func(*config.Pleo, config.Secret){
		"Bearer ": func(p *config.Pleo, s config.Secret) { p.Token = s },
		"Basic ":  func(p *config.Pleo, s config.Secret) { p.APIKey = s },
	} {
		file := filepath.Join(t.TempDir(), "secret")
		settings := config.Pleo{URL: at.URL}
		set(&settings, config.SecretFromFile(file))
		write(t, file, "hush-1")
		c := clients(t, settings)
		seen := map[string]bool{}
		for _, secret := range []string{"hush-1", "hush-2\n", "hush-three"} {
			write(t, file, secret)
			read(t, c, other)
			if !strings.HasPrefix(at.last(), name) || seen[at.last()] {
				t.Errorf("%s: a new secret is not used", name)
			}
			seen[at.last()] = true
		}
	}
}

// write replaces a file as a rotation of secrets does: by another one.
func write(t *testing.T, path, content string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// The limit of the settings holds for all credentials of the process together, and for
// all of its services where it has several.
func TestRateIsTheProcesss(t *testing.T) {
	t.Parallel()
	at := newAPI(t)
	settings := config.Pleo{
		URL: at.URL, Rate: 5, Token: config.NewSecret("hush-default"),
		Credentials: []config.Credential{{CompanyID: companyA.String(), Token: config.NewSecret("hush-a")}},
	}
	limits, err := upstream.NewLimits(natstest.Start(t).JetStream(t).Conn(), settings, 1, logtest.New(t).Logger())
	if err != nil {
		t.Fatal(err)
	}
	shared := func(o *upstream.Options) { o.Limits = limits }
	services := []*upstream.Clients{clients(t, settings, shared), clients(t, settings, shared)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	for n, company := range []uuid.UUID{companyA, other, companyA, other} {
		all.Go(func() {
			client, err := services[n/2].For(company)
			for err == nil {
				_, err = client.Job(ctx, jobID)
			}
			if ctx.Err() == nil || errors.As(err, new(*pleo.APIError)) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(at.came); n < 6 || n > 11 {
		t.Errorf("%d requests in a second, want a burst of 5 and 5", n)
	}
}
