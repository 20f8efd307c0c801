package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// WebhookPath is where Pleo's webhooks arrive.
	WebhookPath = "/webhooks/pleo"
	// MaxWebhookBytes bounds a webhook's body. Pleo's have less than one KiB.
	MaxWebhookBytes = 256 << 10

	// retryAfterSeconds is what a sender is told that cannot be served now.
	retryAfterSeconds = "5"
	// maxLogged bounds what of a sender's text goes into a log line.
	maxLogged = 128
)

// spellings are the ends of the event's names on Pleo's pages (trap 35).
var spellings = []string{"export-job.created", "export.job-created"}

// webhook answers one webhook: 204 once its detection is stored, or where none is
// needed; 401, 413 and 400 for one that cannot be taken; 503 for one that is to
// come again.
//
// No webhook-id is remembered: the same webhook any number of times makes a
// company be looked at again, which starts nothing twice.
func (g *Gateway) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := g.verified(w, r)
	switch {
	case err == nil:
	case errors.Is(err, errTooLarge):
		g.refuse(w, http.StatusRequestEntityTooLarge, err)
		return
	case errors.Is(err, errUnsigned):
		g.refuse(w, http.StatusUnauthorized, err)
		return
	case errors.Is(err, errBody):
		g.refuse(w, http.StatusBadRequest, err)
		return
	default:
		g.logger.Error().Err(err).Msg(logevent.SecretUnreadable)
		notNow(w)
		return
	}
	id := clip(r.Header.Get(standardwebhooks.HeaderWebhookID))
	event, err := readCreated(body)
	if errors.Is(err, errNotEvent) {
		g.logger.Debug().Str("webhook_id", id).Str("reason", err.Error()).Msg(logevent.WebhookIgnored)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err != nil {
		g.refuse(w, http.StatusBadRequest, err)
		return
	}
	logger := g.logger.With().Str("webhook_id", id).Str("event_type", event.name).
		Stringer("job_id", event.job).Stringer("company_id", event.company).Logger()
	if reason := g.needless(event); reason != "" {
		logger.Debug().Str("reason", reason).Msg(logevent.WebhookIgnored)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	subj := subject.Detected(subject.DetectedCompany, event.company)
	if event.company == uuid.Nil {
		subj = subject.Detected(subject.DetectedJob, event.job)
	}
	if err := g.store(r.Context(), subj, detection{}); err != nil {
		logger.Error().Err(err).Msg(logevent.WebhookNotStored)
		notNow(w)
		return
	}
	logger.Info().Msg(logevent.WebhookStored)
	w.WriteHeader(http.StatusNoContent)
}

// verified is the body of a webhook that was signed with one of the keys. Nothing
// of it is parsed before: the signature is over the bytes as they came.
func (g *Gateway) verified(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	keys, err := g.keys()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no webhook secret is configured", errUnsigned)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxWebhookBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it did not arrive whole", errBody)
	}
	for _, key := range keys {
		verifier, keyErr := standardwebhooks.NewWebhookRaw(key)
		if keyErr != nil {
			return nil, fmt.Errorf("webhook secret: %w", keyErr)
		}
		// Five minutes of tolerance to both sides are the library's.
		if err = verifier.Verify(body, r.Header); err == nil {
			return body, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", errUnsigned, err)
}

func (g *Gateway) keys() ([][]byte, error) {
	if g.config.SigningKeys == nil {
		return nil, nil
	}
	return g.config.SigningKeys()
}

// warnUnsigned tells at the start that no webhook will be taken.
func (g *Gateway) warnUnsigned() {
	if keys, err := g.keys(); err == nil && len(keys) == 0 {
		g.logger.Warn().Str("setting", "LEDGERLINE_WEBHOOK_SECRET").Msg(logevent.WebhooksUnsigned)
	}
}

// needless tells why an event needs no detection, or nothing.
func (g *Gateway) needless(event created) string {
	if event.company != uuid.Nil && !g.serves(event.company) {
		return "the company is not the one of LEDGERLINE_COMPANY_ID"
	}
	switch g.here.job(event.job).standing {
	case underWay:
		return "the job is in work here"
	case over:
		return "the job has ended here"
	}
	return ""
}

// refuse answers a webhook that will not be taken however often it comes.
func (g *Gateway) refuse(w http.ResponseWriter, status int, err error) {
	g.refusals.Warn().Int("status", status).Str("reason", err.Error()).Msg(logevent.WebhookRefused)
	// The text names no secret and nothing of the body.
	http.Error(w, err.Error(), status)
}

// notNow answers a webhook that is to come again.
func notNow(w http.ResponseWriter) {
	w.Header().Set("Retry-After", retryAfterSeconds)
	http.Error(w, "not now: send it again", http.StatusServiceUnavailable)
}

// created is the event of a created job. One of its ids may be uuid.Nil.
type created struct {
	name         string
	job, company uuid.UUID
}

// envelope is one layer of a webhook. Its members are kept as they are: what is
// none of ours may have any type.
type envelope struct {
	EventType json.RawMessage `json:"eventType"`
	Data      json.RawMessage `json:"data"`
	Payload   json.RawMessage `json:"payload"`
}

// readCreated reads a webhook's body, with or without the wrapping in `payload`
// (trap 35). Errors: errBody where it is no JSON, or an event of ours that names
// neither job nor company; errNotEvent for all other JSON.
func readCreated(body []byte) (created, error) {
	if !json.Valid(body) {
		return created{}, fmt.Errorf("%w: it is not JSON", errBody)
	}
	outer := open(body)
	inner := open(outer.Payload)
	name := text(inner.EventType)
	if name == "" {
		name = text(outer.EventType)
	}
	if !ours(name) {
		return created{}, fmt.Errorf("%w: event type %q", errNotEvent, clip(name))
	}
	data := inner.Data
	if len(data) == 0 {
		data = outer.Data
	}
	var ids struct {
		ID        json.RawMessage `json:"id"`
		CompanyID json.RawMessage `json:"companyId"`
	}
	_ = json.Unmarshal(data, &ids) // what is no object names nothing
	event := created{name: clip(name)}
	// Data is a snapshot; nothing but the ids is used of it.
	event.job, _ = subject.ParseID(text(ids.ID))
	event.company, _ = subject.ParseID(text(ids.CompanyID))
	if event.job == uuid.Nil && event.company == uuid.Nil {
		return created{}, fmt.Errorf("%w: the event names neither a job nor a company by a UUID", errBody)
	}
	return event, nil
}

func open(raw json.RawMessage) (e envelope) {
	_ = json.Unmarshal(raw, &e) // what is no object has no members
	return e
}

// text is the JSON string, or nothing where it is none.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

func ours(name string) bool {
	for _, end := range spellings {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func clip(s string) string {
	if len(s) > maxLogged {
		s = s[:maxLogged] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
