package simulator

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Lifetimes of the older page of the reference; the newer one says to trust
// expires_in.
const (
	defaultAccessLifetime  = 15 * time.Minute
	defaultRefreshLifetime = 60 * 24 * time.Hour
)

// tokenBook holds the OAuth clients. A refresh replaces the pair: from that moment
// neither the old access token nor the old refresh token is accepted.
type tokenBook struct {
	seed    uint64
	mu      sync.Mutex
	clients map[string]*oauthState
}

type oauthState struct {
	OAuthClient
	access, refresh                 string
	accessExpires, refreshExpires   time.Time
	spent                           map[string]bool // refresh tokens rotated away
	rotations, refusals             int
	killed                          bool
	accessLifetime, refreshLifetime time.Duration
}

func newTokenBook(seed uint64, clients []OAuthClient, now time.Time) *tokenBook {
	b := &tokenBook{seed: seed, clients: map[string]*oauthState{}}
	for _, client := range clients {
		state := &oauthState{
			OAuthClient: client, refresh: client.RefreshToken, spent: map[string]bool{},
			accessLifetime: client.AccessLifetime, refreshLifetime: client.RefreshLifetime,
		}
		if state.accessLifetime == 0 {
			state.accessLifetime = defaultAccessLifetime
		}
		if state.refreshLifetime == 0 {
			state.refreshLifetime = defaultRefreshLifetime
		}
		state.refreshExpires = now.Add(state.refreshLifetime)
		b.clients[client.ClientID] = state
	}
	return b
}

// caller of an access token, or nil.
func (b *tokenBook) caller(token string, now time.Time) *caller {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, state := range b.clients {
		if same(state.access, token) && now.Before(state.accessExpires) {
			return &caller{company: state.CompanyID, scopes: scopesOrAll(state.Scopes), method: "oauth", clientID: state.ClientID}
		}
	}
	return nil
}

// authenticate the client itself: basic auth, or client_id and client_secret as
// parameters, as the two pages of the reference have it.
func (b *tokenBook) authenticate(r *http.Request, form url.Values) *oauthState {
	id, secret, ok := r.BasicAuth()
	if ok {
		// RFC 6749 section 2.3.1: both are form-encoded before they are joined.
		if plain, err := url.QueryUnescape(id); err == nil {
			id = plain
		}
		if plain, err := url.QueryUnescape(secret); err == nil {
			secret = plain
		}
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	state := b.clients[id]
	if state == nil || state.ClientSecret != "" && !same(state.ClientSecret, secret) {
		return nil
	}
	return state
}

type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

type tokenError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func refuseToken(status int, code, description string) answer {
	return reply(status, tokenError{code, description}).with("Cache-Control", "no-store")
}

// token is POST /oauth/token, for grant_type=refresh_token only: the first refresh
// token comes from Config, there is no user here to log in.
func (s *Simulator) token(c *call) answer {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return refuseToken(http.StatusBadRequest, "invalid_request", "the body is no form")
	}
	now := s.now()
	b := s.oauth
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.authenticate(c.r, form)
	if state == nil {
		return refuseToken(http.StatusUnauthorized, "invalid_client", "client authentication failed").
			with("WWW-Authenticate", `Basic realm="simulator"`)
	}
	if form.Get("grant_type") != "refresh_token" {
		return refuseToken(http.StatusBadRequest, "unsupported_grant_type", "only refresh_token is simulated")
	}
	offered := form.Get("refresh_token")
	if !same(state.refresh, offered) || state.killed || !now.Before(state.refreshExpires) {
		state.refusals++
		expired := same(state.refresh, offered) && !now.Before(state.refreshExpires)
		if state.ReuseKillsFamily && (state.spent[offered] || expired) {
			state.killed, state.access = true, ""
		}
		return refuseToken(http.StatusBadRequest, "invalid_grant", "invalid_refresh_token")
	}
	if len(state.spent) < maxOAuthTokens {
		state.spent[offered] = true
	}
	state.rotations++
	state.access = b.mint(state, "at")
	state.refresh = b.mint(state, "rt")
	state.accessExpires, state.refreshExpires = now.Add(state.accessLifetime), now.Add(state.refreshLifetime)
	return reply(http.StatusOK, tokenAnswer{
		AccessToken: state.access, TokenType: "Bearer", ExpiresIn: int(state.accessLifetime / time.Second),
		RefreshToken: state.refresh, Scope: strings.Join(scopesOrAll(state.Scopes), " "),
	}).with("Cache-Control", "no-store")
}

// mint makes a token out of the seed and the number of the rotation.
func (b *tokenBook) mint(state *oauthState, kind string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %d", b.seed, kind, state.ClientID, state.rotations))
	return kind + "_" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// tokenStatus is the answer of POST /oauth/token/introspect.
type tokenStatus struct {
	Active   bool   `json:"active"`
	Subject  string `json:"sub,omitempty"`
	Expires  int64  `json:"exp,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Scope    string `json:"scope,omitempty"`
}

// tokenIntrospect is POST /oauth/token/introspect.
func (s *Simulator) tokenIntrospect(c *call) answer {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return refuseToken(http.StatusBadRequest, "invalid_request", "the body is no form")
	}
	now := s.now()
	s.oauth.mu.Lock()
	defer s.oauth.mu.Unlock()
	state := s.oauth.authenticate(c.r, form)
	if state == nil {
		return refuseToken(http.StatusUnauthorized, "invalid_client", "client authentication failed")
	}
	token := form.Get("token")
	status := tokenStatus{}
	expires := time.Time{}
	switch {
	case same(state.access, token):
		expires = state.accessExpires
	case same(state.refresh, token) && !state.killed:
		expires = state.refreshExpires
	}
	if now.Before(expires) {
		status = tokenStatus{
			Active: true, Subject: state.CompanyID.String(), Expires: expires.Unix(), ClientID: state.ClientID,
			Scope: strings.Join(scopesOrAll(state.Scopes), " "),
		}
	}
	return reply(http.StatusOK, status)
}

// ExpireAccessToken ends the life of a client's access token now; its refresh
// token stays good.
func (s *Simulator) ExpireAccessToken(clientID string) error {
	return s.oauth.with(clientID, func(state *oauthState) { state.access = "" })
}

// RevokeTokens ends all tokens of a client, as when a user withdraws the
// installation.
func (s *Simulator) RevokeTokens(clientID string) error {
	return s.oauth.with(clientID, func(state *oauthState) { state.access, state.killed = "", true })
}

// TokenCounts tells how often a client got a new pair and how often it was refused
// one.
func (s *Simulator) TokenCounts(clientID string) (rotations, refusals int, err error) {
	err = s.oauth.with(clientID, func(state *oauthState) { rotations, refusals = state.rotations, state.refusals })
	return rotations, refusals, err
}

func (b *tokenBook) with(clientID string, act func(*oauthState)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.clients[clientID]
	if state == nil {
		return fmt.Errorf("oauth client %q: %w", clientID, ErrClientUnknown)
	}
	act(state)
	return nil
}
