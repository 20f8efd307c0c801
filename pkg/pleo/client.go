package pleo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

const (
	// DefaultBaseURL is Pleo's production host. (Two of Pleo's pages print
	// api.pleo.io; the description and the page on hosts know only this one:
	// trap 23.)
	DefaultBaseURL = "https://external.pleo.io"

	// DefaultTimeout lets a slow page of 1,000 items through and still notices a
	// dead connection often enough within a job's hour.
	DefaultTimeout = 30 * time.Second

	// DefaultPageSize: Pleo publishes neither a default nor a maximum for limit
	// (trap 17); 100 is what its neighbouring API allows at most.
	DefaultPageSize = 100

	// MaxPageSize is the largest limit that we ask for: pages of full items stay
	// at a few megabytes.
	MaxPageSize = 1000

	// DefaultUserAgent names us in the upstream's logs.
	DefaultUserAgent = "ledgerline"

	// MaxPageBytes bounds one page after decompression: MaxPageSize items of 32
	// KiB each, sixteen times what an item usually has.
	MaxPageBytes = 32 << 20

	// MaxObjectBytes bounds an answer that is not a page: a job, or what an
	// update of 100 items returns with a long failure reason on each.
	MaxObjectBytes = 4 << 20

	// MaxErrorBytes bounds what is read of an error's body; its type and message
	// are short.
	MaxErrorBytes = 64 << 10

	// MaxMessageBytes bounds what is kept of the upstream's error text: it goes
	// into logs and into the reason of a parked job.
	MaxMessageBytes = 500

	// maxHeaderBytes bounds an answer's headers.
	maxHeaderBytes = 256 << 10

	// maxIdleConns keeps one connection for each drain that runs at the same
	// time; net/http would keep two and pay a TLS handshake for the rest.
	maxIdleConns = 64

	dialTimeout         = 10 * time.Second // well below DefaultTimeout, so that a dead host is named as such
	tlsHandshakeTimeout = 10 * time.Second
	keepAlive           = 30 * time.Second
	idleConnTimeout     = 90 * time.Second // net/http's own choice
)

// Operation names an upstream operation in metrics, logs and errors.
type Operation string

// The operations in use.
const (
	OpGetJob          Operation = "get_job"
	OpListJobs        Operation = "list_jobs"
	OpListJobItems    Operation = "list_job_items"
	OpListExportItems Operation = "list_export_items"
	OpCreateJobEvent  Operation = "create_job_event"
	OpUpdateJobItems  Operation = "update_job_items"
)

// Codes of a [Call] that did not end with a whole answer.
const (
	CodeTimeout    = "timeout"    // no whole answer within Config.Timeout
	CodeConnection = "connection" // no answer, or one that was cut
	CodeInvalid    = "invalid"    // an answer that is no JSON
	CodeCanceled   = "canceled"   // the caller's context ended meanwhile
)

// Call describes one HTTP request, for metrics.
type Call struct {
	Operation  Operation
	Code       string        // the HTTP status in digits, or one of the Code constants: fit for a label
	Duration   time.Duration // from sending to the last byte read; waiting for the rate limit is not in it
	Attempt    int           // the try within its call, from 1
	RetryAfter time.Duration // what the upstream asked for; 0 when it did not
}

// Config says how to reach the upstream. The zero value of every field but Auth
// has a meaning.
type Config struct {
	// BaseURL is scheme, host and, where a proxy needs one, a path. Credentials
	// in it are refused. Empty: DefaultBaseURL.
	BaseURL string
	// Auth is required.
	Auth Authorizer
	// Rate is the highest number of requests per second of this client, with a
	// burst of one second's worth. 0: no limit.
	Rate float64
	// Timeout bounds one request from sending to the last byte of its answer.
	// 0: DefaultTimeout.
	Timeout time.Duration
	// PageSize is the limit sent with every page request, 1 to MaxPageSize. A
	// page may hold fewer rows and not be the last. 0: DefaultPageSize.
	PageSize int
	// Logger gets the events of logevent/pleo.go.
	Logger zerolog.Logger
	// Limiter, if set, is asked before every HTTP request, after Rate.
	Limiter Limiter
	// Impatient ends a call whose credential is refused, or cannot be had, once a
	// refresh was tried: for callers that come again by themselves, and hold others up
	// meanwhile. Else it is tried until the call's context ends.
	Impatient bool
	// Observe, if set, is called after every HTTP request, by the goroutine that
	// made it, which waits for it.
	Observe func(Call)
	// Transport replaces the client's own. It must not repeat requests by itself.
	Transport http.RoundTripper
	// UserAgent is sent as it is. Empty: DefaultUserAgent.
	UserAgent string
}

