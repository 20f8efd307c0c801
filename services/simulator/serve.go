package simulator

import (
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The operations, as counters and logs name them.
const (
	OpListJobs        = "list_jobs"
	OpCreateJob       = "create_job"
	OpGetJob          = "get_job"
	OpCreateEvent     = "create_event"
	OpListItems       = "list_items"
	OpUpdateItems     = "update_items"
	OpListExportItems = "list_export_items"
	OpFindItem        = "find_item"
	OpIntrospect      = "introspect"
	OpToken           = "token"
	OpTokenIntrospect = "token_introspect"
	OpFile            = "file"
	OpUnknown         = "unknown"
)

// operation is one endpoint.
type operation struct {
	name  string
	scope string // needed; empty: none
	write bool
	open  bool // needs no credential; its faults and limits are its own
	serve func(*call) answer
	// job is the id of the job that the request names, for faults and expiry; nil:
	// it names none.
	job func(*call) string
}

// call is one request on its way.
type call struct {
	r         *http.Request
	op        operation
	query     url.Values
	body      []byte
	caller    *caller
	job       uuid.UUID // a job that exists and is named by the request, or zero
	requestID string
	faults    *callFaults
}

func (s *Simulator) routes() http.Handler {
	fromPath := func(c *call) string { return c.r.PathValue("jobId") }
	fromQuery := func(c *call) string { return c.query.Get("job_id") }
	mux := http.NewServeMux()
	for pattern, op := range map[string]operation{
		"GET /v3/export-jobs":               {name: OpListJobs, scope: ScopeJobsRead, serve: s.listJobs},
		"POST /v3/export-jobs":              {name: OpCreateJob, scope: ScopeJobsWrite, write: true, serve: s.createJob},
		"GET /v3/export-jobs/{jobId}":       {name: OpGetJob, scope: ScopeJobsRead, serve: s.getJob, job: fromPath},
		"POST /v3/export-job-events":        {name: OpCreateEvent, scope: ScopeJobsWrite, write: true, serve: s.createEvent, job: jobOfEvent},
		"GET /v3/export-jobs/{jobId}/items": {name: OpListItems, scope: ScopeJobsRead, serve: s.listItems, job: fromPath},
		"PUT /v3/export-jobs/{jobId}/items": {name: OpUpdateItems, scope: ScopeJobsWrite, write: true, serve: s.updateItems, job: fromPath},
		"GET /v3/export-items":              {name: OpListExportItems, scope: ScopeItemsRead, serve: s.listExportItems, job: fromQuery},
		"GET /v3/export-job-items":          {name: OpFindItem, scope: ScopeJobsRead, serve: s.findItem},
		"GET /v1/introspect":                {name: OpIntrospect, serve: s.introspect},
		"POST /oauth/token":                 {name: OpToken, open: true, write: true, serve: s.token},
		"POST /oauth/token/introspect":      {name: OpTokenIntrospect, open: true, serve: s.tokenIntrospect},
		"GET /files/{token}":                {name: OpFile, open: true, serve: s.serveFile},
		"/":                                 {name: OpUnknown, open: true, serve: unknownPath},
	} {
		mux.Handle(pattern, s.endpoint(op))
	}
	if s.cfg.Control {
		s.controlRoutes(mux)
	}
	return mux
}

func unknownPath(*call) answer {
	return refuse(http.StatusNotFound, typeNotFound, "There is no such endpoint.")
}

func (s *Simulator) endpoint(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{r: r, op: op, query: r.URL.Query(), requestID: s.nextRequestID()}
		w.Header().Set(requestIDField, c.requestID)
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
		c.body = body
		var a answer
		var spoil Fault
		if err != nil {
			a = refuse(http.StatusRequestEntityTooLarge, typeRequestTooLarge, "The body cannot be read or is too large.")
		} else {
			a, spoil = s.handle(c)
		}
		s.count(c, a, spoil)
		s.send(w, c, a, spoil)
	})
}

// nextRequestID numbers the answers; it looks like the UUIDs of the real API.
func (s *Simulator) nextRequestID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	d := dice(hash(s.cfg.Seed, "request", strconv.FormatUint(s.requests, 10)))
	return uuid.UUID(d.uuid()).String()
}

// handle finds the answer to a request and the fault that spoils its way back, if
// any.
func (s *Simulator) handle(c *call) (answer, Fault) {
	if c.op.open {
		return s.handleOpen(c)
	}
	if c.caller = s.identify(c.r); c.caller == nil {
		return unauthorized(), ""
	}
	if a, ok := s.admit(); !ok {
		return a, ""
	}
	if !c.caller.may(c.op.scope) {
		return forbidden("The credential lacks the scope " + c.op.scope + "."), ""
	}
	if a, ok := s.overridden(c.r); ok {
		return a, ""
	}
	if a, spoil, ok := s.before(c); ok {
		return a, spoil
	}
	return s.after(c, c.op.serve(c))
}

