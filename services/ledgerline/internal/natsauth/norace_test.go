//go:build !race

package natsauth

const raceDetector = false
