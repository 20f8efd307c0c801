package sink

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 4, 22, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "007": 7 * time.Second,
		"-7": 0, "+7": 0, "1.5": 0, "soon": 0, "7s": 0, "7, 8": 0, "NaN": 0, "Inf": 0, "1e3": 0, "0x10": 0,
		"899": 899 * time.Second, "901": MaxRetryAfter,
		"9223372036":                        MaxRetryAfter,
		"99999999999999999999":              MaxRetryAfter,
		strings.Repeat("9", 400):            MaxRetryAfter,
		"Wed, 22 Apr 2026 10:01:00 GMT":     time.Minute,
		"Wednesday, 22-Apr-26 10:01:00 GMT": time.Minute,
		"Wed Apr 22 10:01:00 2026":          time.Minute,
		"Wed, 22 Apr 2026 09:59:00 GMT":     0,
		"Wed, 22 Apr 1026 09:59:00 GMT":     0,
		"Wed, 22 Apr 9999 09:59:00 GMT":     MaxRetryAfter,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("Retry-After %.60q is %s, want %s", value, got, want)
		}
	}
}

func TestRetryAfterSeconds(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"7": 7 * time.Second, "1.5": 1500 * time.Millisecond, `"7"`: 7 * time.Second, "null": 0,
		"-1": 0, "-1e400": 0, "1e400": MaxRetryAfter, "1e18": MaxRetryAfter, `"soon"`: 0, "true": 0, "[7]": 0, `""`: 0, `"NaN"`: 0,
	} {
		a, understood := lineAnswer([]byte(`{"outcome":"retry","retryAfterSeconds":` + value + `}`))
		if !understood || a.Outcome != Retry || a.RetryAfter != want {
			t.Errorf("retryAfterSeconds %s: %+v, want Retry after %s", value, a, want)
		}
	}
}

// JSON knows four characters of white space; around an answer nothing else counts
// as none.
func TestWhiteSpaceAroundAnAnswerIsJSONs(t *testing.T) {
	t.Parallel()
	const answer = `{"outcome":"booked","externalId":"J-1"}`
	for around, want := range map[string]bool{
		"": true, " \t\r\n": true, "\v": false, "\f": false, "\u0085": false, "\u00a0": false, "\u2028": false, "\ufeff": false,
	} {
		for _, text := range []string{around + answer, answer + around} {
			a, understood := lineAnswer([]byte(text))
			if understood != want || want != (a.Outcome == Booked) {
				t.Errorf("%q is understood: %t, as %+v", text, understood, a)
			}
			byHTTP := httpAnswer(http.StatusOK, "", []byte(text), nil, time.Time{}, nil)
			if byHTTP.Outcome != Booked || want != (byHTTP.ExternalID == "J-1") {
				t.Errorf("200 with %q is %+v", text, byHTTP)
			}
		}
	}
}

func TestOutcomesHaveNames(t *testing.T) {
	t.Parallel()
	if name := Outcome(0).String(); name != "unknown" {
		t.Errorf("the zero outcome is called %q", name)
	}
	for o, name := range map[Outcome]string{Booked: "booked", Failed: "failed", Stale: "stale", Retry: "retry", Refused: "refused", Refused + 1: "unknown"} {
		if o.String() != name {
			t.Errorf("outcome %d is called %q, want %q", o, o, name)
		}
	}
	if _, known := outcomeNamed("unknown"); known {
		t.Error(`"unknown" is an outcome`)
	}
	if _, known := outcomeNamed(""); known {
		t.Error(`"" is an outcome`)
	}
}

func TestCleanCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"ab€", 4, "ab"}, {"ab€", 5, "ab€"}, {"€", 2, ""},
		{"a\x00b\r\nc\x1b[31m\u2028d\u0085e", 99, "a b  c [31m d e"}, {" \t a ", 99, "a"}, {"a\xffb", 99, "a\uFFFDb"},
	} {
		if got := clean(c.text, c.limit); got != c.want {
			t.Errorf("clean(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func TestIdempotencyKeyIsLowerCase(t *testing.T) {
	t.Parallel()
	d := Delivery{CompanyID: "ABC", AccountingEntryID: "Def", JobID: "one", Attempt: 1}
	e := Delivery{CompanyID: "abc", AccountingEntryID: "def", JobID: "two", Attempt: 2}
	if d.IdempotencyKey() != "abc:def" || d.IdempotencyKey() != e.IdempotencyKey() {
		t.Errorf("keys %q and %q, want abc:def for both", d.IdempotencyKey(), e.IdempotencyKey())
	}
}

func TestBodyOfOddDeliveries(t *testing.T) {
	t.Parallel()
	if b, err := (Delivery{JobID: `a"b`, Item: json.RawMessage{}}).Body(); err != nil || string(b) != `{"jobId":"a\"b","companyId":"","accountingEntryId":"","position":0,"total":0,"epoch":0,"attempt":0,"date":null,"item":null}` {
		t.Errorf("Body = %s, %v", b, err)
	}
	for _, item := range []string{"{", "{}{}", " ", "\xff", `{"a":1},"epoch":9`} {
		if b, err := (Delivery{Item: json.RawMessage(item)}).Body(); err == nil {
			t.Errorf("item %q: Body = %s, want an error", item, b)
		}
	}
	far := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if b, err := (Delivery{Date: &far}).Body(); err == nil {
		t.Errorf("a date RFC 3339 cannot hold: Body = %s, want an error", b)
	}
}

// A trace is not worth an item: what cannot be a header is left out.
func TestTraceparentThatIsNoHeader(t *testing.T) {
	t.Parallel()
	for _, h := range (Delivery{Traceparent: "00-a\r\nX: 1"}).headers() {
		if h[0] == "traceparent" {
			t.Errorf("header %q", h)
		}
	}
}

func TestHTTPSIsVerifiedHTTP1(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("HTTP/%d, want 1", r.ProtoMajor)
		}
		_, _ = io.WriteString(w, `{"externalId":7}`)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the refused certificate
	srv.StartTLS()
	t.Cleanup(srv.Close)
	deliver := func(trust bool) Answer {
		s, err := Open(srv.URL, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if trust {
			roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			s.(*boundedSink).carrier.(*httpCarrier).transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		}
		return s.Deliver(t.Context(), Delivery{})
	}
	if a := deliver(false); a.Outcome != Retry || !strings.Contains(a.Detail, "certificate") {
		t.Errorf("a certificate nobody vouches for: %+v, want Retry that says so", a)
	}
	if a := deliver(true); a != (Answer{Outcome: Booked, ExternalID: "7"}) {
		t.Errorf("answer = %+v, want booked as 7", a)
	}
}