// Client talks to one Pleo host with one credential. Safe for concurrent use.
type Client struct {
	*connection
	company string // whose calls these are, for the Limiter; empty where that is not known
}

// connection is what the clients of all companies of one credential share.
type connection struct {
	base      *url.URL
	auth      Authorizer
	transport http.RoundTripper
	limiter   *rate.Limiter // nil: no limit
	shared    Limiter       // nil: none
	timeout   time.Duration
	pageSize  int
	maxPages  int   // MaxPages; tests lower it
	pageBound int64 // MaxPageBytes; tests lower it
	log       zerolog.Logger
	observe   func(Call)
	userAgent string
	impatient bool

	alertMu   sync.Mutex
	lastAlert time.Time
}

// New checks the configuration, reporting all faults at once, and makes no
// request.
func New(cfg Config) (*Client, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("pleo client: "+format, args...))
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
	}
	base, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil:
		// The parser's text repeats the URL, which may hold a password.
		fault("BaseURL is not a URL")
	case base.User != nil:
		fault("BaseURL must not contain credentials")
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		fault("BaseURL must start with http:// or https:// and name a host")
	case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		fault("BaseURL must not have a query or a fragment")
	}
	if cfg.Auth == nil {
		fault("Auth is missing")
	}
	if cfg.Rate < 0 || math.IsNaN(cfg.Rate) || math.IsInf(cfg.Rate, 0) {
		fault("Rate must be 0 or a positive number of requests per second")
	}
	if cfg.Timeout < 0 {
		fault("Timeout must not be negative")
	}
	if cfg.PageSize < 0 || cfg.PageSize > MaxPageSize {
		fault("PageSize must be between 1 and %d", MaxPageSize)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}

	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = DefaultPageSize
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Call) {}
	}
	c := &connection{
		base:      base,
		auth:      cfg.Auth,
		transport: cfg.Transport,
		shared:    cfg.Limiter,
		timeout:   cfg.Timeout,
		pageSize:  cfg.PageSize,
		maxPages:  MaxPages,
		pageBound: MaxPageBytes,
		log:       cfg.Logger,
		observe:   cfg.Observe,
		userAgent: cfg.UserAgent,
		impatient: cfg.Impatient,
	}
	if cfg.Rate > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(cfg.Rate), int(math.Ceil(cfg.Rate)))
	}
	return &Client{connection: c}, nil
}

// newTransport is spelled out, instead of a copy of http.DefaultTransport,
// because that variable may have been replaced by anything.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleConnTimeout,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// CloseIdleConnections closes connections that no call uses. The client stays
// usable.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// call is one operation on its way: what each of its tries sends and how an
// answer is taken in.
type call struct {
	op     Operation
	doing  string // opens the error's sentence: "read job …"
	jobID  string // for logs; "" when the call is not about one job
	method string
	path   []string
	query  url.Values
	body   []byte // nil: none
	wanted func(status int) bool
	bound  int64                 // largest wanted answer in bytes
	take   func(io.Reader) error // reads a wanted answer to its end; called anew for each try
}

func only200(status int) bool { return status == http.StatusOK }

