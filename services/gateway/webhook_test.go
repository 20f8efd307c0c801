package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Contract, section 11, line by line.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job, company := uuid.New(), uuid.New()
	good := createdHook(job, company)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	named := func(eventType string) []byte {
		return bytes.Replace(good.body, []byte("v1.export-job.created"), []byte(eventType), 1)
	}
	// JSON may end in blanks: a body of any size that is an event.
	sized := func(size int) []byte {
		return append(bytes.Clone(good.body), bytes.Repeat([]byte(" "), size-len(good.body))...)
	}
	for _, c := range []struct {
		name   string
		hook   hook
		want   int
		stored bool
	}{
		{"an event of ours", hook{}, 204, true},
		{"wrapped in payload (trap 35)", hook{body: fmt.Appendf(nil, `{"webhook-id":"msg_1","payload":%s}`, good.body)}, 204, true},
		{"type outside, data inside", hook{body: fmt.Appendf(nil, `{"eventType":"export-job.created","payload":{"data":{"id":%q,"companyId":%q}}}`, job, company)}, 204, true},
		{"v1.export.job-created", hook{body: named("v1.export.job-created")}, 204, true},
		{"v2.export-job.created", hook{body: named("v2.export-job.created")}, 204, true},
		{"export-job.created", hook{body: named("export-job.created")}, 204, true},
		{"ids in upper case (trap 20)", hook{body: bytes.ReplaceAll(good.body, []byte(company.String()), []byte(strings.ToUpper(company.String())))}, 204, true},
		{"4:50 old", hook{at: time.Now().Add(-290 * time.Second)}, 204, true},
		{"4:50 early", hook{at: time.Now().Add(290 * time.Second)}, 204, true},
		{"256 KiB", hook{body: sized(MaxWebhookBytes)}, 204, true},

		{"another event", hook{body: named("v1.vendor.created")}, 204, false},
		{"an event whose name only begins like ours", hook{body: named("v1.export-job.created.later")}, 204, false},
		{"no event type", hook{body: []byte(`{"data":{}}`)}, 204, false},
		{"an event type that is no text", hook{body: []byte(`{"eventType":7}`)}, 204, false},
		{"JSON of another shape", hook{body: []byte(`["v1.export-job.created"]`)}, 204, false},

		{"5:10 old", hook{at: time.Now().Add(-310 * time.Second)}, 401, false},
		{"5:10 early", hook{at: time.Now().Add(310 * time.Second)}, 401, false},
		{"another key", hook{key: keyB}, 401, false},
		{"no signature", hook{change: func(r *http.Request) { r.Header.Del(standardwebhooks.HeaderWebhookSignature) }}, 401, false},
		{"no id", hook{change: func(r *http.Request) { r.Header.Del(standardwebhooks.HeaderWebhookID) }}, 401, false},
		{"no timestamp", hook{change: func(r *http.Request) { r.Header.Del(standardwebhooks.HeaderWebhookTimestamp) }}, 401, false},
		{"another id than signed", hook{change: header(standardwebhooks.HeaderWebhookID, "msg_other")}, 401, false},
		{"a timestamp that is no number", hook{change: header(standardwebhooks.HeaderWebhookTimestamp, "now")}, 401, false},
		{"a timestamp beyond time", hook{change: header(standardwebhooks.HeaderWebhookTimestamp, "9223372036854775807")}, 401, false},
		{"an unknown version of signature", hook{change: func(r *http.Request) {
			r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Replace(r.Header.Get(standardwebhooks.HeaderWebhookSignature), "v1,", "v2,", 1))
		}}, 401, false},
		{"a body that was changed", hook{change: func(r *http.Request) {
			// The same JSON, other bytes.
			r.Body = io.NopCloser(bytes.NewReader(append(bytes.Clone(good.body), ' ')))
		}}, 401, false},
		{"not JSON and not signed", hook{body: []byte("{"), key: keyB}, 401, false},

		{"not JSON", hook{body: []byte(`{"eventType":"v1.export-job.created"`)}, 400, false},
		{"two JSON values", hook{body: append(bytes.Clone(good.body), []byte("{}")...)}, 400, false},
		{"nothing", hook{body: []byte{}}, 400, false},
		{"an event of ours about nothing", hook{body: []byte(`{"eventType":"v1.export-job.created","data":{"id":"7"}}`)}, 400, false},

		{"over 256 KiB", hook{body: sized(MaxWebhookBytes + 1)}, 413, false},
		{"far over 256 KiB", hook{body: sized(1 << 20)}, 413, false},
		{"over 256 KiB and not signed", hook{body: sized(MaxWebhookBytes + 1), key: keyB}, 413, false},

		{"not a POST", hook{change: func(r *http.Request) { r.Method = http.MethodGet }}, 405, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.hook.body == nil {
				c.hook.body = good.body
			}
			if err := b.stream(subject.StreamDetected).Purge(b.ctx()); err != nil {
				t.Fatal(err)
			}
			if code := b.gateway().send(t, c.hook); code != c.want {
				t.Errorf("answered %d, want %d", code, c.want)
			}
			queued := b.queued()
			if c.stored != (len(queued) == 1) || (c.stored && queued[0] != subject.Detected(subject.DetectedCompany, company)) {
				t.Errorf("queued: %v, want stored: %v", queued, c.stored)
			}
		})
	}
}

