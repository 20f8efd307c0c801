// Package natsconn connects to NATS and stays connected.
//
// It promises: a server that is away, or that does not accept the password yet,
// is waited for as long as the caller's context lives, with at most two seconds
// between two tries; a server older than MinServerVersion is refused by name; a
// setting of this machine that cannot be used is a *config.Error that names the
// variable; everything that happens to the connection is logged once.
//
// It does not promise that what is published while the connection is down
// arrives: it is kept in a bounded buffer and sent after the reconnect, and is
// gone if the process ends before. What must arrive is published with an
// acknowledgement. Streams are the business of the package that creates them.
package natsconn
