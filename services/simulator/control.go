package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Cancel is the user's cancel in the web app: the job fails with canceled_by_user,
// its open items are abandoned.
func (s *Simulator) Cancel(id uuid.UUID) error {
	return s.end(id, JobEvent{
		Event: eventNameCanceled, By: ByUser, FailureReason: "Job was canceled by user.", FailureReasonType: reasonCanceled,
	})
}

// Expire lets a job's time be up now, without touching the clock.
func (s *Simulator) Expire(id uuid.UUID) error {
	return s.end(id, JobEvent{
		Event: eventNameExpired, By: ByPleo, FailureReason: "Job not updated within expiry time limit.", FailureReasonType: reasonExpired,
	})
}

func (s *Simulator) end(id uuid.UUID, event JobEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return fmt.Errorf("%s job %s: %w", event.Event, id, ErrJobUnknown)
	}
	event.At = s.now()
	s.settle(j, event.At)
	if j.finished() {
		return fmt.Errorf("%s job %s, which is %s: %w", event.Event, id, j.status, ErrJobFinished)
	}
	s.move(j, event)
	return nil
}

// Touch is what a second integration with the same rights does to a job.
type Touch struct {
	// Items to update, in the form of PUT /v3/export-jobs/{jobId}/items, any number
	// up to 100.
	Items json.RawMessage `json:"items"`
	// Event to post after the items, if any, with its reason.
	Event             string `json:"event"`
	FailureReason     string `json:"failureReason"`
	FailureReasonType string `json:"failureReasonType"`
}

// Touch carries out what a second integration does. It obeys the same rules as
// the API; the records name it ByOther.
func (s *Simulator) Touch(id uuid.UUID, t Touch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return fmt.Errorf("touch job %s: %w", id, ErrJobUnknown)
	}
	s.settle(j, s.now())
	if len(t.Items) > 0 {
		if j.finished() {
			return fmt.Errorf("touch items of job %s: %w", id, ErrJobFinished)
		}
		changes, refusal, ok := parseChanges(t.Items)
		if !ok {
			return fmt.Errorf("%w: touch items of job %s: %s", ErrConfig, id, refusal.body)
		}
		if result := s.change(j, changes, ByOther, nil); len(result.Errors) > 0 {
			return fmt.Errorf("%w: touch items of job %s: %s", ErrConfig, id, result.Errors[0].Message)
		}
	}
	if t.Event == "" {
		return nil
	}
	request := eventRequest{Event: t.Event, FailureReason: t.FailureReason, FailureReasonType: t.FailureReasonType}
	if !s.post(j, request, ByOther) {
		return fmt.Errorf("post %s to job %s, which is %s: %w", t.Event, id, j.status, ErrJobFinished)
	}
	return nil
}

// Override replaces the answer of one endpoint.
type Override struct {
	Method string `json:"method"`
	// Path is matched in any letter case and without the query.
	Path string `json:"path"`
	// Status; 0 is 200.
	Status int `json:"status"`
	// ContentType; empty is that of the API.
	ContentType string `json:"contentType"`
	// Body is sent as it is, byte for byte.
	Body string `json:"body"`
	// Times it is used; 0: until it is cleared.
	Times int `json:"times"`
}

// Override sets a canned answer. It comes after authentication and before faults
// and state: nothing else happens to such a call.
func (s *Simulator) Override(o Override) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.overrides) >= maxOverrides || len(o.Body) > maxOverrideBytes {
		return fmt.Errorf("override %s %s: %w", o.Method, o.Path, ErrLimit)
	}
	if o.Status == 0 {
		o.Status = http.StatusOK
	}
	if o.ContentType == "" {
		o.ContentType = mediaType
	}
	s.overrides[overrideKey(o.Method, o.Path)] = &override{
		answer: answer{status: o.Status, contentType: o.ContentType, body: []byte(o.Body)}, left: o.Times,
	}
	return nil
}

// ClearOverrides restores the answers of the API.
func (s *Simulator) ClearOverrides() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.overrides)
}

