package pleo

import (
	"context"

	"github.com/google/uuid"
)

// Limiter decides when a request may go out, beside Config.Rate. It is used by
// many goroutines at once, and by all clients of one credential.
type Limiter interface {
	// Wait returns when one request for the company may be sent; company is a UUID
	// in lower case, or empty where the caller did not say. The only error is that
	// of ctx: a limiter in trouble lets requests through.
	Wait(ctx context.Context, company string) error

	// Observe is told of every request that was sent after a Wait.
	Observe(Call)
}

// For is a client for the calls of one company: the same connections, credential
// and limits, in which its requests stand in line as that company's. uuid.Nil is a
// client for calls of no known company. The error is always nil: one credential
// serves every company that it may see. (Where companies have credentials of
// their own, there may be none for a company; see package upstream.)
func (c *Client) For(company uuid.UUID) (*Client, error) {
	of := &Client{connection: c.connection}
	if company != uuid.Nil {
		of.company = company.String()
	}
	return of, nil
}

// SameCredential tells whether both clients sign in as the same one: they come
// from one New.
func (c *Client) SameCredential(other *Client) bool {
	return other != nil && c.connection == other.connection
}
