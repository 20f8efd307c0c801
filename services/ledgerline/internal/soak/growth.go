package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	streamPipe   = subject.StreamPipe
	streamEvents = subject.StreamEvents
	streamParked = subject.StreamParked
	streamLedger = subject.StreamLedger
	streamJobs   = "KV_" + subject.BucketJobs
)

// warmUp is the share of the samples that is not judged: pools, connections and
// the collector find their level.
const warmUp = 0.1

// bound is how far the median of the last third may be above that of the first:
// factor times it, and something on top for what is small, and something for each
// job that ended in between where what is kept for ever is indexed in memory.
type bound struct {
	factor, atop, perJob float64
}

// bounds by what is sampled. The factors leave room for noise, not for a leak: a
// leak of one goroutine, file, series or consumer in ten jobs passes none of them
// in an hour.
var bounds = map[string]bound{
	goroutines: {factor: 1.2, atop: 10},
	openFiles:  {factor: 1.2, atop: 10},
	series:     {factor: 1.1, atop: 20},
	heap:       {factor: 1.25, atop: 4 << 20},
	resident:   {factor: 1.25, atop: 12 << 20},
	consumers:  {factor: 1.2, atop: 10},
	// Work in hand: what a few dozen jobs hold at one moment.
	messages: {factor: 1.2, atop: 500},
	subjects: {factor: 1.2, atop: 100},
	stored:   {factor: 1.2, atop: 1 << 20},
}

// grows are the streams that keep something of each job on purpose: bookings for
// ever, and a job's state for 30 days. They are told and not judged, but for their
// consumers.
var grows = []string{streamLedger, streamJobs}

// natsMemory is the NATS server's. It holds the block of a stream that it writes,
// up to 8 MB in a buffer that doubles as it grows, and two streams keep something of
// each job; and it indexes the subjects of what is kept for ever.
var natsMemory = map[string]bound{
	heap:     {factor: 1.25, atop: 8 << 20, perJob: 4 << 10},
	resident: {factor: 1.25, atop: 24 << 20, perJob: 24 << 10},
}

// growth is one series, judged.
type growth struct {
	key
	first, last, most float64 // medians of the first and the last third; the highest sample
	limit             float64 // for last; below 0 where it may grow
}

func (g growth) fails() bool { return g.limit >= 0 && g.last > g.limit }

// judge compares the thirds of every series.
func (s *samples) judge() []growth {
	from := int(float64(len(s.at)) * warmUp)
	third := (len(s.at) - from) / 3
	if third < 1 {
		return nil
	}
	first := func(v []float64) []float64 { return v[from : from+third] }
	last := func(v []float64) []float64 { return v[len(v)-third:] }
	ended := make([]float64, len(s.ended))
	for i, n := range s.ended {
		ended[i] = float64(n)
	}
	jobs := median(last(ended)) - median(first(ended))
	var found []growth
	for _, k := range s.keys() {
		v := s.values[k]
		g := growth{key: k, first: median(first(v)), last: median(last(v)), most: slices.Max(v), limit: -1}
		b, judged := bounds[k.what]
		if k.of == "nats-server" {
			if own, special := natsMemory[k.what]; special {
				b = own
			}
		}
		if judged && (k.what == consumers || !slices.Contains(grows, k.of)) {
			g.limit = g.first*b.factor + b.atop + jobs*b.perJob
		}
		found = append(found, g)
	}
	slices.SortStableFunc(found, func(a, b growth) int {
		return strings.Compare(rank(a.of), rank(b.of))
	})
	return found
}

// rank puts processes before streams.
func rank(of string) string {
	if of == strings.ToUpper(of) {
		return "1" + of
	}
	return "0" + of
}

func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}

func (g growth) String() string {
	return fmt.Sprintf("%s of %s grew from %s to %s, at most %s is let pass", g.what, g.of, amount(g.what, g.first), amount(g.what, g.last), amount(g.what, g.limit))
}
