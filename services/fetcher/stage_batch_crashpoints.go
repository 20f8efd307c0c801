//go:build crashpoints

package fetcher

// maxStaged is small in a process that is to die in it: a small job has several
// batches, and so moments between two of them.
const maxStaged = 3
