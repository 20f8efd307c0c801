package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"time"
)

// sizes are how much each measurement does. A round is long enough for hundreds
// of synced writes, and short enough that both halves of a pair see the same
// machine.
type sizes struct {
	// rounds of the pairs that something is asked of, and of what is only shown.
	rounds, shown int
	// writes is the synced writes, publishes and items of one round of one job.
	writes int
	// staged is the items of a staged job, and the messages of the raw batches.
	staged int
	// tenJobs is the items of each of ten jobs; many is how many jobs a hundred are,
	// manyItems the items of each of those.
	tenJobs, many, manyItems int
	// slow is the items of each job of the sinks that take time.
	slow int
	// memory is the items of the job whose peak memory is measured.
	memory int
	// together are the numbers of jobs that run at once on a cluster, and paced how
	// long each of those runs takes where nothing slows it.
	together []int
	paced    time.Duration
}

var (
	full = sizes{
		rounds: 7, shown: 3, writes: 1_500, staged: 20_000, tenJobs: 300, many: 100, manyItems: 50, slow: 150, memory: 100_000,
		together: []int{25, 50, 100, 200, 500}, paced: 20 * time.Second,
	}
	// quick shows that everything runs, in about half a minute.
	quick = sizes{
		rounds: 3, shown: 1, writes: 300, staged: 4_000, tenJobs: 30, many: 100, manyItems: 3, slow: 30, memory: 2_000,
		together: []int{5, 10}, paced: time.Second,
	}
)

// Shares and bounds that are asked for.
const (
	askedStaging    = 0.70 // of the raw atomic batches of the same bytes
	askedProcessing = 0.80 // one job, of the raw synced publish of a record
	askedIdeal      = 0.75 // ten jobs with the slow sink, of jobs / handler time
	askedMemoryMB   = 120
)

// bench is one run.
type bench struct {
	dir      string
	sizes    sizes
	programs *programs // nil: memory is not measured
	profile  string    // file for a CPU profile, or empty
	quick    bool
	say      func(format string, args ...any)
}

// sayer tells a person who waits what is being measured.
func sayer(w io.Writer) func(string, ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(w, "%6s  %s\n", time.Since(began).Truncate(100*time.Millisecond), fmt.Sprintf(format, args...))
	}
}

func (b *bench) run(ctx context.Context) (*findings, error) {
	bed, err := newTestbed(ctx, filepath.Join(b.dir, "store"))
	if err != nil {
		return nil, err
	}
	found := &findings{Machine: describeMachine(b.dir, bed.conn), Quick: b.quick}
	err = b.measure(ctx, bed, found)
	if closeErr := bed.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	if err := b.measureMemory(ctx, found); err != nil {
		return nil, fmt.Errorf("measure the peak memory: %w", err)
	}
	found.Machine.LoadAfter = loadAverage()
	found.sort()
	return found, nil
}

func (b *bench) measure(ctx context.Context, bed *testbed, found *findings) error {
	for _, step := range []struct {
		what    string
		measure func(context.Context, *testbed, *findings) error
	}{
		{"the disk", b.measureDisk},
		{"staging, beside raw atomic batches", b.measureStaging},
		{"raw fetch and ack", b.measureFetch},
		{"processing, beside raw synced publishes", b.measureProcessing},
		{"processing with payloads and reports", b.measureReported},
	} {
		b.say("measuring %s", step.what)
		if err := step.measure(ctx, bed, found); err != nil {
			return fmt.Errorf("measure %s: %w", step.what, err)
		}
	}
	return nil
}

// profiled writes a CPU profile of what work does, if one is wanted.
func (b *bench) profiled(suffix string, work func() error) (err error) {
	if b.profile == "" {
		return work()
	}
	file, err := os.Create(b.profile + suffix)
	if err != nil {
		return fmt.Errorf("create the profile: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("start the profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return work()
}

// rates are things a second, round by round.
type rates []float64

func (r *rates) add(n int, took time.Duration) { *r = append(*r, float64(n)/took.Seconds()) }

// median of an even number is the mean of the middle two.
func (r rates) median() float64 {
	if len(r) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// sharesOf divides round by round: both halves of a round saw the same machine.
func (r rates) sharesOf(whole rates) rates {
	shares := make(rates, 0, len(r))
	for i := range min(len(r), len(whole)) {
		shares = append(shares, r[i]/whole[i])
	}
	return shares
}
