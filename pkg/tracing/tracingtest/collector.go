// Package tracingtest is an OpenTelemetry collector for tests.
package tracingtest

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes traces over OTLP/HTTP and keeps them.
type Collector struct {
	url string

	mu       sync.Mutex
	spans    []Span
	requests []*http.Request
	answers  []int
}

// Span is a span, and the service that sent it.
type Span struct {
	*tracepb.Span
	Service string
}

// Start runs a collector until the test ends.
func Start(t testing.TB) *Collector {
	c := &Collector{}
	web := httptest.NewServer(c)
	t.Cleanup(web.Close)
	c.url = web.URL
	return c
}

// Getenv gives the variables that send traces here, and whatever else is given.
func (c *Collector) Getenv(more ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(more); i += 2 {
			if more[i] == name {
				return more[i+1]
			}
		}
		if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return c.url
		}
		return ""
	}
}

// Answer makes the next requests be answered by these codes.
func (c *Collector) Answer(codes ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, codes...)
}

// Spans are those that came so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Requests are those that came so far.
func (c *Collector) Requests() []*http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// ServeHTTP takes one batch.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	data, err := io.ReadAll(body)
	batch := new(tracepb.TracesData)
	if err == nil {
		err = proto.Unmarshal(data, batch)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(c.answers) > 0 {
		code := c.answers[0]
		c.answers = c.answers[1:]
		if code != http.StatusOK {
			w.WriteHeader(code)
			return
		}
	}
	for _, resource := range batch.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, Span{span, service})
			}
		}
	}
}

// Number is an attribute that is a whole number; 0 where it is missing.
func (s Span) Number(key string) int64 {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetIntValue()
		}
	}
	return 0
}

// Text is an attribute that is a string; empty where it is missing.
func (s Span) Text(key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
