package pleo

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// gatekeeper is a Limiter that writes down who waited and what was seen.
type gatekeeper struct {
	mu   sync.Mutex
	log  []string
	shut bool
}

func (g *gatekeeper) Wait(ctx context.Context, company string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, "wait "+company)
	if g.shut {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (g *gatekeeper) Observe(c Call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, "saw "+c.Code)
}

// Every try waits for the limiter, under the company that the client is for, and is
// shown to it.
func TestLimiterSeesEveryTry(t *testing.T) {
	limiter := &gatekeeper{}
	tries := 0
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries == 1 {
			answer(w, http.StatusTooManyRequests, "")
			return
		}
		answer(w, http.StatusOK, jobJSON(""))
	}, func(t *testing.T, u upstream) {
		for _, company := range []uuid.UUID{uuid.MustParse(strings.ToUpper(companyID)), uuid.Nil} {
			of, err := u.For(company)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := of.Job(t.Context(), jobID); err != nil {
				t.Fatal(err)
			}
		}
		want := "wait " + companyID + ",saw 429,wait " + companyID + ",saw 200,wait ,saw 200"
		if got := strings.Join(limiter.log, ","); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := u.calls.codes(); got != "429 200 200" {
			t.Errorf("observed %s", got)
		}
	}, func(cfg *Config) { cfg.Limiter = limiter })
}

// A call whose time ends in the line sends nothing.
func TestLimiterIsWaitedForNoLongerThanTheCall(t *testing.T) {
	limiter := &gatekeeper{shut: true}
	onFakeClock(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }, func(t *testing.T, u upstream) {
		ctx, cancel := context.WithTimeout(t.Context(), DefaultTimeout)
		defer cancel()
		if _, err := u.Job(ctx, jobID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	}, func(cfg *Config) { cfg.Limiter = limiter })
}
