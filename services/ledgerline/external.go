//go:build external_nats

package main

// inProcess is empty: this build has no NATS server in it.
type inProcess struct{}
