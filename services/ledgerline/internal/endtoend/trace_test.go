package endtoend

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/tracing"
	"github.com/ledgerline/ledgerline/pkg/tracing/tracingtest"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// traces opens a tracer of a process, which is closed once the workers have ended.
func (in *installation) traces(program string, to *tracingtest.Collector) *tracing.Tracer {
	in.t.Helper()
	tracer, err := tracing.New(program, "test", to.Getenv(), zerolog.Nop())
	if err != nil || tracer == nil {
		in.t.Fatal(tracer, err)
	}
	in.t.Cleanup(sync.OnceFunc(tracer.Close))
	return tracer
}

func traced(t *tracing.Tracer) func(*consumer.Config) {
	return func(c *consumer.Config) { c.Traces = t }
}

// A job is one trace from the gateway to the sink, over two workers of which the
// first dies in the middle and an item that was booked before; each item links to the
// one before it, from the last to the first.
func TestAJobIsOneTraceAndItsItemsAChain(t *testing.T) {
	t.Parallel()
	const total, diesAt, already = 30, 12, 3
	to := tracingtest.Start(t)
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 11, Companies: 1, Webhook: d.webhooks()})
	tracers := map[string]*tracing.Tracer{}
	for _, program := range []string{"gateway", "fetcher", "first", "second"} {
		tracers[program] = in.traces(program, to)
	}
	d.gateway(in, func(c *gateway.Config) { c.Traces = tracers["gateway"] })
	in.fetcher(startsNothing, func(c *fetcher.Config) { c.Traces = tracers["fetcher"] })
	held := in.gate()
	books := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.Position == diesAt && d.Epoch == 1 {
			held.pass(ctx)
		}
		return bookedAs(d)
	}}
	began := in.upstream.Now().Add(-time.Minute)
	specs := entries(total)
	before := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(0), Entries: specs[:already], Status: simulator.JobPending, CreatedAt: began})
	dying := in.consumer(books, named("first"), traced(tracers["first"]))
	in.completes(before)
	job := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(0), Entries: specs, Status: simulator.JobPending, CreatedAt: began.Add(time.Second)})
	in.wait(held, "the item at which the worker dies")
	in.consumer(books, named("second"), traced(tracers["second"]))
	dying.die()
	in.completes(job)
	held.open()
	ctx := in.bounded("the traces were not sent")
	for program, tracer := range tracers {
		if err := tracer.Flush(ctx); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	}

	var own []tracingtest.Span
	count := map[string]int{}
	trace := tracing.OfJob(job).Trace
	for _, s := range to.Spans() {
		if of := s.Text(tracing.AttrJob); [16]byte(s.GetTraceId()) != trace {
			if of == job.String() {
				t.Errorf("the span %s of the job is in the trace %x", s.GetName(), s.GetTraceId())
			}
			continue
		}
		own = append(own, s)
		count[s.GetName()]++
	}
	for _, name := range []string{
		tracing.SpanStart, tracing.SpanFetch, tracing.SpanDrain, tracing.SpanPage, tracing.SpanStage, tracing.SpanSeal,
		tracing.SpanClaim, tracing.SpanSend, tracing.SpanSkip, tracing.SpanReport, tracing.SpanClose,
	} {
		if count[name] == 0 {
			t.Errorf("no span %q", name)
		}
	}
	if count[tracing.SpanSkip] != already || count[tracing.SpanSend] != total-already {
		t.Errorf("spans: %v", count)
	}

	// The chain, and the sink's own view of it.
	slices.SortFunc(own, func(a, b tracingtest.Span) int {
		return cmp.Compare(a.Number(tracing.AttrPosition), b.Number(tracing.AttrPosition))
	})
	position, last, services := int64(0), "", map[string]int{}
	fetchID := ""
	for _, s := range own {
		if s.GetName() == tracing.SpanFetch {
			fetchID = string(s.GetSpanId())
		}
	}
	at := map[uint32]string{}
	for _, s := range own {
		if s.GetName() != tracing.SpanSend && s.GetName() != tracing.SpanSkip {
			continue
		}
		position++
		services[s.Service]++
		if got := s.Number(tracing.AttrPosition); got != position {
			t.Fatalf("the span of position %d comes where %d must", got, position)
		}
		if string(s.GetParentSpanId()) != fetchID {
			t.Errorf("position %d is not below the fetch", position)
		}
		links := s.GetLinks()
		switch {
		case position == 1 && len(links) != 0:
			t.Errorf("the first item links to %v", links)
		case position > 1 && (len(links) != 1 || string(links[0].GetSpanId()) != last || string(links[0].GetTraceId()) != string(trace[:])):
			t.Errorf("position %d does not link to the one before it: %v", position, links)
		}
		last = string(s.GetSpanId())
		at[uint32(position)] = hex.EncodeToString(s.GetSpanId())
	}
	if services["ledgerline-first"] != diesAt-1 || services["ledgerline-second"] != total-diesAt+1 {
		t.Errorf("items by worker: %v", services)
	}
	for _, d := range books.deliveries() {
		if want := "00-" + hex.EncodeToString(trace[:]) + "-" + at[d.Position] + "-01"; d.JobID == job.String() && d.Traceparent != want {
			t.Errorf("position %d went out with %q, not %q", d.Position, d.Traceparent, want)
		}
	}
}

// Without a collector every item still has a trace context: one trace a job, one
// span an item, the same in every attempt, and not recorded. A publisher's own trace
// is gone on with.
func TestEveryItemHasATraceContext(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 12, Companies: 2})
	in.fetcher()
	again := false
	books := &book{answer: func(_ context.Context, d sink.Delivery) sink.Answer {
		if d.Position == 2 && !again {
			again = true
			return sink.Answer{Outcome: sink.Retry, RetryAfter: time.Millisecond}
		}
		return bookedAs(d)
	}}
	in.consumer(books)
	plain := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(0), Items: items(4)})
	begun := in.add(simulator.JobSpec{CompanyID: in.upstream.Company(1), Items: items(4)})
	in.publish(plain)
	in.completes(plain)
	const publishers = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	msg := nats.NewMsg(subject.JobStarted)
	msg.Data = []byte(`{"jobId":"` + begun.String() + `"}`)
	msg.Header.Set(subject.HeaderTraceparent, publishers)
	if _, err := in.js.PublishMsg(in.bounded("the event was not stored"), msg); err != nil {
		t.Fatal(err)
	}
	in.completes(begun)

	spans := map[string]map[uint32]string{}
	for _, d := range books.deliveries() {
		c, ok := tracing.Parse(d.Traceparent)
		want := tracing.OfJob(uuid.MustParse(d.JobID)).Trace
		flags := byte(0)
		if d.JobID == begun.String() {
			theirs, _ := tracing.Parse(publishers)
			want, flags = theirs.Trace, theirs.Flags
		}
		if !ok || c.Trace != want || c.Flags != flags {
			t.Errorf("job %s: %q", d.JobID, d.Traceparent)
		}
		if spans[d.JobID] == nil {
			spans[d.JobID] = map[uint32]string{}
		}
		if known := spans[d.JobID][d.Position]; known != "" && known != d.Traceparent {
			t.Errorf("attempt %d of position %d is %q after %q", d.Attempt, d.Position, d.Traceparent, known)
		}
		spans[d.JobID][d.Position] = d.Traceparent
	}
	for job, of := range spans {
		different := map[string]bool{}
		for _, s := range of {
			different[s] = true
		}
		if len(different) != 4 {
			t.Errorf("the items of job %s have the contexts %v", job, of)
		}
	}
}
