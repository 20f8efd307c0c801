//go:build !race

package crash

const slow = false
