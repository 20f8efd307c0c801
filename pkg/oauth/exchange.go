package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

const (
	// exchangeTimeout bounds one request to the token endpoint. It answers in well
	// under a second; below the time for a shutdown.
	exchangeTimeout = 10 * time.Second
	// maxAnswerBytes bounds its answer: two tokens of a few KB.
	maxAnswerBytes = 64 << 10
	// maxTokenLength bounds one token: it goes into a header.
	maxTokenLength = 16 << 10
	// maxReasonLength bounds what is kept of the endpoint's own words.
	maxReasonLength = 200

	// usualLifetime stands in for an expires_in that is missing: that of Pleo's
	// older page.
	usualLifetime = 15 * time.Minute
	// maxLifetime bounds what an expires_in is believed.
	maxLifetime = 24 * time.Hour

	dialTimeout    = 5 * time.Second
	maxHeaderBytes = 64 << 10
)

// endpoint is the way to the token endpoint.
type endpoint struct {
	client *http.Client
	url    string
	id     string
}

func newEndpoint(url, id, userAgent string, transport http.RoundTripper) endpoint {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			// A connection for each refresh: on one that was kept, net/http may send
			// a request a second time by itself, which would void the pair that the
			// first one gave.
			DisableKeepAlives: true,
		}
	}
	return endpoint{url: url, id: id, client: &http.Client{
		Transport: bounded{next: transport, userAgent: userAgent},
		// A redirect would carry the client's secret to a host that nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// bounded cuts answers off at maxAnswerBytes.
type bounded struct {
	next      http.RoundTripper
	userAgent string
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.userAgent != "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", b.userAgent)
	}
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswerBytes)
	}
	return resp, err
}

// pair is what a refresh gives.
type pair struct {
	access, refresh string
	issued, expires time.Time
}

// exchange asks for a new pair. Its error is a *refusedTokenError, a *refusedClientError or
// a *passing, and holds no secret.
func (e endpoint) exchange(ctx context.Context, secret, refresh string, now func() time.Time) (pair, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	config := oauth2.Config{
		ClientID: e.id, ClientSecret: secret,
		// Named, not probed: probing sends the refresh token twice.
		Endpoint: oauth2.Endpoint{TokenURL: e.url, AuthStyle: oauth2.AuthStyleInHeader},
	}
	asked := now()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, e.client)
	token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	if err != nil {
		return pair{}, judge(ctx, err)
	}
	p := pair{access: token.AccessToken, refresh: token.RefreshToken, issued: asked}
	if !isToken(p.access) || !isToken(p.refresh) {
		return pair{}, &passing{"the token endpoint gave something that is no token"}
	}
	if token.TokenType != "" && !strings.EqualFold(token.TokenType, "bearer") {
		return pair{}, &refusedClientError{"the token endpoint gave a token that is not of the type bearer"}
	}
	lifetime := usualLifetime
	if token.ExpiresIn > 0 {
		lifetime = min(time.Duration(min(token.ExpiresIn, int64(maxLifetime/time.Second)))*time.Second, maxLifetime)
	}
	p.expires = asked.Add(lifetime)
	return p, nil
}

// isToken tells whether a text can stand in an Authorization header.
func isToken(s string) bool {
	return s != "" && len(s) <= maxTokenLength && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// judge is the one place that decides what an error of the exchange means.
func judge(ctx context.Context, err error) error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) || answer.Response == nil {
		// Sent or not, answered or not: it is not known. oauth2 and net/http write
		// neither body nor header into these errors, but for the endpoint's URL.
		if ctx.Err() != nil {
			return &passing{fmt.Sprintf("no whole answer of the token endpoint within %s", exchangeTimeout)}
		}
		return &passing{"the token endpoint cannot be reached or read: " + kindOf(err)}
	}
	status := answer.Response.StatusCode
	said := fmt.Sprintf("the token endpoint answered %d %s", status, word(answer.ErrorCode))
	// Pleo's text for a refresh token that is void; seen in the wild, not documented.
	const void = "invalid_refresh_token"
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return &passing{said}
	case answer.ErrorCode == "invalid_grant",
		strings.Contains(answer.ErrorCode, void), strings.Contains(answer.ErrorDescription, void):
		return &refusedTokenError{said}
	}
	return &refusedClientError{said}
}

// kindOf says what an error of the way is. The texts of these errors name hosts
// and ports, and no more.
func kindOf(err error) string {
	var tooLarge *http.MaxBytesError
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &tooLarge):
		return fmt.Sprintf("its answer is longer than %d bytes", maxAnswerBytes)
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &op):
		return op.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended"
	}
	return "its answer is no token"
}

// word keeps a code of the endpoint fit for a log.
func word(code string) string {
	code = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-' {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), maxReasonLength)]
}
