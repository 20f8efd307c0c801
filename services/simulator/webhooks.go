package simulator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// WebhookSpellings are the names under which the pages of the reference know the
// one event. The first is the documented payload's.
var WebhookSpellings = []string{
	"v1.export-job.created", "v1.export.job-created", "v2.export-job.created", "export-job.created",
}

// WebhookWrap says whether the body is wrapped in a member "payload".
type WebhookWrap string

const (
	WrapNever  WebhookWrap = ""
	WrapAlways WebhookWrap = "always"
	WrapMixed  WebhookWrap = "mixed" // by seed, event by event
)

// WebhookConfig says where and how created jobs are announced.
type WebhookConfig struct {
	// URL is the target, Secret the signing secret ("whsec_" and base64).
	URL, Secret string
	// AtStart announces the seeded jobs too.
	AtStart bool
	// EventTypes are the spellings to use, by seed; none: the first of
	// WebhookSpellings.
	EventTypes []string
	// Wrap the body in "payload".
	Wrap WebhookWrap
	// Attempts until an event is given up; 0 is 6. Everything but a 2xx is tried
	// again, after RetryBase (0: 500 ms), doubling, at most 30 s.
	Attempts  int
	RetryBase time.Duration
	// DuplicateRate of events is delivered once more after success,
	// WrongSignatureRate is preceded by a delivery that somebody else signed; 0 to 1.
	DuplicateRate, WrongSignatureRate float64
}

const (
	defaultWebhookAttempts = 6
	defaultRetryBase       = 500 * time.Millisecond
	maxRetryWait           = 30 * time.Second
	webhookTimeout         = 10 * time.Second // one delivery
	webhookWorkers         = 8                // deliveries at a time; their order is not promised
	maxDeliveryLog         = 100_000
	maxWebhookAnswerBytes  = 64 << 10 // read so that connections are reused
)

func (w WebhookConfig) withDefaults() WebhookConfig {
	if len(w.EventTypes) == 0 {
		w.EventTypes = WebhookSpellings[:1]
	}
	if w.Attempts == 0 {
		w.Attempts = defaultWebhookAttempts
	}
	if w.RetryBase == 0 {
		w.RetryBase = defaultRetryBase
	}
	return w
}

// WebhookDelivery is one attempt to deliver an event.
type WebhookDelivery struct {
	JobID     uuid.UUID `json:"jobId"`
	MessageID string    `json:"messageId"`
	EventType string    `json:"eventType"`
	Wrapped   bool      `json:"wrapped"`
	Attempt   int       `json:"attempt"`
	Kind      string    `json:"kind"` // "event", "duplicate" or "wrong signature"
	Code      int       `json:"code"` // 0: no answer
}

const (
	kindEvent          = "event"
	kindDuplicate      = "duplicate"
	kindWrongSignature = "wrong signature"
)

type webhookEvent struct {
	Data      webhookJob `json:"data"`
	EventType string     `json:"eventType"`
	EventID   uuid.UUID  `json:"eventId"`
}

// webhookJob is what the documented sample shows of a job.
type webhookJob struct {
	ID            uuid.UUID  `json:"id"`
	CompanyID     uuid.UUID  `json:"companyId"`
	Status        string     `json:"status"`
	NumberOfItems int        `json:"numberOfItems"`
	ExpiresIn     int        `json:"expiresIn"`
	CreatedAt     string     `json:"createdAt"`
	CreatedBy     *uuid.UUID `json:"createdBy"`
}

type wrappedEvent struct {
	WebhookID        string       `json:"webhook-id"`
	WebhookTimestamp string       `json:"webhook-timestamp"`
	Payload          webhookEvent `json:"payload"`
}

// announcer delivers webhooks. Its workers exist only while there is something to
// deliver.
type announcer struct {
	ctx    context.Context
	cfg    WebhookConfig
	seed   uint64
	clock  Clock
	log    zerolog.Logger
	client *http.Client
	signer *standardwebhooks.Webhook
	forger *standardwebhooks.Webhook

	mu      sync.Mutex
	closed  bool
	queue   []webhookEvent
	workers int
	running sync.WaitGroup
	sent    []WebhookDelivery
	events  uint64
}

