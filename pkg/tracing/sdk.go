package tracing

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// closeTimeout bounds the last export, within a program's own shutdown.
const closeTimeout = 3 * time.Second

// scope names this instrumentation.
const scope = "github.com/ledgerline/ledgerline"

// Tracer makes spans. A nil Tracer makes none. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// New reads the OTEL_* variables by getenv; a nil Tracer without error means that
// they ask for no traces. Its error is a *config.Error. program and version name the
// process where OTEL_SERVICE_NAME does not. Sampler, limits and batches have
// OpenTelemetry's own variables and defaults.
func New(program, version string, getenv func(string) string, logger zerolog.Logger) (*Tracer, error) {
	to, on, err := readTarget(getenv)
	if err != nil || !on {
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn().Err(err).Msg(logevent.TracesDropped)
	}))
	exporter, err := otlptracehttp.New(context.Background(), to.options()...)
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	own := resource.NewSchemaless(
		attribute.String("service.name", "ledgerline-"+program), attribute.String("service.version", version))
	named, err := resource.Merge(own, resource.Environment())
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(named), sdktrace.WithIDGenerator(derived{}))
	logger.Info().Str("endpoint", to.shown()).Msg(logevent.TracesOn)
	return &Tracer{provider: provider, tracer: provider.Tracer(scope)}, nil
}

// Close sends what waits. Call it once.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(fmt.Errorf("send the last traces: %w", err))
	}
}

// Flush sends what waits, for tests.
func (t *Tracer) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }

// Span is a span that has begun. The zero Span is none. A span that is not ended is
// never written.
type Span struct{ span trace.Span }

// Start begins a span below ctx's, and returns ctx with it.
func (t *Tracer) Start(ctx context.Context, name string, attrs ...Attr) (context.Context, Span) {
	return t.start(ctx, name, [8]byte{}, nil, attrs)
}

// StartItem begins the span of an item, which is the same for every worker, and
// links it to the item before.
func (t *Tracer) StartItem(ctx context.Context, name string, item Item, attrs ...Attr) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	now := From(ctx)
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
	if before, has := item.before(); has {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: spanContext(before.Of(now))}))
	}
	return t.start(ctx, name, item.Of(now).Span, options, attrs)
}

// Record writes a span that began at began and ends now.
func (t *Tracer) Record(ctx context.Context, name string, began time.Time, attrs ...Attr) {
	if t == nil {
		return
	}
	_, span := t.start(ctx, name, [8]byte{}, []trace.SpanStartOption{trace.WithTimestamp(began)}, attrs)
	span.End(nil)
}

// start begins a span with the id, or with a random one for none.
func (t *Tracer) start(ctx context.Context, name string, id [8]byte, options []trace.SpanStartOption, attrs []Attr) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	// What the SDK reads is not kept: a span's own id must not become its children's.
	under := context.WithValue(ctx, spanIDKey{}, id)
	if parent := From(ctx); parent.Span != [8]byte{} {
		under = trace.ContextWithRemoteSpanContext(under, spanContext(parent))
	}
	_, span := t.tracer.Start(under, name, append(options, trace.WithAttributes(keyValues(attrs)...))...)
	begun := span.SpanContext()
	return context.WithValue(ctx, contextKey{}, Context{
		Trace: begun.TraceID(), Span: begun.SpanID(), Flags: byte(begun.TraceFlags() & trace.FlagsSampled),
	}), Span{span}
}

// Event tells of something within the span.
func (s Span) Event(name string, attrs ...Attr) {
	if s.span != nil {
		s.span.AddEvent(name, trace.WithAttributes(keyValues(attrs)...))
	}
}

// Set adds attributes.
func (s Span) Set(attrs ...Attr) {
	if s.span != nil {
		s.span.SetAttributes(keyValues(attrs)...)
	}
}

// End writes the span; err marks it as failed.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

func keyValues(attrs []Attr) []attribute.KeyValue {
	all := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		if a.number {
			all[i] = attribute.Int64(a.Key, a.Number)
		} else {
			all[i] = attribute.String(a.Key, a.Text)
		}
	}
	return all
}

func spanContext(c Context) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: c.Trace, SpanID: c.Span, TraceFlags: trace.TraceFlags(c.Flags), Remote: true,
	})
}
