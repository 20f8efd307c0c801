package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// chartWidth and chartHeight are the chart's own units: one a sample, and
	// enough for a step of one pixel on a large screen. The page stretches them.
	chartWidth  = maxSamples
	chartHeight = 120
	// joined is how far two samples may be apart and still make one line.
	joined = 3 * sampleInterval
)

// chart is the lag of the last hour as the template draws it.
type chart struct {
	// Line and Area are paths; empty where nothing is known yet.
	Line, Area    string
	Width, Height int
	// Top, Half are the labels of the scale.
	Top, Half string
	// Text says the same in words.
	Text string
	// Since is set while the process is younger than the chart.
	Since string
}

// chartOf draws the ring. Its right edge is the newest sample and not this moment,
// so that a page on which nothing happens stays the same between samples.
func chartOf(r *ring) chart {
	c := chart{Width: chartWidth, Height: chartHeight}
	now := r.newest()
	from := now.Add(-chartSpan)
	var highest uint64
	var highestAt, first time.Time
	var last sample
	r.each(from, func(s sample) {
		if !s.known {
			return
		}
		if first.IsZero() {
			first = s.at
		}
		if s.items > highest || highestAt.IsZero() {
			highest, highestAt = s.items, s.at
		}
		last = s
	})
	top := scale(highest)
	c.Top, c.Half = count(top), count(top/2)
	if first.IsZero() {
		c.Text = "No figure yet."
		return c
	}
	x := func(at time.Time) string {
		return strconv.FormatFloat(at.Sub(from).Seconds()/sampleInterval.Seconds(), 'f', 1, 64)
	}
	y := func(items uint64) string {
		return strconv.FormatFloat(chartHeight-float64(items)/float64(top)*chartHeight, 'f', 1, 64)
	}
	var line, area strings.Builder
	var before sample
	closeArea := func() {
		if before.known {
			fmt.Fprintf(&area, "L%s %dZ", x(before.at), chartHeight)
		}
	}
	r.each(from, func(s sample) {
		switch {
		case !s.known:
			closeArea()
		case before.known && s.at.Sub(before.at) <= joined:
			fmt.Fprintf(&line, "L%s %s", x(s.at), y(s.items))
			fmt.Fprintf(&area, "L%s %s", x(s.at), y(s.items))
		default:
			closeArea()
			fmt.Fprintf(&line, "M%s %sh.1", x(s.at), y(s.items)) // a lone sample shows as a dot
			fmt.Fprintf(&area, "M%s %dV%s", x(s.at), chartHeight, y(s.items))
		}
		before = s
	})
	closeArea()
	c.Line, c.Area = line.String(), area.String()
	if highest == 0 {
		c.Text = "Nothing waited."
	} else {
		c.Text = fmt.Sprintf("%s now, at most %s, %s.", countOf(last.items, "item"), count(highest), ago(now.Sub(highestAt)))
	}
	if first.Sub(from) > 2*sampleInterval {
		c.Since = clock(first)
	}
	return c
}

// scale is the top of the scale: an even number with one or two leading digits
// that is not below the highest figure.
func scale(highest uint64) uint64 {
	if highest <= 10 {
		return 10
	}
	unit := math.Pow(10, math.Floor(math.Log10(float64(highest))))
	for _, step := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10} {
		if top := uint64(step * unit); top >= highest {
			return top
		}
	}
	return highest
}
