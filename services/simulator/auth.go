package simulator

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Scopes of the Export API.
const (
	ScopeJobsRead  = "export-jobs:read"
	ScopeJobsWrite = "export-jobs:write"
	ScopeItemsRead = "export-items:read"
)

var allScopes = []string{ScopeJobsRead, ScopeJobsWrite, ScopeItemsRead}

// caller is who a request turned out to be from.
type caller struct {
	company  uuid.UUID // zero: organisation
	scopes   []string
	method   string // of authentication, as GET /v1/introspect names it
	clientID string
}

func (c *caller) sees(company uuid.UUID) bool {
	return c.company == uuid.Nil || c.company == company
}

func (c *caller) may(scope string) bool { return scope == "" || slices.Contains(c.scopes, scope) }

// identify finds the caller of a request, or nil.
func (s *Simulator) identify(r *http.Request) *caller {
	if key, password, ok := r.BasicAuth(); ok {
		if password != "" {
			return nil
		}
		for i := range s.credentials {
			if same(s.credentials[i].APIKey, key) {
				return s.credentials[i].caller("api_key")
			}
		}
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	token = strings.TrimSpace(token)
	for i := range s.credentials {
		if same(s.credentials[i].Token, token) {
			return s.credentials[i].caller("token")
		}
	}
	return s.oauth.caller(token, s.now())
}

func (c *Credential) caller(method string) *caller {
	return &caller{company: c.CompanyID, scopes: scopesOrAll(c.Scopes), method: method, clientID: "simulator"}
}

func scopesOrAll(scopes []string) []string {
	if len(scopes) == 0 {
		return allScopes
	}
	return scopes
}

func same(want, got string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1
}

func unauthorized() answer {
	return refuse(http.StatusUnauthorized, typeUnauthorized, "The credential is missing, wrong or expired.").
		with("WWW-Authenticate", `Bearer realm="simulator"`)
}

func forbidden(message string) answer { return refuse(http.StatusForbidden, typeForbidden, message) }

// introspection is the answer of GET /v1/introspect.
type introspection struct {
	AuthMethod      string `json:"authMethod"`
	ClientID        string `json:"clientId"`
	Scope           string `json:"scope"`
	ApplicationName string `json:"applicationName"`
	SubjectURN      string `json:"subjectURN"`
}

// introspect tells the caller who it is. It needs no scope.
func (s *Simulator) introspect(c *call) answer {
	subject := "urn:pleo:organisation:" + namedID(s.cfg.Seed, "organisation", 0).String()
	if c.caller.company != uuid.Nil {
		subject = "urn:pleo:company:" + c.caller.company.String()
	}
	return reply(http.StatusOK, data(introspection{
		AuthMethod: c.caller.method, ClientID: c.caller.clientID, Scope: strings.Join(c.caller.scopes, " "),
		ApplicationName: "Simulated installation", SubjectURN: subject,
	}))
}
