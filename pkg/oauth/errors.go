package oauth

import (
	"errors"
	"fmt"
)

// ErrAuthorise is returned when Pleo has refused the refresh token: nothing but a
// new authorisation by a person helps. Errors that wrap it say how.
var ErrAuthorise = errors.New("pleo refuses the refresh token")

var (
	// errClosed is returned when a refresh was wanted after Close, or was not yet
	// begun then.
	errClosed = errors.New("the process is ending")
	// errYoung is returned when a token was refused that was issued a moment ago.
	errYoung = fmt.Errorf("the token is younger than %s: another one would be refused as well", minAge)
	// errOvertaken is returned when somebody else wrote the entry first.
	errOvertaken = errors.New("another replica was faster")
	// errUnstored is returned when there is a new pair that NATS did not take yet.
	errUnstored = errors.New("the new token is not stored yet")
)

// passing is trouble of the token endpoint that may pass.
type passing struct{ text string }

func (p *passing) Error() string { return p.text }

// refusedClientError is an answer of the token endpoint that is not about the refresh
// token: the client's id or secret, or the endpoint itself, is wrong.
type refusedClientError struct{ text string }

func (r *refusedClientError) Error() string { return r.text }

// refusedTokenError is an answer that is about the refresh token.
type refusedTokenError struct{ text string }

func (r *refusedTokenError) Error() string { return r.text }