// SetFaults replaces the fault plan; the counting of calls starts anew, the
// counters of shown faults go on.
func (s *Simulator) SetFaults(plan FaultPlan) error {
	if problems := plan.validate(); len(problems) > 0 {
		return errors.Join(problems...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := s.faults.shown
	s.faults = newFaultPlanner(s.cfg.Seed, plan)
	s.faults.shown = shown
	for _, j := range s.byAge {
		j.callsInWork, j.expireAtCall = 0, s.faults.expiryCall(j.id)
	}
	return nil
}

// ControlEndpoints describes the control plane; it is also what GET /_simulator/
// answers.
var ControlEndpoints = map[string]string{
	"GET /_simulator/":                          "this list",
	"GET /_simulator/snapshot":                  "every job with its events and items (Snapshot), and what Problems makes of it",
	"GET /_simulator/counters":                  "requests by operation and code, faults shown, the rate limit's counts (Counters)",
	"GET /_simulator/webhooks":                  "the attempts to deliver webhooks (WebhookDelivery[])",
	"POST /_simulator/jobs":                     "add a job (JobSpec); answers {\"id\"}",
	"GET /_simulator/jobs/{jobId}":              "one job (JobSnapshot)",
	"GET /_simulator/jobs/{jobId}/updates":      "the accepted item updates of a job (ItemUpdate[])",
	"GET /_simulator/jobs/{jobId}/events":       "the accepted events of a job (JobEvent[])",
	"POST /_simulator/jobs/{jobId}/cancel":      "the user cancels the job",
	"POST /_simulator/jobs/{jobId}/expire":      "the job's time is up",
	"POST /_simulator/jobs/{jobId}/touch":       "a second integration touches the job (Touch)",
	"POST /_simulator/jobs/{jobId}/announce":    "send the job's webhook (again)",
	"POST /_simulator/clock":                    "advance the clock by {\"advanceSeconds\"}; answers {\"now\"}",
	"PUT /_simulator/faults":                    "replace the fault plan by {\"faults\":\"some,reset@0.5\"}",
	"PUT /_simulator/overrides":                 "set a canned answer (Override)",
	"DELETE /_simulator/overrides":              "restore all answers",
	"POST /_simulator/oauth/{clientId}/expire":  "the client's access token expires",
	"POST /_simulator/oauth/{clientId}/revoke":  "every token of the client is revoked",
	"GET /_simulator/oauth/{clientId}/requests": "{\"rotations\",\"refusals\"} of the client",
}

// controlRoutes opens the control plane.
func (s *Simulator) controlRoutes(mux *http.ServeMux) {
	handle := func(pattern string, serve func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxOverrideBytes+maxRequestBytes)
			s.control(w, r, serve)
		})
	}
	withJob := func(act func(id uuid.UUID, r *http.Request) (any, error)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			id, ok := parseID(r.PathValue("jobId"))
			if !ok {
				return nil, fmt.Errorf("%q: %w", r.PathValue("jobId"), ErrJobUnknown)
			}
			return act(id, r)
		}
	}
	handle("GET /_simulator/{$}", func(*http.Request) (any, error) { return ControlEndpoints, nil })
	handle("GET /_simulator/snapshot", func(*http.Request) (any, error) {
		snapshot := s.Snapshot()
		return struct {
			Snapshot
			Problems []string `json:"problems"`
		}{snapshot, orEmpty(snapshot.Problems())}, nil
	})
	handle("GET /_simulator/counters", func(*http.Request) (any, error) { return s.Counters(), nil })
	handle("GET /_simulator/webhooks", func(*http.Request) (any, error) { return s.WebhookDeliveries(), nil })
	handle("POST /_simulator/jobs", func(r *http.Request) (any, error) {
		var spec JobSpec
		if err := decodeControl(r, &spec); err != nil {
			return nil, err
		}
		id, err := s.AddJob(spec)
		return map[string]uuid.UUID{"id": id}, err
	})
	handle("GET /_simulator/jobs/{jobId}", withJob(func(id uuid.UUID, _ *http.Request) (any, error) { return s.Job(id) }))
	handle("GET /_simulator/jobs/{jobId}/updates", withJob(func(id uuid.UUID, _ *http.Request) (any, error) { return s.Updates(id) }))
	handle("GET /_simulator/jobs/{jobId}/events", withJob(func(id uuid.UUID, _ *http.Request) (any, error) {
		j, err := s.Job(id)
		return j.Events, err
	}))
	for verb, act := range map[string]func(uuid.UUID) error{"cancel": s.Cancel, "expire": s.Expire, "announce": s.Announce} {
		handle("POST /_simulator/jobs/{jobId}/"+verb, withJob(func(id uuid.UUID, _ *http.Request) (any, error) { return done, act(id) }))
	}
	handle("POST /_simulator/jobs/{jobId}/touch", withJob(func(id uuid.UUID, r *http.Request) (any, error) {
		var t Touch
		if err := decodeControl(r, &t); err != nil {
			return nil, err
		}
		return done, s.Touch(id, t)
	}))
	s.controlSettings(handle)
	s.controlTokens(handle)
}

