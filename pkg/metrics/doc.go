// Package metrics is what every program shows on /metrics: the names, types and
// labels of the outside contract, section 10, and nowhere else.
//
// Counters and histograms are the process's own. The gauges of the whole
// installation come from pkg/lag and stand on every process that follows it
// (consumers, and `up`): the same on each, so take max, not sum. Where they cannot
// be read they are left out, since an old figure looks like a calm one, and the
// failure is counted.
package metrics
