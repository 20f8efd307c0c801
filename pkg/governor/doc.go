// Package governor spreads the requests to Pleo: over all replicas of an
// installation, and over the companies inside each process.
//
// # What it promises
//
//   - All replicas that share a NATS together send what one budget per credential
//     allows. The budget learns: it grows while it is used up and nothing is
//     refused, and is cut at each 429, to what Pleo has let through since the 429
//     before it.
//   - A 429 pauses every replica until its Retry-After has passed, or for MinPause.
//     A replica hears of it at its next slice, MaxSlice later at most; what it has
//     sent by then may be refused as well, and is no reason for a second cut.
//   - Inside a process the companies of one credential take turns, request by
//     request: a company with one request waits for one of each other company and
//     not for the bulk of any.
//   - The process's own rate is never exceeded, whatever the budget says.
//   - NATS away, or slow, stops no request for long: after KVTimeout the process
//     goes on by its own rate and the budget as it knew it last, and looks for
//     NATS again every AloneFor.
//
// # What it leaves to others
//
//   - Waiting before a refused request is sent again: package pleo does that, and
//     then stands in line here once more.
//   - The clocks of the replicas, which must agree to within a second or so: a
//     replica whose clock is behind waits that much longer for each of its slices.
//     The rate itself is not exceeded by a clock that is wrong.
//   - Fairness between replicas: each takes slices of up to MaxSlice in the order
//     in which they ask, so a process of few requests waits for one slice of each
//     of the others.
//
// Pleo publishes no limit (trap 40); that is why there is nothing to configure but
// the process's own rate.
package governor
