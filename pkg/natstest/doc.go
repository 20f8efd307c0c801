// Package natstest gives tests real NATS servers: one node, a cluster of three,
// and a network in between that can be cut. Everything it starts ends with the
// test. What no test can have a server do at will stands in for it: an election in
// the middle of a start (Leaderless), a message's hundredth delivery (Delivered).
package natstest
