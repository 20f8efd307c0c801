package pleo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Authorizer puts a credential on requests. Implementations are used by many
// goroutines at once. Errors must not contain the credential; they are logged.
type Authorizer interface {
	// Authorize sets the request's Authorization header (and touches nothing
	// else of it). It is called for each try, so that a credential that changed
	// meanwhile is used at once; ctx ends with Config.Timeout. An error is trouble that may pass: the call
	// waits and tries again until its context is done.
	Authorize(ctx context.Context, req *http.Request) error

	// Refresh is called after a 401. The refused request still has the header
	// that Authorize gave it; comparing tells whether another goroutine, or
	// another replica, has put a newer credential in place already, which then
	// must not be renewed a second time (trap 37). It is for looking at, not for
	// sending.
	//
	// true: a credential other than the refused one is in place; the request is
	// sent again at once. false: there is no other one; the call does not ask
	// again, and goes on trying with growing waits. An error: it could not be
	// found out; asked again at the call's next 401.
	Refresh(ctx context.Context, refused *http.Request) (bool, error)
}

// Secret yields a credential's present value. It is asked for each request and
// may read a file; surrounding white space is ignored.
type Secret func() (string, error)

// StaticSecret is a Secret that never changes.
func StaticSecret(value string) Secret {
	return func() (string, error) { return value, nil }
}

// BearerToken authorizes with "Authorization: Bearer <secret>".
func BearerToken(secret Secret) Authorizer {
	return headerAuth{secret: secret, value: func(s string) string { return bearerPrefix + s }}
}

// APIKey authorizes with HTTP Basic: the key is the user name, the password is
// empty (source: Pleo's page "API base URLs").
func APIKey(secret Secret) Authorizer {
	return headerAuth{secret: secret, value: func(s string) string {
		return basicPrefix + base64.StdEncoding.EncodeToString([]byte(s+":"))
	}}
}

const (
	bearerPrefix = "Bearer "
	basicPrefix  = "Basic "
)

// headerAuth holds no state: what is in place is what the secret says now.
type headerAuth struct {
	secret Secret
	value  func(secret string) string
}

var errNoCredential = errors.New("credential is empty")

func (a headerAuth) header() (string, error) {
	secret, err := a.secret()
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	secret = strings.TrimSpace(secret)
	if secret == "" {
		return "", errNoCredential
	}
	for _, r := range secret {
		// net/http refuses such a header as well, with a text that does not say
		// what to do about it.
		if r <= ' ' || r >= 0x7f {
			return "", errors.New("credential contains characters that no HTTP header can carry")
		}
	}
	return a.value(secret), nil
}

func (a headerAuth) Authorize(_ context.Context, req *http.Request) error {
	header, err := a.header()
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", header)
	return nil
}

func (a headerAuth) Refresh(_ context.Context, refused *http.Request) (bool, error) {
	header, err := a.header()
	if err != nil {
		return false, err
	}
	return header != refused.Header.Get("Authorization"), nil
}

// withoutCredential removes the request's credential from a text that the
// upstream wrote: nothing stops a proxy from echoing headers into its error
// page.
func withoutCredential(text string, req *http.Request) string {
	header := req.Header.Get("Authorization")
	_, secret, _ := strings.Cut(header, " ")
	if secret == "" {
		return text
	}
	text = strings.ReplaceAll(text, secret, redacted)
	if strings.HasPrefix(header, basicPrefix) {
		if plain, err := base64.StdEncoding.DecodeString(secret); err == nil {
			if user, _, _ := strings.Cut(string(plain), ":"); user != "" {
				text = strings.ReplaceAll(text, user, redacted)
			}
		}
	}
	return text
}

const redacted = "[redacted]"
