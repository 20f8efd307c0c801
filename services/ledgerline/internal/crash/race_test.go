//go:build race

package crash

// slow: killing at a hundred points under the race detector takes several times as
// long and finds nothing else, since the processes that die are built without it.
const slow = true
