// Package sink is the product's one plug: it hands one item of one job to the
// system that books it and says what that system answered.
//
// # What it promises
//
// One call of Deliver is one transmission. Nothing here repeats a request by
// itself: not the HTTP transport (which would, for a request that carries an
// Idempotency-Key, on a broken kept-alive connection), not a redirect, not a
// pool of child processes. So the attempt number in the delivery counts what
// the far side can have seen.
//
// The item reaches the far side as it was received upstream, byte for byte: no
// number is rounded, no text is escaped anew. Only where one line is one
// message (exec:, file:) are line breaks between JSON tokens turned into blanks.
//
// Every answer is one of five outcomes, decided in this package and nowhere
// else: [Booked], [Failed], [Stale], [Retry], [Refused]. Trouble is never an
// error and never a panic. Whatever the far side sends is bounded before it is
// kept, and neither payloads nor credentials get into a log line or a Detail.
//
// # What it leaves to the caller
//
// Order, waiting between attempts, recording an attempt before it is sent and
// the outcome after it, and stopping at a [Stale] answer. Deliver may be called
// by several jobs at once; one job calls it for one item at a time.
//
// # What it leaves to whoever writes a sink
//
// Delivery is at least once, and the window is one item: after a crash, a
// time-out or a broken connection the one item that was sent and whose answer
// was not recorded is sent again, with the same Idempotency-Key and a higher
// Ledgerline-Attempt. A sink that must book once therefore keeps the key with
// the booking, in the same transaction, and answers a key it knows with "booked
// earlier" (409 or 2xx) and the first booking's externalId. A sink that also
// keeps the highest epoch seen per job, and answers 412 or "stale" to a lower
// one, cannot be written to by a worker that was presumed dead.
//
// Over exec: the far side answers each line with exactly one line, in order,
// and writes nothing else to its standard output: an answer carries no key, so
// a line too many would be taken for the answer to the next item. A line that
// arrives while nothing is asked costs the child its life. Over nats: one
// responder answers each request; several listeners belong in one queue group.
//
// # The kinds
//
//	log:                 one log event an item; for a first look
//	file:PATH            JSON lines, on disk before "booked" is answered
//	http://, https://    POST, one item a request
//	exec:COMMAND         JSON lines over a child's stdin and stdout
//	nats:SUBJECT         request and reply
package sink
