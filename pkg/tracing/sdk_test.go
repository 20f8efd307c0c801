package tracing_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/tracing/tracingtest"
)

func open(t *testing.T, getenv func(string) string) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.New("test", "v0", getenv, zerolog.Nop())
	if err != nil || tracer == nil {
		t.Fatal(tracer, err)
	}
	return tracer
}

func TestSendsWhatTheStandardVariablesSay(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"none", "gzip"} {
		c := tracingtest.Start(t)
		// It may pass; then it is told that it will not.
		c.Answer(http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusOK)
		tracer := open(t, c.Getenv(
			"OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret, x-tenant = a",
			"OTEL_EXPORTER_OTLP_COMPRESSION", compression))
		job := uuid.New()
		ctx, parent := tracer.Start(tracing.Continue(context.Background(), job, ""), tracing.SpanFetch)
		_, span := tracer.Start(ctx, tracing.SpanDrain, tracing.Number(tracing.AttrItems, 3))
		span.Event("something", tracing.Text("a", "b"))
		span.End(errors.New("broken"))
		tracer.Record(ctx, tracing.SpanPage, time.Now().Add(-time.Second))
		parent.End(nil)
		tracer.Close()

		byName := map[string]tracingtest.Span{}
		for _, s := range c.Spans() {
			byName[s.GetName()] = s
		}
		fetch, drain, page := byName[tracing.SpanFetch], byName[tracing.SpanDrain], byName[tracing.SpanPage]
		if fetch.Span == nil || drain.Span == nil || page.Span == nil {
			t.Fatalf("%v", byName)
		}
		own := tracing.OfJob(job).Trace
		if string(fetch.GetTraceId()) != string(own[:]) || len(fetch.GetParentSpanId()) != 0 || fetch.Service != "ledgerline-test" {
			t.Errorf("%v of %s", fetch, fetch.Service)
		}
		if string(drain.GetParentSpanId()) != string(fetch.GetSpanId()) || drain.Number(tracing.AttrItems) != 3 ||
			drain.GetStatus().GetMessage() != "broken" || len(drain.GetEvents()) != 1 {
			t.Errorf("%v", drain)
		}
		if took := time.Duration(page.GetEndTimeUnixNano() - page.GetStartTimeUnixNano()); took < time.Second {
			t.Errorf("the page took %s", took)
		}
		requests := c.Requests()
		last := requests[len(requests)-1]
		if len(requests) != 3 || last.URL.Path != "/v1/traces" || last.Header.Get("Authorization") != "Bearer secret" || last.Header.Get("X-Tenant") != "a" {
			t.Errorf("%d requests, the last to %s with %v", len(requests), last.URL, last.Header)
		}
	}
}

func TestIsOffWithoutTheVariables(t *testing.T) {
	t.Parallel()
	for _, set := range []map[string]string{
		{},
		{"OTEL_SERVICE_NAME": "x"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		tracer, err := tracing.New("test", "v0", func(name string) string { return set[name] }, zerolog.Nop())
		if tracer != nil || err != nil {
			t.Errorf("%v: %v %v", set, tracer, err)
		}
		// A nil tracer takes everything.
		ctx, span := tracer.Start(context.Background(), "x", tracing.Text("a", "b"))
		span.Event("e")
		span.Set(tracing.Number("n", 1))
		span.End(nil)
		_, span = tracer.StartItem(ctx, "x", tracing.Item{})
		span.End(nil)
		tracer.Record(ctx, "x", time.Now())
		tracer.Close()
	}
}

func TestWhatCannotBeDoneIsAFaultOfTheSetting(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER":                  "zipkin",
		"OTEL_EXPORTER_OTLP_PROTOCOL":           "grpc",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":    "http/json",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":    "collector:4318",
		"OTEL_EXPORTER_OTLP_TIMEOUT":            "10s",
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT":     "0",
		"OTEL_EXPORTER_OTLP_COMPRESSION":        "zstd",
		"OTEL_EXPORTER_OTLP_HEADERS":            "no pair",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        "/nowhere",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nowhere",
	} {
		set := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", name: value}
		tracer, err := tracing.New("test", "v0", func(name string) string { return set[name] }, zerolog.Nop())
		if tracer != nil || !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v %v", name, value, tracer, err)
		}
	}
}

// The same item has the same span for every worker, and links to the one before.
func TestItemsAreLinkedInOrder(t *testing.T) {
	t.Parallel()
	c := tracingtest.Start(t)
	job := uuid.New()
	for _, positions := range [][]uint32{{1, 2}, {3}} { // two workers
		tracer := open(t, c.Getenv())
		ctx := tracing.Continue(context.Background(), job, "")
		for _, p := range positions {
			item := tracing.Item{Job: job, Run: 1, Position: p}
			inside, span := tracer.StartItem(ctx, tracing.SpanSend, item)
			if got, want := tracing.Traceparent(inside), item.Of(tracing.From(inside)).String(); got != want {
				t.Errorf("the span of item %d is %s, not %s", p, got, want)
			}
			// What is begun within has an id of its own.
			_, child := tracer.Start(inside, "child")
			child.End(nil)
			span.End(nil)
		}
		tracer.Close()
	}
	linked := map[string]string{}
	ids := map[string]int{}
	for _, s := range c.Spans() {
		if ids[string(s.GetSpanId())]++; s.GetName() != tracing.SpanSend {
			continue
		}
		for _, l := range s.GetLinks() {
			linked[string(s.GetSpanId())] = string(l.GetSpanId())
		}
	}
	if len(ids) != 6 || len(linked) != 2 {
		t.Errorf("%d spans, %d links", len(ids), len(linked))
	}
	third := tracing.Item{Job: job, Run: 1, Position: 3}.Of(tracing.OfJob(job)).Span
	second := tracing.Item{Job: job, Run: 1, Position: 2}.Of(tracing.OfJob(job)).Span
	first := tracing.Item{Job: job, Run: 1, Position: 1}.Of(tracing.OfJob(job)).Span
	if linked[string(third[:])] != string(second[:]) || linked[string(second[:])] != string(first[:]) {
		t.Error("the chain is broken")
	}
}
