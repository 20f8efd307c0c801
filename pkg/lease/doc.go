// Package lease keeps a JetStream message in hand while its work goes on: it
// tells the server "in progress" at a quarter of the lease and waits for the
// server's confirmation. It promises that Held is true only while the last
// confirmed heartbeat is younger than three quarters of the lease, that is,
// before the server can have handed the message to anybody else; what a stale
// holder does in spite of that is stopped by the ledger's compare-and-set, not
// here.
package lease
