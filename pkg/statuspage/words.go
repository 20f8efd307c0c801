package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// count writes 12345 as 12,345.
func count[N ~int | ~uint32 | ~uint64](n N) string {
	digits := strconv.FormatUint(uint64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// countOf is "1 item" or "12,345 items".
func countOf[N ~int | ~uint32 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// span is a duration in its largest units, coarse, so that a page on which
// nothing happens does not change each second.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 24*time.Hour:
		if m := int(d/time.Minute) % 60; d < 6*time.Hour && m > 0 {
			return fmt.Sprintf("%d h %d min", int(d/time.Hour), m)
		}
		return strconv.Itoa(int(d/time.Hour)) + " h"
	default:
		return countOf(int(d/(24*time.Hour)), "day")
	}
}

func ago(d time.Duration) string {
	if d < time.Minute {
		return "just now"
	}
	return span(d) + " ago"
}

// clock is the time of day, in the one zone that the logs have too.
func clock(t time.Time) string { return t.UTC().Format("15:04") + " UTC" }

// machine is a time for the datetime attribute.
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// rate is items a second with two leading digits.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 10:
		return count(uint64(math.Round(perSecond))) + "/s"
	case perSecond >= 0.1:
		return strconv.FormatFloat(perSecond, 'f', 1, 64) + "/s"
	default:
		return strconv.FormatFloat(perSecond*60, 'f', 1, 64) + "/min"
	}
}

// clip cuts a text for the page; the commands show the whole of it.
func clip(s string) string {
	const maxText = 600 // some eight lines on a phone
	runes := 0
	for i := range s {
		if runes == maxText {
			return s[:i] + "…"
		}
		runes++
	}
	return s
}

// shortSpan is span for a figure.
func shortSpan(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
}
