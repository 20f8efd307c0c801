package tracing

import (
	"context"
	"crypto/rand"

	"go.opentelemetry.io/otel/trace"
)

// spanIDKey has the id that the next span is to have.
type spanIDKey struct{}

// derived gives the ids that follow from job and item, and random ones otherwise.
type derived struct{}

// NewIDs is asked for a span without a parent.
func (derived) NewIDs(ctx context.Context) (traceID trace.TraceID, span trace.SpanID) {
	traceID = From(ctx).Trace
	for !traceID.IsValid() {
		_, _ = rand.Read(traceID[:]) // never fails
	}
	return traceID, spanID(ctx)
}

// NewSpanID is asked for a span with a parent.
func (derived) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID { return spanID(ctx) }

func spanID(ctx context.Context) trace.SpanID {
	id, _ := ctx.Value(spanIDKey{}).([8]byte)
	for id == [8]byte{} {
		_, _ = rand.Read(id[:]) // never fails
	}
	return id
}
