// Package host runs workers: the small HTTP server that answers for the process
// from its first moment, the NATS connection that may take its time, and then the
// workers on it, until the context ends or one of them cannot work at all.
package host
