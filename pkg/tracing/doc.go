// Package tracing gives each job one trace, from the gateway over fetcher and
// consumer to the sink.
//
// # What it promises
//
// A job's trace id follows from the job's id, so that every process, every retry and
// every takeover is in the same trace without asking anybody; where the job-started
// event carries a W3C trace context, that trace is gone on with instead. The span of
// an item follows from trace, run and position: the worker that takes over links its
// first item to the last one of the worker that died, and the chain of links shows
// the order over takeovers. An item's span is written once its settlement is
// recorded, so there is one for each position.
//
// The sink gets a traceparent with every item, whether anything records or not. Its
// sampled flag says whether we did.
//
// Spans go out over OTLP/HTTP where the standard OTEL_* variables ask for it.
// Without them a nil *Tracer does nothing, at no cost.
//
// # What it leaves to others
//
// Traces are for people. Nothing is decided by them, and what cannot be sent is
// dropped, with a warning in the log.
package tracing
