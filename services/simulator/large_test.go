//go:build !race

package simulator_test

// largeJob is the size of the large job in TestALargeJobIsNotHeld.
const largeJob = 100_000
