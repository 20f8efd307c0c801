package sink

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

const (
	// DefaultTimeout is the time of one attempt where Options name none: an
	// accounting system that posts a voucher with its files takes seconds.
	DefaultTimeout = 30 * time.Second
	// DefaultMaxConcurrent is the number of deliveries at a time that a sink is
	// made for where Options name none; LEDGERLINE_CONCURRENT_JOBS' default.
	DefaultMaxConcurrent = 64
)

// Options are what a sink needs besides its spec. Each kind takes what concerns
// it and ignores the rest.
type Options struct {
	// Token gives the bearer token of an HTTP sink. It is asked before each
	// request, so that a token file may change; nil or "" = none.
	Token func() (string, error)
	// Timeout is the time of one attempt, from the first byte out to the last
	// byte in; 0 = DefaultTimeout.
	Timeout time.Duration
	// NATS is the connection of a nats: sink. The sink does not close it.
	NATS *nats.Conn
	// Logger takes the log: sink's events and what exec:'s children have to say.
	Logger zerolog.Logger
	// MaxConcurrent is how many deliveries run at a time, the number of jobs a
	// consumer works on at once: it sizes the connection pool and bounds the
	// children. 0 = DefaultMaxConcurrent.
	MaxConcurrent int
}

// Validate says whether spec is one of the forms Open takes, without opening
// anything. Its error names LEDGERLINE_SINK, never a password in the spec, and
// wraps ErrSpec.
func Validate(spec string) error {
	_, err := parseSpec(spec)
	return err
}

// Open makes the sink that spec names: "log:", "file:PATH", "http://…",
// "https://…", "exec:COMMAND" or "nats:SUBJECT". It does not wait for the far
// side to be there; Ready asks for that. A file is opened or created at once, so
// that a wrong path shows at the start. The caller closes the sink.
func Open(spec string, o Options) (Sink, error) {
	parsed, err := parseSpec(spec)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = DefaultMaxConcurrent
	}
	var c carrier
	switch parsed.kind {
	case "log":
		c = &logCarrier{logger: o.Logger}
	case "file":
		c, err = openFile(parsed.rest)
	case "http", "https":
		c = openHTTP(parsed.url, o)
	case "exec":
		c, err = openExec(parsed.rest, o)
	case "nats":
		c, err = openNATS(parsed.rest, o)
	}
	if err != nil {
		return nil, err
	}
	return &boundedSink{carrier: c, timeout: o.Timeout}, nil
}

// forms is the end of every message about a spec that fits none.
const forms = "use log:, file:PATH, http://HOST…, https://HOST…, exec:COMMAND or nats:SUBJECT"

// spec is a LEDGERLINE_SINK, understood.
type spec struct {
	kind string   // what stands before the first colon
	rest string   // path, command or subject
	url  *url.URL // http and https
}

func parseSpec(s string) (spec, error) {
	// The text is never quoted back: it may hold a password.
	kind, rest, found := strings.Cut(s, ":")
	if !found {
		return spec{}, fmt.Errorf("%w: the value has no form: %s", ErrSpec, forms)
	}
	kind = strings.ToLower(strings.TrimSpace(kind))
	parsed := spec{kind: kind, rest: rest}
	switch kind {
	case "log":
		if strings.TrimSpace(rest) != "" {
			return spec{}, fmt.Errorf("%w: log: takes nothing after the colon", ErrSpec)
		}
	case "file":
		if strings.TrimSpace(rest) == "" || strings.ContainsRune(rest, 0) {
			return spec{}, fmt.Errorf("%w: file: needs a path, as in file:bookings.jsonl", ErrSpec)
		}
	case "exec":
		if strings.TrimSpace(rest) == "" || strings.ContainsRune(rest, 0) {
			return spec{}, fmt.Errorf("%w: exec: needs a command, as in exec:./book", ErrSpec)
		}
	case "http", "https":
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil { // err quotes the address, and with it a password
			return spec{}, fmt.Errorf("%w: the %s address cannot be read as a URL (special characters of a user name or password are percent-encoded)", ErrSpec, kind)
		}
		if u.Hostname() == "" {
			return spec{}, fmt.Errorf("%w: the %s address has no host, as in %s://erp.example/book", ErrSpec, kind, kind)
		}
		if port := u.Port(); port != "" {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return spec{}, fmt.Errorf("%w: the %s address has a port outside 1 to 65535", ErrSpec, kind)
			}
		}
		u.Fragment, u.RawFragment = "", "" // never sent
		parsed.url = u
	case "nats":
		parsed.rest = strings.TrimSpace(rest)
		if err := checkSubject(parsed.rest); err != nil {
			return spec{}, fmt.Errorf("%w: nats: %w", ErrSpec, err)
		}
	default:
		return spec{}, fmt.Errorf("%w: the value is of no known form: %s", ErrSpec, forms)
	}
	return parsed, nil
}
