//go:build !race

package endtoend

// For what they are see race_test.go.
const (
	raceDetector = false
	slowness     = 1
	parallel     = 8
)
