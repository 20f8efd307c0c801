// Package natstest gives tests real NATS servers: one node, a cluster of three,
// and a network in between that can be cut. Everything it starts ends with the
// test.
package natstest
