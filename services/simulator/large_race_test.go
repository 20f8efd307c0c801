//go:build race

package simulator_test

// Under the race detector an item costs twenty times as much, and memory is not
// what that run is about.
const largeJob = 5_000
