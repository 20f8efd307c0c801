// Package natsauth makes what a NATS server and our programs need to know each other:
// an operator, an account and a system account as signed tokens, a credentials file
// for each program with the permissions of deploy/nats/permissions.conf, and, for a
// server without certificates of its own, a certificate authority and a certificate.
//
// It does for one installation what `nsc` does for any: one command instead of
// twenty, and the permissions from the same file as those of the passwords. The keys
// it keeps under keys/ sign new users; guard them like the ledger.
package natsauth
