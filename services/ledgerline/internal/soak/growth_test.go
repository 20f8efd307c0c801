package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// simulated is a run of an hour in which one thing behaves as value says, by the
// number of jobs that have ended, one a second.
func simulated(k key, value func(jobs int) float64) *findings {
	s := newSamples()
	for i := range wantedSamples {
		jobs := i * 15
		s.add(time.Duration(jobs)*time.Second, jobs, map[key]float64{k: value(jobs)})
	}
	return &findings{samples: s, ended: 3600}
}

// A leak at each tenth job is found in an hour, whatever leaks; what is level, or
// was high at the start only, is let pass.
func TestGrowthIsFound(t *testing.T) {
	t.Parallel()
	level := map[string]float64{
		goroutines: 60, openFiles: 25, series: 200, consumers: 3, messages: 40, subjects: 5,
		heap: 8 << 20, resident: 40 << 20, stored: 1 << 20,
	}
	leak := map[string]float64{
		goroutines: 0.1, openFiles: 0.1, series: 0.1, consumers: 0.1, messages: 1, subjects: 0.1,
		heap: 4 << 10, resident: 12 << 10, stored: 1 << 10,
	}
	for what, of := range map[string]string{
		goroutines: "fetcher", openFiles: "gateway", series: "consumer-1", heap: "consumer-2", resident: "fetcher",
		consumers: streamPipe, messages: streamPipe, subjects: streamPipe, stored: streamEvents,
	} {
		k := key{of, what}
		flat := simulated(k, func(jobs int) float64 { return level[what] * (1 + float64(jobs%7)/100) })
		if err := flat.verdict(); err != nil {
			t.Errorf("%s of %s is level: %v", what, of, err)
		}
		early := simulated(k, func(jobs int) float64 {
			if jobs < 300 {
				return 3 * level[what]
			}
			return level[what]
		})
		if err := early.verdict(); err != nil {
			t.Errorf("%s of %s was high while it warmed up: %v", what, of, err)
		}
		grows := simulated(k, func(jobs int) float64 { return level[what] + leak[what]*float64(jobs) })
		if err := grows.verdict(); err == nil || !strings.Contains(err.Error(), what+" of "+of+" grew from ") {
			t.Errorf("%s of %s grows by %g a job: %v", what, of, leak[what], err)
		}
	}
}

// Bookings and states are kept on purpose; the consumers of their streams are not.
func TestWhatIsKeptOnPurposeMayGrow(t *testing.T) {
	t.Parallel()
	for _, stream := range grows {
		for _, what := range []string{messages, subjects, stored} {
			f := simulated(key{stream, what}, func(jobs int) float64 { return 1000 * float64(jobs) })
			if err := f.verdict(); err != nil {
				t.Errorf("%s of %s: %v", what, stream, err)
			}
		}
		f := simulated(key{stream, consumers}, func(jobs int) float64 { return 0.1 * float64(jobs) })
		if f.verdict() == nil {
			t.Errorf("consumers of %s may grow", stream)
		}
	}
}

// What is left after the last job, a bad end of a job, and a run in which nothing
// happened fail too.
func TestOtherFailuresShow(t *testing.T) {
	t.Parallel()
	good := func() *findings { return simulated(key{"fetcher", goroutines}, func(int) float64 { return 5 }) }
	for name, f := range map[string]*findings{"left": good(), "problem": good(), "no job": good(), "no samples": {samples: newSamples(), ended: 1}} {
		switch name {
		case "left":
			f.left = []string{"LEDGERLINE_PIPE holds 3 messages, want at most 0"}
		case "problem":
			f.problems = []string{"job x: 1 items were sent twice"}
		case "no job":
			f.ended = 0
		}
		if f.verdict() == nil {
			t.Errorf("%s: let pass", name)
		}
	}
}

func TestTableAndSamples(t *testing.T) {
	t.Parallel()
	f := simulated(key{"fetcher", goroutines}, func(jobs int) float64 { return 5 + float64(jobs) })
	f.shares = []string{"fetcher 0.5 %"}
	var table bytes.Buffer
	if err := f.print(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "GREW") || !strings.Contains(table.String(), "fetcher 0.5 %") {
		t.Errorf("the table:\n%s", &table)
	}
	path := filepath.Join(t.TempDir(), "samples.csv")
	if err := f.samples.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines != wantedSamples+1 || !bytes.HasPrefix(text, []byte("seconds,jobs ended,fetcher goroutines\n0.0,0,5\n")) {
		t.Errorf("%d lines of samples: %.200s", lines, text)
	}
}

// A stream that comes in the middle of a run has been empty before.
func TestALateStreamWasEmptyBefore(t *testing.T) {
	t.Parallel()
	s := newSamples()
	s.add(0, 0, map[key]float64{{"a", messages}: 1})
	s.add(1, 1, map[key]float64{{"a", messages}: 1, {"b", messages}: 2})
	s.add(2, 2, map[key]float64{{"b", messages}: 3})
	if got := s.values[key{"b", messages}]; len(got) != 3 || got[0] != 0 || got[2] != 3 {
		t.Errorf("late: %v", got)
	}
	if got := s.values[key{"a", messages}]; len(got) != 3 || got[2] != 0 {
		t.Errorf("gone: %v", got)
	}
}

func TestReadsTheFiguresOfOthers(t *testing.T) {
	t.Parallel()
	text := []byte("# HELP go_goroutines x\ngo_goroutines 17\ngo_memstats_heap_alloc_bytes 1.5e+06\nVmRSS:\t   2048 kB\n# HeapAlloc = 99\n")
	for prefix, want := range map[string]float64{"go_goroutines ": 17, "go_memstats_heap_alloc_bytes ": 1.5e6, "VmRSS:": 2048, "# HeapAlloc = ": 99} {
		if got, err := after(text, prefix); err != nil || got != want {
			t.Errorf("%q: %g %v", prefix, got, err)
		}
	}
	for _, prefix := range []string{"missing ", "# HELP go_goroutines "} {
		if _, err := after(text, prefix); err == nil {
			t.Errorf("%q is told", prefix)
		}
	}
}

func TestOptionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, o := range []options{{Minutes: 0, Rate: 1, Items: 1}, {Minutes: 1, Rate: 0, Items: 1}, {Minutes: 1, Rate: 1}, {Minutes: 1, Rate: 1, Items: mostItems + 1}} {
		if o.validate() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if err := (&options{Minutes: 60, Rate: 1, Items: 10}).validate(); err != nil {
		t.Error(err)
	}
}