// An event without its company is stored by its job, whose company is read later.
func TestAWebhookWithoutACompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	job := b.pleo.add(uuid.New(), "pending")
	b.pleo.set(func(p *fakePleo) { p.find(job.String()).status = "completed" }) // not for the start's poll
	g := b.start()
	b.log.WaitCount(logevent.JobsPolled, 1)
	b.pleo.set(func(p *fakePleo) { p.find(job.String()).status = "pending" })
	body := fmt.Appendf(nil, `{"eventType":"v1.export-job.created","data":{"id":%q}}`, strings.ToUpper(job.String()))
	if code := g.send(t, hook{body: body}); code != http.StatusNoContent {
		t.Fatalf("answered %d", code)
	}
	b.wantEvent(job)
}

// 204 means stored: what a gateway has answered is started by another one, which
// hears of it from nobody else.
func TestAWebhookThatWasAnsweredIsNotLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	job := b.pleo.add(company, "pending")
	b.pleo.set(func(p *fakePleo) {
		p.listing = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("company_id") != "" {
				return false
			}
			refuse(w, http.StatusForbidden, "FORBIDDEN") // polls find nothing
			return true
		}
	})
	answering := b.gateway()
	answering.announce(t, job, b.pleo)
	answering.conn.Close()
	b.start()
	b.wantEvent(job)
}

func TestAWebhookThatCannotBeStoredComesAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.gateway()
	h := createdHook(uuid.New(), uuid.New())
	if err := b.js.DeleteStream(b.ctx(), subject.StreamDetected); err != nil {
		t.Fatal(err)
	}
	if code := g.send(t, h); code != http.StatusServiceUnavailable {
		t.Errorf("without its stream: answered %d, want 503", code)
	}
	g.conn.Close()
	if code := g.send(t, h); code != http.StatusServiceUnavailable {
		t.Errorf("without NATS: answered %d, want 503", code)
	}
	var late Late
	answer := httptest.NewRecorder()
	late.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, WebhookPath, nil))
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("before NATS was reached: answered %d, want 503 with Retry-After", answer.Code)
	}
}

func TestWithoutASecretEveryWebhookIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.start(func(c *Config) { c.SigningKeys = config.Gateway{}.SigningKeys })
	b.log.Wait(logevent.WebhooksUnsigned)
	if code := g.send(t, createdHook(uuid.New(), uuid.New())); code != http.StatusUnauthorized {
		t.Errorf("answered %d, want 401", code)
	}
	if n := len(b.log.Lines(logevent.WebhooksUnsigned)); n != 1 {
		t.Errorf("%d lines at the start, want 1", n)
	}
}

// Rotation: both secrets hold while both are set, and the file is read again.
func TestTheSecretsRotate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "secrets")
	set := func(keys ...[]byte) {
		var words []string
		for _, key := range keys {
			words = append(words, "whsec_"+base64.StdEncoding.EncodeToString(key))
		}
		// By a rename, as a mounted secret changes: the file is another one.
		if err := os.WriteFile(path+".new", []byte(strings.Join(words, " ")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	set(keyA)
	g := b.gateway(func(c *Config) {
		c.SigningKeys = config.Gateway{WebhookSecret: config.SecretFromFile(path)}.SigningKeys
	})
	want := func(step string, key []byte, code int) {
		t.Helper()
		h := createdHook(uuid.New(), uuid.New())
		h.key = key
		if got := g.send(t, h); got != code {
			t.Errorf("%s: answered %d, want %d", step, got, code)
		}
	}
	want("before, the old one", keyA, 204)
	want("before, the new one", keyB, 401)
	set(keyA, keyB)
	want("meanwhile, the old one", keyA, 204)
	want("meanwhile, the new one", keyB, 204)
	set(keyB)
	want("after, the old one", keyA, 401)
	want("after, the new one", keyB, 204)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("without the file", keyB, 503) // Pleo sends it again
	if strings.Contains(b.log.Text(), base64.StdEncoding.EncodeToString(keyB)) {
		t.Error("a secret was logged")
	}
}

// The same webhook any number of times, early and late, starts its job once.
func TestAReplayIsHarmless(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.start()
	b.log.WaitCount(logevent.JobsPolled, 1)
	company := uuid.New()
	job := b.pleo.add(company, "pending")
	h := createdHook(job, company)
	h.id, h.at = "msg_replayed", time.Now()
	replay := func() {
		t.Helper()
		for range 5 {
			if code := g.send(t, h); code != http.StatusNoContent {
				t.Errorf("answered %d", code)
			}
		}
	}
	replay()
	b.wantEvent(job)
	replay()
	b.settled()
	b.end(job)
	b.settled()
	replay()
	b.settled()
	b.noEvents()
	if n := b.pleo.count("POST"); n != 1 {
		t.Errorf("%d posts, want 1", n)
	}
}

func TestAWebhookForAnotherCompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	g := b.gateway(func(c *Config) { c.Company = uuid.New() })
	if code := g.send(t, createdHook(uuid.New(), uuid.New())); code != http.StatusNoContent {
		t.Errorf("answered %d, want 204", code)
	}
	if q := b.queued(); len(q) != 0 {
		t.Errorf("queued: %v", q)
	}
}
