// Package history reads every message of some subjects up to a known sequence,
// in order, once. It promises completeness: it ends only when the message with
// that sequence was seen, and a delivery that was lost on the way is asked for
// again, so neither a replica that lags behind nor a cut connection can hide
// anything from the reader. What was purged before it was read is not promised.
package history
