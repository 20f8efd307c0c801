//go:build race

package endtoend

const (
	raceDetector = true
	// slowness stretches leases and deadlines: the race detector makes everything
	// some times slower.
	slowness = 3
	// parallel is how many tests run at a time.
	parallel = 5
)
