//go:build race

package lag_test

// slowness tells that the race detector makes everything slower.
const slowness = 10
