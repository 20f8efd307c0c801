//go:build !race

package lag_test

const slowness = 1