func newAnnouncer(ctx context.Context, cfg Config) (*announcer, error) {
	a := &announcer{ctx: ctx, cfg: cfg.Webhook, seed: cfg.Seed, clock: cfg.Clock, log: cfg.Logger}
	if a.cfg.URL == "" {
		return a, nil
	}
	var err error
	if a.signer, err = standardwebhooks.NewWebhook(a.cfg.Secret); err != nil {
		return nil, fmt.Errorf("webhook secret: %w", err)
	}
	forged := sha256.Sum256([]byte("another secret than " + a.cfg.Secret))
	if a.forger, err = standardwebhooks.NewWebhookRaw(forged[:]); err != nil {
		return nil, fmt.Errorf("wrong webhook secret: %w", err)
	}
	a.client = &http.Client{
		Timeout:       webhookTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: webhookWorkers},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// announce queues the event of a created job; the caller holds s.mu.
func (s *Simulator) announce(j *job) {
	v := j.view()
	s.webhooks.enqueue(webhookJob{v.ID, v.CompanyID, v.Status, v.NumberOfItems, v.ExpiresIn, v.CreatedAt, v.CreatedBy})
}

func (a *announcer) enqueue(j webhookJob) {
	if a.cfg.URL == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if len(a.queue) >= maxQueuedWebhooks {
		a.log.Warn().Stringer("job_id", j.ID).Msg(eventWebhookDropped)
		return
	}
	a.events++
	d := dice(hash(a.seed, "webhook", j.ID.String(), strconv.FormatUint(a.events, 10)))
	a.queue = append(a.queue, webhookEvent{Data: j, EventType: pick(&d, a.cfg.EventTypes), EventID: d.uuid()})
	if a.workers < webhookWorkers {
		a.workers++
		a.running.Add(1)
		go a.work()
	}
}

func (a *announcer) work() {
	defer a.running.Done()
	for {
		a.mu.Lock()
		if len(a.queue) == 0 || a.closed {
			a.workers--
			a.mu.Unlock()
			return
		}
		event := a.queue[0]
		a.queue = a.queue[1:]
		a.mu.Unlock()
		a.deliver(event)
	}
}

// deliver sends one event until it is taken.
func (a *announcer) deliver(event webhookEvent) {
	h := func(purpose string) uint64 { return hash(a.seed, purpose, event.EventID.String()) }
	wrap := a.cfg.Wrap == WrapAlways || a.cfg.Wrap == WrapMixed && chance(h("wrap"), 0.5)
	if a.cfg.WrongSignatureRate > 0 && chance(h("wrong signature"), a.cfg.WrongSignatureRate) {
		a.send(event, wrap, kindWrongSignature, 1)
	}
	wait := a.cfg.RetryBase
	for attempt := 1; attempt <= a.cfg.Attempts; attempt++ {
		if a.send(event, wrap, kindEvent, attempt) {
			if a.cfg.DuplicateRate > 0 && chance(h("duplicate"), a.cfg.DuplicateRate) {
				a.send(event, wrap, kindDuplicate, attempt+1)
			}
			return
		}
		if attempt == a.cfg.Attempts || !a.pause(wait) {
			break
		}
		wait = min(2*wait, maxRetryWait)
	}
	a.log.Warn().Stringer("job_id", event.Data.ID).Str("webhook_id", messageID(event)).Int("attempts", a.cfg.Attempts).
		Msg(eventWebhookAbandoned)
}

func (a *announcer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

func messageID(event webhookEvent) string { return "msg_" + event.EventID.String() }

// send makes one attempt. The timestamp is Config.Clock's and not moved by Advance:
// the receiver compares it with its own clock.
func (a *announcer) send(event webhookEvent, wrap bool, kind string, attempt int) bool {
	id, now := messageID(event), a.clock.Now()
	var shape any = event
	if wrap {
		shape = wrappedEvent{id, strconv.FormatInt(now.Unix(), 10), event}
	}
	code, err := a.post(shape, id, now, kind == kindWrongSignature)
	a.mu.Lock()
	if len(a.sent) < maxDeliveryLog {
		a.sent = append(a.sent, WebhookDelivery{event.Data.ID, id, event.EventType, wrap, attempt, kind, code})
	}
	a.mu.Unlock()
	if code/100 == 2 {
		a.log.Info().Stringer("job_id", event.Data.ID).Str("webhook_id", id).Int("attempt", attempt).Int("code", code).
			Msg(eventWebhookDelivered)
		return true
	}
	a.log.Warn().Stringer("job_id", event.Data.ID).Str("webhook_id", id).Int("attempt", attempt).Int("code", code).Err(err).
		Msg(eventWebhookRefused)
	return false
}

func (a *announcer) post(shape any, id string, now time.Time, forged bool) (int, error) {
	body, err := json.Marshal(shape)
	if err != nil {
		return 0, fmt.Errorf("encode webhook %s: %w", id, err)
	}
	signer := a.signer
	if forged {
		signer = a.forger
	}
	signature, err := signer.Sign(id, now, body)
	if err != nil {
		return 0, fmt.Errorf("sign webhook %s: %w", id, err)
	}
	request, err := http.NewRequestWithContext(a.ctx, http.MethodPost, a.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make webhook %s: %w", id, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	response, err := a.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("deliver webhook %s: %w", id, err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxWebhookAnswerBytes)) // the status says it all
	return response.StatusCode, nil
}

// wait ends the deliveries; the context has ended before.
func (a *announcer) wait() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.running.Wait()
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
}

// WebhookDeliveries lists the attempts so far, at most the first 100,000.
func (s *Simulator) WebhookDeliveries() []WebhookDelivery {
	s.webhooks.mu.Lock()
	defer s.webhooks.mu.Unlock()
	return append([]WebhookDelivery{}, s.webhooks.sent...)
}

// Announce sends the webhook of a job (again).
func (s *Simulator) Announce(id uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return fmt.Errorf("announce job %s: %w", id, ErrJobUnknown)
	}
	s.announce(j)
	return nil
}
