package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// Context is a W3C trace context: which trace, which span of it, and whether it is
// recorded. The zero Span is none.
type Context struct {
	Trace [16]byte
	Span  [8]byte
	Flags byte
}

const (
	// sampled is the flag of a span that is recorded.
	sampled = 1
	// traceparentBytes is the length of version 00; later ones may be longer.
	traceparentBytes = 55
	// maxTraceparent bounds what is looked at of a later version.
	maxTraceparent = 512
)

// Parse reads a traceparent header; false for one that is none.
func Parse(header string) (Context, bool) {
	if len(header) < traceparentBytes || len(header) > maxTraceparent {
		return Context{}, false
	}
	if header[:2] == "ff" || header[:2] == "00" && len(header) != traceparentBytes || len(header) > traceparentBytes && header[traceparentBytes] != '-' {
		return Context{}, false
	}
	var c Context
	var version, flags [1]byte
	for _, part := range []struct {
		to       []byte
		from, at int // at is where the part's "-" stands before it
	}{{version[:], 0, -1}, {c.Trace[:], 3, 2}, {c.Span[:], 36, 35}, {flags[:], 53, 52}} {
		text := header[part.from : part.from+2*len(part.to)]
		if part.at >= 0 && header[part.at] != '-' || strings.ToLower(text) != text {
			return Context{}, false
		}
		if _, err := hex.Decode(part.to, []byte(text)); err != nil {
			return Context{}, false
		}
	}
	c.Flags = flags[0] & sampled
	return c, c.Trace != [16]byte{} && c.Span != [8]byte{}
}

// String is the traceparent header; empty without a span.
func (c Context) String() string {
	if c.Span == [8]byte{} {
		return ""
	}
	b := make([]byte, 0, traceparentBytes)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, c.Span[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{c.Flags})
	return string(b)
}

// OfJob is the trace of a job that nobody has begun a trace for. It is a hash, and
// not the id itself, since samplers take a trace id for random, which not every
// part of a UUID is.
func OfJob(job uuid.UUID) Context {
	sum := sha256.Sum256(append([]byte("ledgerline trace "), job[:]...))
	return Context{Trace: [16]byte(sum[:16])}
}

type contextKey struct{}

// Continue is ctx in the trace of a job: the one that traceparent tells, as it came
// with an event or a manifest, or else the job's own.
func Continue(ctx context.Context, job uuid.UUID, traceparent string) context.Context {
	c, ok := Parse(traceparent)
	if !ok {
		c = OfJob(job)
	}
	return context.WithValue(ctx, contextKey{}, c)
}

// From is the trace context of ctx: the span that was started last, or what was
// continued.
func From(ctx context.Context) Context {
	c, _ := ctx.Value(contextKey{}).(Context)
	return c
}

// Traceparent is what goes into a header for whoever goes on; empty where no span
// has begun in ctx's trace.
func Traceparent(ctx context.Context) string { return From(ctx).String() }

// Item is one item of one run of a job.
type Item struct {
	Job           uuid.UUID
	Run, Position uint32
}

// Of is the item's own span in the trace of c, the same for every worker and every
// attempt.
func (i Item) Of(c Context) Context {
	b := append([]byte("ledgerline item "), c.Trace[:]...)
	b = append(b, i.Job[:]...)
	b = binary.BigEndian.AppendUint32(b, i.Run)
	b = binary.BigEndian.AppendUint32(b, i.Position)
	sum := sha256.Sum256(b)
	c.Span = [8]byte(sum[:8])
	return c
}

// before is the item that this one follows.
func (i Item) before() (Item, bool) {
	i.Position--
	return i, i.Position > 0
}