// try sends one request. The request is returned for Authorizer.Refresh, and is
// nil where none was sent.
//
// The error is an *APIError (an answer that is not the wanted one), a page fault
// (an answer that is wrong in itself) or a *trouble (may pass).
func (c *Client) try(ctx context.Context, k call, attempt int) (*http.Request, error) {
	reqCtx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.newRequest(reqCtx, k)
	if err != nil {
		return nil, err
	}
	if err := c.auth.Authorize(reqCtx, req); err != nil {
		return nil, &trouble{code: codeNoCredential, text: printable(err.Error())}
	}

	began := time.Now()
	seen := Call{Operation: k.op, Attempt: attempt}
	defer func() {
		seen.Duration = time.Since(began)
		if c.shared != nil {
			c.shared.Observe(seen)
		}
		c.observe(seen)
	}()
	// The transport itself, without an http.Client: that one would follow
	// redirects, carrying the credential to a host that nobody configured, keep
	// cookies, and write URLs into errors.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		passing := c.onTheWay(ctx, req, began, err)
		seen.Code = passing.code
		return req, passing
	}
	defer resp.Body.Close()

	seen.Code = strconv.Itoa(resp.StatusCode)
	if !k.wanted(resp.StatusCode) {
		refusal := refusalOf(req, resp)
		refusal.Operation, refusal.Attempt = k.op, attempt
		seen.RetryAfter = refusal.RetryAfter
		return req, refusal
	}
	if resp.ContentLength > k.bound {
		return req, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrPageTooLarge, resp.ContentLength, k.bound)
	}
	err = k.take(http.MaxBytesReader(nil, resp.Body, k.bound))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return req, nil
	case errors.As(err, &tooLarge):
		return req, fmt.Errorf("%w: more than %d bytes", ErrPageTooLarge, tooLarge.Limit)
	case IsPageFault(err):
		return req, err
	}
	passing := c.onTheWay(ctx, req, began, err)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, errTrailing) {
		passing = &trouble{code: CodeInvalid, text: "answer is not JSON: " + err.Error()}
	} else if passing.code == CodeConnection {
		passing.text = "answer was cut: " + passing.text
	}
	seen.Code = passing.code
	return req, passing
}

func (c *Client) newRequest(ctx context.Context, k call) (*http.Request, error) {
	target := c.base.JoinPath(k.path...)
	// Encode escapes "=" in cursors (trap 19); "~" needs no escape in a query.
	target.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: request cannot be built", ErrInvalidArgument)
	}
	if k.body != nil {
		// GetBody stays nil, so that the transport cannot send the body a second
		// time: with it, net/http repeats a request on its own when a kept-alive
		// connection turns out to be dead. Each repetition is our decision, is
		// counted, and waits for the rate limit. ContentLength must then be set by
		// hand, or the body would go out chunked.
		req.Body = io.NopCloser(bytes.NewReader(k.body))
		req.ContentLength = int64(len(k.body))
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/json;charset=UTF-8")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	return req, nil
}

// onTheWay makes trouble of an error of the transport or of a body. ctx is the
// caller's; req's own context ends with Config.Timeout.
func (c *Client) onTheWay(ctx context.Context, req *http.Request, began time.Time, err error) *trouble {
	switch {
	case ctx.Err() != nil:
		waited := time.Since(began).Round(time.Millisecond)
		return &trouble{code: CodeCanceled, text: fmt.Sprintf("no whole answer yet after %s", waited)}
	case req.Context().Err() != nil:
		return &trouble{code: CodeTimeout, text: fmt.Sprintf("no whole answer within %s", c.timeout)}
	}
	// The transport quotes an answer that is no HTTP.
	return &trouble{code: CodeConnection, text: printable(withoutCredential(err.Error(), req))}
}

// refusalOf reads an answer that is not the wanted one. Its body may be
// anything; what cannot be read as the upstream's error object is dropped.
func refusalOf(req *http.Request, resp *http.Response) *APIError {
	e := &APIError{
		Status:     resp.StatusCode,
		RequestID:  printable(resp.Header.Get("request-Id")),
		RetryAfter: retryAfter(resp.Header, time.Now()),
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, MaxErrorBytes))
	var info struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &info) == nil {
		e.Type = printable(withoutCredential(info.Type, req))
		e.Message = printable(withoutCredential(info.Message, req))
	}
	if e.Message == "" && e.Status >= 300 && e.Status < 400 {
		e.Message = "redirects are not followed"
	}
	return e
}

// printable cuts a text of the upstream to MaxMessageBytes and takes out what
// could forge a line in a log or on a terminal.
func printable(s string) string {
	if len(s) > MaxMessageBytes {
		s = s[:MaxMessageBytes] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// readObject reads a whole answer into v. Text that is no JSON gives a
// *json.SyntaxError or the reader's error, another shape ErrPageShape.
func readObject(r io.Reader, v any) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return asShape(json.Unmarshal(body, v))
}

// asShape turns json's type errors into ErrPageShape. Their own text quotes the
// value, which may be an amount.
func asShape(err error) error {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return err
	}
	if mismatch.Field == "" {
		return fmt.Errorf("%w: not an object", ErrPageShape)
	}
	return fmt.Errorf("%w: %s is not a %s", ErrPageShape, mismatch.Field, mismatch.Type.Kind())
}
