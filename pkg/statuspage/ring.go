package statuspage

import "time"

const (
	// chartSpan is what the chart shows.
	chartSpan = time.Hour
	// sampleInterval is how far its samples are apart: finer ones would not show
	// on a phone, whose chart is some 360 points wide.
	sampleInterval = 10 * time.Second
	// maxSamples bounds the ring.
	maxSamples = int(chartSpan / sampleInterval)
)

// sample is the lag at one moment; known is false where it could not be read.
type sample struct {
	at    time.Time
	items uint64
	known bool
}

// ring keeps the samples of the last hour, in the memory of this process.
type ring struct {
	samples [maxSamples]sample
	next    int
	count   int
}

func (r *ring) add(s sample) {
	r.samples[r.next] = s
	r.next = (r.next + 1) % maxSamples
	r.count = min(r.count+1, maxSamples)
}

// correct gives the newest sample a newer figure, so that the line ends where the
// page's figure is.
func (r *ring) correct(items uint64) {
	last := &r.samples[(r.next+maxSamples-1)%maxSamples]
	last.items, last.known = items, true
}

// due tells whether the next sample is to be taken.
func (r *ring) due(now time.Time) bool { return now.Sub(r.newest()) >= sampleInterval }

// newest is when the last sample was taken; zero before the first.
func (r *ring) newest() time.Time { return r.samples[(r.next+maxSamples-1)%maxSamples].at }

// each visits the samples since a time, oldest first.
func (r *ring) each(since time.Time, visit func(sample)) {
	for i := range r.count {
		s := r.samples[(r.next+maxSamples-r.count+i)%maxSamples]
		if !s.at.Before(since) {
			visit(s)
		}
	}
}
