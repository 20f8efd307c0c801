// Package demo shows a whole installation at work: a simulated Pleo, a local
// accounting system, and in between the same program that `ledgerline up` runs.
// It judges its own run by what the two ends recorded, not by what the engine
// says of itself.
package demo