// handleOpen serves what needs no credential. The one fault there is: tokens that
// were rotated and never arrived.
func (s *Simulator) handleOpen(c *call) (answer, Fault) {
	if a, ok := s.overridden(c.r); ok {
		return a, ""
	}
	a := c.op.serve(c)
	if c.op.name != OpToken || a.status != http.StatusOK {
		return a, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.faults = s.faults.begin(c.op.name, uuid.Nil, "")
	if c.faults.hit(FaultLostRefresh) {
		c.faults.note(FaultLostRefresh)
		return a, FaultLostRefresh
	}
	return a, ""
}

// admit applies the real rate limit.
func (s *Simulator) admit() (answer, bool) {
	if s.limiter == nil {
		return answer{}, true
	}
	ok := s.limiter.AllowN(s.now(), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		s.accepted++
		return answer{}, true
	}
	s.refused++
	wait := int(math.Ceil(1 / s.cfg.RateLimit))
	return tooManyRequests(strconv.Itoa(max(1, wait))), false
}

func tooManyRequests(retryAfter string) answer {
	return refuse(http.StatusTooManyRequests, typeTooManyRequests, "Too many requests.").with("Retry-After", retryAfter)
}

// before identifies the job, lets time and faults act on it, and tells whether the
// request ends here.
func (s *Simulator) before(c *call) (answer, Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.op.job != nil {
		if id, ok := parseID(c.op.job(c)); ok && s.jobs[id] != nil {
			c.job = id
			s.workOn(s.jobs[id])
		}
	}
	c.faults = s.faults.begin(c.op.name, c.job, c.query.Encode())
	fault, hit := c.faults.transient(FaultReset, FaultUnauthorized, FaultRateLimitSeconds, FaultRateLimitDate, FaultServerErrors)
	if !hit {
		return answer{}, "", false
	}
	s.logFault(c, fault)
	switch fault {
	case FaultReset:
		return answer{}, FaultReset, true
	case FaultUnauthorized:
		return unauthorized(), "", true
	case FaultRateLimitSeconds:
		return tooManyRequests("1"), "", true
	case FaultRateLimitDate:
		// One to two seconds ahead: HTTP dates have whole seconds. The caller compares
		// it with its own clock, so jumps by Advance stay out of it.
		return tooManyRequests(s.cfg.Clock.Now().UTC().Truncate(time.Second).Add(2 * time.Second).Format(http.TimeFormat)), "", true
	default:
		return serverError(c.faults.roll("server-error-kind", c.faults.n)), "", true
	}
}

// workOn lets a job expire by time, or by the fault expiry.
func (s *Simulator) workOn(j *job) {
	now := s.now()
	s.settle(j, now)
	if j.status != JobInProgress || j.expireAtCall == 0 {
		return
	}
	if j.callsInWork++; j.callsInWork == j.expireAtCall {
		s.faults.shown[FaultExpiry]++
		s.expireAt(j, now)
	}
}

func serverError(kind uint64) answer {
	switch kind % 4 {
	case 0:
		return refuse(http.StatusInternalServerError, typeServerError, "Something went wrong.")
	case 1:
		// What a gateway in front of the API says: no JSON.
		return answer{
			status: http.StatusBadGateway, contentType: "text/html",
			body: []byte("<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"),
		}
	case 2:
		return refuse(http.StatusServiceUnavailable, typeUnavailable, "Try again later.").with("Retry-After", "1")
	default:
		return refuse(http.StatusBadGateway, typeBadGateway, "An upstream service did not answer.")
	}
}

// after decides what happens to a finished answer on its way back.
func (s *Simulator) after(c *call, a answer) (answer, Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.status >= http.StatusBadRequest {
		c.faults.succeeded() // an answer of the API itself, whatever it says
		return a, ""
	}
	candidates := []Fault{FaultCutJSON, FaultInvalidJSON, FaultWrongShape}
	if c.op.write {
		candidates = []Fault{FaultLostReply, FaultCutJSON, FaultInvalidJSON}
	} else if isList(c.op.name) {
		candidates = append(candidates, FaultOversizedPage)
	}
	if fault, hit := c.faults.transient(candidates...); hit {
		s.logFault(c, fault)
		return a, fault
	}
	c.faults.succeeded()
	if c.faults.hit(FaultSlowBody) {
		c.faults.note(FaultSlowBody)
		s.logFault(c, FaultSlowBody)
		return a, FaultSlowBody
	}
	return a, ""
}

func isList(operation string) bool {
	return operation == OpListJobs || operation == OpListItems || operation == OpListExportItems
}

func (s *Simulator) logFault(c *call, fault Fault) {
	s.log.Info().Str("fault", string(fault)).Str("operation", c.op.name).Stringer("job_id", c.job).
		Str("request_id", c.requestID).Msg(eventFaultInjected)
}

// count keeps the counters; a dropped connection counts as code 0.
func (s *Simulator) count(c *call, a answer, spoil Fault) {
	code := a.status
	if spoil == FaultReset || spoil == FaultLostReply || spoil == FaultLostRefresh {
		code = 0
	}
	s.mu.Lock()
	if s.counts[c.op.name] == nil {
		s.counts[c.op.name] = map[int]int64{}
	}
	s.counts[c.op.name][code]++
	s.mu.Unlock()
	s.log.Debug().Str("operation", c.op.name).Stringer("job_id", c.job).Int("code", code).
		Str("request_id", c.requestID).Msg(eventRequestAnswered)
}

// override is a canned answer.
type override struct {
	answer answer
	left   int // 0: for ever
}

func overrideKey(method, path string) string {
	return strings.ToUpper(method) + " " + strings.ToLower(path)
}

// overridden looks for a canned answer; ids in the path match in any letter case.
func (s *Simulator) overridden(r *http.Request) (answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := overrideKey(r.Method, r.URL.Path)
	o := s.overrides[key]
	if o == nil {
		return answer{}, false
	}
	if o.left > 0 {
		if o.left--; o.left == 0 {
			delete(s.overrides, key)
		}
	}
	return o.answer, true
}
