// Package lease keeps a JetStream message in hand while its work goes on: it
// tells the server "in progress" at a quarter of the lease and waits for the
// server's confirmation. It promises that Held is true only while the last
// confirmed heartbeat is younger than three quarters of the lease, that is,
// before the server can have handed the message to anybody else, unless that was
// killed: it may hand out again what is held then, and confirms the heartbeats of
// both, since they name the message and no delivery. What a stale or a second holder
// does is stopped by the ledger's compare-and-set, not here.
package lease
