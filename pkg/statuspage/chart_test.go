package statuspage

import (
	"strings"
	"testing"
	"time"
)

func TestTheChartIsTheLastHour(t *testing.T) {
	t.Parallel()
	var r ring
	if c := chartOf(&r); c.Line != "" || c.Text != "No figure yet." {
		t.Errorf("an empty chart: %+v", c)
	}
	now := time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC)
	// Two hours: the first is forgotten, and the ring does not grow.
	for i := range 2 * maxSamples {
		at := now.Add(time.Duration(i) * sampleInterval)
		if !r.due(at) || r.due(at.Add(-time.Second)) && i > 0 {
			t.Fatalf("sample %d is not due when it is", i)
		}
		items := uint64(9_999)
		switch {
		case i >= maxSamples+100 && i < maxSamples+110:
			items = 1_900
		case i >= maxSamples:
			items = 500
		}
		// NATS was away for a minute.
		r.add(sample{at: at, items: items, known: i < maxSamples+200 || i >= maxSamples+206})
	}
	c := chartOf(&r)
	if c.Text != "500 items now, at most 1,900, 43 min ago." || c.Top != "2,000" || c.Half != "1,000" || c.Since != "" {
		t.Errorf("%+v", c)
	}
	if moves := strings.Count(c.Line, "M"); moves != 2 || strings.Count(c.Area, "Z") != 2 {
		t.Errorf("a gap makes two lines: %s", c.Line)
	}
	if !strings.HasPrefix(c.Line, "M1.0 90.0") || !strings.HasSuffix(c.Line, "L360.0 90.0") || !strings.Contains(c.Line, "L101.0 6.0") {
		t.Errorf("the line is %s", c.Line)
	}
}

func TestAYoungProcessSaysSinceWhen(t *testing.T) {
	t.Parallel()
	var r ring
	r.add(sample{at: time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC), known: true})
	if c := chartOf(&r); c.Since != "12:00 UTC" || c.Text != "Nothing waited." {
		t.Errorf("%+v", c)
	}
}

func TestScales(t *testing.T) {
	t.Parallel()
	for highest, want := range map[uint64]uint64{0: 10, 7: 10, 10: 10, 11: 12, 99: 100, 100: 100, 101: 120, 4_180: 5_000, 6_001: 8_000, 1_000_001: 1_200_000} {
		if got := scale(highest); got != want {
			t.Errorf("scale(%d) = %d, want %d", highest, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{count(0), "0"}, {count(999), "999"}, {count(1_000), "1,000"}, {count(1_234_567), "1,234,567"},
		{countOf(1, "job"), "1 job"}, {countOf(2_000, "job"), "2,000 jobs"},
		{span(-time.Second), "less than a minute"}, {span(59 * time.Second), "less than a minute"}, {span(61 * time.Second), "1 min"},
		{span(61 * time.Minute), "1 h 1 min"}, {span(2 * time.Hour), "2 h"}, {span(7*time.Hour + 5*time.Minute), "7 h"}, {span(49 * time.Hour), "2 days"},
		{ago(3 * time.Second), "just now"}, {ago(time.Hour), "1 h ago"},
		{shortSpan(5 * time.Second), "5 s"}, {shortSpan(5 * time.Minute), "5 min"}, {shortSpan(47 * time.Hour), "47 h"}, {shortSpan(72 * time.Hour), "3 days"},
		{rate(1_234.4), "1,234/s"}, {rate(3.14), "3.1/s"}, {rate(0.05), "3.0/min"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
	if long := clip(strings.Repeat("ä", 601)); long != strings.Repeat("ä", 600)+"…" {
		t.Errorf("clipped to %d bytes", len(long))
	}
}
