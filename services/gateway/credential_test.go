package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

// several are the clients of several credentials, uuid.Nil the default one.
type several map[uuid.UUID]*pleo.Client

func (s several) For(company uuid.UUID) (*pleo.Client, error) {
	client := s[company]
	if client == nil {
		client = s[uuid.Nil]
	}
	return client.For(company)
}

// With several credentials each is polled for itself, and a company's jobs are
// listed, read and started with its own alone, whoever else may see them. One that
// is refused costs the others nothing.
func TestEachCompanyIsAskedAboutWithItsOwnCredential(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]func(http.ResponseWriter){
		"no scope":    func(w http.ResponseWriter) { refuse(w, http.StatusForbidden, "FORBIDDEN") },
		"not its own": func(w http.ResponseWriter) { refuse(w, http.StatusUnauthorized, "UNAUTHORIZED") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachCompanyByItsOwn(t, refusal)
		})
	}
}

func eachCompanyByItsOwn(t *testing.T, refusal func(http.ResponseWriter)) {
	t.Helper()
	b := newBench(t)
	first, second, refused, other := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	tokens := map[uuid.UUID]string{first: "first", second: "second", refused: "refused", uuid.Nil: "default"}
	b.pleo.set(func(p *fakePleo) {
		p.owners = map[string]string{"first": first.String(), "second": second.String(), "refused": refused.String(), "default": ""}
		p.listing = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") != "Bearer refused" {
				return false
			}
			refusal(w)
			return true
		}
	})
	all := several{}
	for company, token := range tokens {
		client, err := pleo.New(pleo.Config{
			BaseURL: b.pleo.url, Auth: pleo.BearerToken(pleo.StaticSecret(token)), Timeout: 5 * time.Second, PageSize: 2, Logger: b.log.Logger(), Impatient: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.CloseIdleConnections)
		all[company] = client
	}
	want := map[uuid.UUID]bool{}
	for _, company := range []uuid.UUID{first, second, other} {
		want[b.pleo.add(company, "pending")] = true
	}
	resumed := b.pleo.add(uuid.New(), "in_progress") // by the default credential
	want[resumed] = true
	b.start(func(c *Config) { c.Pleo, c.Listed = all, []uuid.UUID{uuid.Nil, refused, first, second} })
	for range 4 {
		delete(want, b.event())
	}
	if len(want) != 0 {
		t.Errorf("not started: %v", want)
	}
	b.log.Wait(logevent.PollFailed)
}
