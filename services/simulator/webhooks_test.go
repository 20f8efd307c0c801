package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ledgerline/ledgerline/services/simulator"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

type received struct {
	signed    bool
	id        string
	eventType string
	wrapped   bool
	job       string
}

// receiver is an endpoint that answers by a function and hands on what it got.
func receiver(t *testing.T, status func(n int) int) (string, <-chan received) {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan received, 1000)
	n := make(chan int, 1)
	n <- 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		type event struct {
			EventType string
			Data      struct{ ID string }
		}
		var shape struct {
			event
			Payload *event
		}
		if err := json.Unmarshal(body, &shape); err != nil {
			t.Errorf("webhook body: %v", err)
		}
		g := received{signed: verifier.VerifyIgnoringTimestamp(body, r.Header) == nil, id: r.Header.Get("webhook-id")}
		e := shape.event
		if g.wrapped = shape.Payload != nil; g.wrapped {
			e = *shape.Payload
		}
		g.eventType, g.job = e.EventType, e.Data.ID
		count := <-n
		n <- count + 1
		w.WriteHeader(status(count))
		got <- g
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func accept(int) int { return http.StatusNoContent }

func TestWebhooksAnnounceCreatedJobs(t *testing.T) {
	t.Parallel()
	url, got := receiver(t, accept)
	cfg := config(1, 2, 1)
	cfg.Webhook = simulator.WebhookConfig{URL: url, Secret: webhookSecret}
	u := start(t, cfg)
	jobs := u.Snapshot().Jobs
	if err := u.Announce(jobs[1].ID); err != nil {
		t.Fatal(err)
	}
	if g := <-got; !g.signed || g.job != jobs[1].ID.String() || g.eventType != "v1.export-job.created" || g.wrapped {
		t.Errorf("announced %+v", g)
	}
	id := u.add(1)
	if g := <-got; g.job != id.String() {
		t.Errorf("added %+v", g)
	}
	if err := u.Cancel(jobs[0].ID); err != nil {
		t.Fatal(err)
	}
	var created struct{ Data wireJob }
	u.do(http.MethodPost, "/v3/export-jobs", map[string]any{"companyId": jobs[0].CompanyID, "accountingEntryIds": []string{uuid.NewString()}}).
		want(t, http.StatusConflict, nil) // the added job is company 0's as well
	if err := u.Cancel(id); err != nil {
		t.Fatal(err)
	}
	u.do(http.MethodPost, "/v3/export-jobs", map[string]any{"companyId": jobs[0].CompanyID, "accountingEntryIds": []string{uuid.NewString()}}).
		want(t, http.StatusCreated, &created)
	if g := <-got; g.job != created.Data.ID || !g.signed {
		t.Errorf("created %+v", g)
	}
}

func TestWebhooksInEverySpellingAndShape(t *testing.T) {
	t.Parallel()
	url, got := receiver(t, accept)
	cfg := config(1, 60, 1)
	cfg.Webhook = simulator.WebhookConfig{
		URL: url, Secret: webhookSecret, AtStart: true, EventTypes: simulator.WebhookSpellings, Wrap: simulator.WrapMixed,
	}
	u := start(t, cfg)
	types, wrapped, jobs := map[string]int{}, 0, map[string]bool{}
	for range u.Snapshot().Jobs {
		g := <-got
		types[g.eventType]++
		jobs[g.job] = true
		if g.wrapped {
			wrapped++
		}
		if !g.signed {
			t.Errorf("unsigned: %+v", g)
		}
	}
	if len(types) != 4 || wrapped == 0 || wrapped == 60 || len(jobs) != 60 {
		t.Errorf("%v, %d wrapped, %d jobs", types, wrapped, len(jobs))
	}
}

func TestWebhooksAreRetriedDuplicatedAndForged(t *testing.T) {
	t.Parallel()
	url, got := receiver(t, func(n int) int {
		if n < 3 { // the forged one and the first two attempts
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	u := start(t, simulator.Config{Webhook: simulator.WebhookConfig{
		URL: url, Secret: webhookSecret, RetryBase: time.Millisecond, DuplicateRate: 1, WrongSignatureRate: 1,
	}})
	u.add(1)
	var all []received
	for range 5 {
		all = append(all, <-got)
	}
	for i, g := range all {
		if g.signed != (i > 0) || g.id != all[0].id {
			t.Errorf("delivery %d: %+v", i, g)
		}
	}
	u.Close()
	var kinds []string
	for _, d := range u.WebhookDeliveries() {
		kinds = append(kinds, d.Kind)
	}
	if len(kinds) != 5 || kinds[0] != "wrong signature" || kinds[4] != "duplicate" {
		t.Errorf("deliveries %q", kinds)
	}
}

func TestWebhooksAreGivenUp(t *testing.T) {
	t.Parallel()
	url, got := receiver(t, func(int) int { return http.StatusInternalServerError })
	u := start(t, simulator.Config{Webhook: simulator.WebhookConfig{
		URL: url, Secret: webhookSecret, RetryBase: time.Millisecond, Attempts: 3,
	}})
	u.add(1)
	u.add(1)
	for range 6 {
		<-got
	}
	u.Close()
	if n := len(u.WebhookDeliveries()); n != 6 {
		t.Errorf("%d deliveries, want 3 of each", n)
	}
}