func (s *Simulator) controlSettings(handle func(string, func(*http.Request) (any, error))) {
	handle("POST /_simulator/clock", func(r *http.Request) (any, error) {
		var body struct {
			AdvanceSeconds float64 `json:"advanceSeconds"`
		}
		if err := decodeControl(r, &body); err != nil {
			return nil, err
		}
		s.Advance(time.Duration(body.AdvanceSeconds * float64(time.Second)))
		return map[string]time.Time{"now": s.Now()}, nil
	})
	handle("PUT /_simulator/faults", func(r *http.Request) (any, error) {
		var body struct {
			Faults string `json:"faults"`
		}
		if err := decodeControl(r, &body); err != nil {
			return nil, err
		}
		plan, err := ParseFaults(body.Faults)
		if err != nil {
			return nil, err
		}
		return done, s.SetFaults(plan)
	})
	handle("PUT /_simulator/overrides", func(r *http.Request) (any, error) {
		var o Override
		if err := decodeControl(r, &o); err != nil {
			return nil, err
		}
		return done, s.Override(o)
	})
	handle("DELETE /_simulator/overrides", func(*http.Request) (any, error) {
		s.ClearOverrides()
		return done, nil
	})
}

func (s *Simulator) controlTokens(handle func(string, func(*http.Request) (any, error))) {
	handle("POST /_simulator/oauth/{clientId}/expire", func(r *http.Request) (any, error) {
		return done, s.ExpireAccessToken(r.PathValue("clientId"))
	})
	handle("POST /_simulator/oauth/{clientId}/revoke", func(r *http.Request) (any, error) {
		return done, s.RevokeTokens(r.PathValue("clientId"))
	})
	handle("GET /_simulator/oauth/{clientId}/requests", func(r *http.Request) (any, error) {
		rotations, refusals, err := s.TokenCounts(r.PathValue("clientId"))
		return map[string]int{"rotations": rotations, "refusals": refusals}, err
	})
}

// done is the answer of a control call that has nothing to tell.
var done = map[string]bool{"ok": true}

func decodeControl(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields() // a misspelt field in a test should not pass in silence
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%w: the body: %w", ErrConfig, err)
	}
	return nil
}

func (s *Simulator) control(w http.ResponseWriter, r *http.Request, serve func(*http.Request) (any, error)) {
	result, err := serve(r)
	a := reply(http.StatusOK, result)
	switch {
	case errors.Is(err, ErrJobUnknown), errors.Is(err, ErrClientUnknown):
		a = refuse(http.StatusNotFound, typeNotFound, err.Error())
	case errors.Is(err, ErrJobFinished), errors.Is(err, ErrJobExists):
		a = refuse(http.StatusConflict, "CONFLICT", err.Error())
	case err != nil:
		a = refuse(http.StatusBadRequest, typeBadRequest, err.Error())
	}
	w.Header().Set("Content-Type", a.contentType)
	w.WriteHeader(a.status)
	if _, err := bytes.NewReader(a.body).WriteTo(w); err != nil {
		s.log.Warn().Str("path", r.URL.Path).Err(err).Msg(eventControlMisanswered)
	}
}
