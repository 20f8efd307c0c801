package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
)

const (
	// httpIdleTimeout is below the five seconds after which widespread servers
	// close an idle connection: a request sent into such a closing would be in
	// doubt, and cost an attempt, for nothing.
	httpIdleTimeout = 4 * time.Second
	// httpDialTimeout leaves room within an attempt's usual 30 s.
	httpDialTimeout = 10 * time.Second
	// httpMaxHeaderBytes bounds an answer's headers; nothing but the status and
	// Retry-After is read from them.
	httpMaxHeaderBytes = 64 << 10
)

// httpCarrier posts each item to one address.
//
// It uses the transport without an http.Client around it: no redirects, no
// cookies, and a redirect with an unreadable Location is an answer like any
// other and not an error.
type httpCarrier struct {
	transport      *http.Transport
	url            *url.URL // without userinfo
	user, password string
	hasUser        bool
	token          func() (string, error)
	userAgent      string
}

func openHTTP(address *url.URL, o Options) *httpCarrier {
	bare := *address
	bare.User = nil
	c := &httpCarrier{url: &bare, token: o.Token, userAgent: userAgent()}
	if address.User != nil {
		c.hasUser = true
		c.user = address.User.Username()
		c.password, _ = address.User.Password()
	}
	// HTTP/1.1 alone: over HTTP/2 all jobs would share one connection, and one
	// reset would put every job's item in doubt at once.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: httpDialTimeout}).DialContext,
		Protocols:              &protocols,
		MaxIdleConns:           o.MaxConcurrent,
		MaxIdleConnsPerHost:    o.MaxConcurrent,
		IdleConnTimeout:        httpIdleTimeout,
		TLSHandshakeTimeout:    httpDialTimeout,
		MaxResponseHeaderBytes: httpMaxHeaderBytes,
		DisableCompression:     true, // answers are small, and a bound on what arrives is then one on what is kept
	}
	return c
}

func (c *httpCarrier) carry(ctx context.Context, d Delivery, body []byte) Answer {
	req, secrets, err := c.request(ctx, http.MethodPost)
	if err != nil {
		return Answer{Outcome: Refused, Detail: "not sent: " + err.Error()}
	}
	for _, h := range d.headers() {
		req.Header.Set(h[0], h[1])
	}
	// Go's transport sends a request with an Idempotency-Key a second time by
	// itself when a kept-alive connection breaks before the answer, unless it
	// cannot rewind the body. Hiding the reader's type keeps GetBody nil.
	req.Body = io.NopCloser(struct{ io.Reader }{bytes.NewReader(body)})
	req.ContentLength = int64(len(body))

	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var read []byte
	var readErr error
	if resp.StatusCode >= http.StatusOK { // after 101 the body is the bare connection and has no end
		// Read to the end, so that the connection can be used again; closing
		// the body before its end drops it.
		read, readErr = io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	}
	return httpAnswer(resp.StatusCode, resp.Header.Get("Retry-After"), read, readErr, time.Now(), secrets)
}

// redacted stands for a credential that a sink quoted in its reason.
const redacted = "[redacted]"

// httpAnswer is the table of HTTP answers. Once a status has arrived it
// decides: a body that is nonsense, too long or cut off changes nothing, since
// every field in it is optional.
func httpAnswer(status int, retryAfter string, body []byte, bodyErr error, now time.Time, secrets []string) Answer {
	said := fmt.Sprintf("HTTP %d", status)
	if text := http.StatusText(status); text != "" {
		said += " " + text
	}
	var notes []string
	var w wireAnswer
	switch {
	case bodyErr != nil:
		notes = append(notes, "the answer's body broke off and was ignored")
	case len(body) > MaxAnswerBytes:
		notes = append(notes, fmt.Sprintf("the answer's body is over %d bytes and was ignored", MaxAnswerBytes))
	case len(bytes.Trim(body, jsonSpace)) > 0:
		var ok bool
		if w, ok = readWire(body); !ok {
			notes = append(notes, "the answer's body is no JSON object and was ignored")
		}
	}
	for _, secret := range secrets {
		w.FailureReason.text = strings.ReplaceAll(w.FailureReason.text, secret, redacted)
	}
	// Over HTTP the wait is a header.
	w.RetryAfterSeconds = looseSeconds{wait: parseRetryAfter(retryAfter, now)}
	return w.answer(httpOutcome(status), said, notes...)
}

func httpOutcome(status int) Outcome {
	switch {
	case status >= 200 && status <= 299, status == http.StatusConflict:
		return Booked
	case status >= 500 && status <= 599:
		return Retry
	}
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return Failed
	case http.StatusPreconditionFailed:
		return Stale
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return Retry
	}
	return Refused
}

func (c *httpCarrier) ready(ctx context.Context) error {
	req, _, err := c.request(ctx, http.MethodHead)
	if err != nil {
		return err
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("ask %s by HEAD: %w", c.url.Host, err)
	}
	_ = resp.Body.Close()
	if s := resp.StatusCode; s == http.StatusUnauthorized || s == http.StatusForbidden || s >= 500 && s <= 599 {
		return fmt.Errorf("%s answers HTTP %d %s to HEAD", c.url.Host, s, http.StatusText(s))
	}
	return nil
}

// request has all that every request has, and the secrets that went into it.
func (c *httpCarrier) request(ctx context.Context, method string) (*http.Request, []string, error) {
	req := (&http.Request{Method: method, URL: c.url, Host: c.url.Host, Header: http.Header{}}).WithContext(ctx)
	req.Header.Set("User-Agent", c.userAgent)
	var token string
	if c.token != nil {
		var err error
		if token, err = c.token(); err != nil {
			return nil, nil, fmt.Errorf("read the sink's token: %w", err)
		}
		token = strings.TrimSpace(token)
	}
	switch {
	case token != "": // set on purpose for the sink; the one in the address may be for a proxy on the way
		if !isHeaderValue(token) {
			return nil, nil, errors.New("read the sink's token: it holds a line break or another character no header can carry")
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return req, []string{token}, nil
	case c.hasUser:
		req.SetBasicAuth(c.user, c.password)
		_, encoded, _ := strings.Cut(req.Header.Get("Authorization"), " ")
		secrets := []string{encoded}
		if c.password != "" {
			secrets = append(secrets, c.password)
		}
		return req, secrets, nil
	}
	return req, nil, nil
}

func (c *httpCarrier) close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// userAgent is ledgerline/<version of the program>, as the build recorded it.
func userAgent() string {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = strings.Trim(info.Main.Version, "()")
	}
	return "ledgerline/" + version
}
