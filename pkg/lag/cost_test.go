package lag_test

import (
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/lag"
)

const (
	manyJobs = 1_000
	// scrapeLimit is what a scrape of manyJobs may cost.
	scrapeLimit = 50 * time.Millisecond
	// costPatience is how long scrapes are tried: the quickest is what it costs, the
	// others had to wait for a processor.
	costPatience = 90 * time.Second
)

// A thousand claimed jobs: the sums are right and a scrape is cheap.
func TestAScrapeOfAThousandJobsIsCheap(t *testing.T) {
	t.Parallel()
	if slowness > 1 {
		t.Skip("the race detector's cost is not the scrape's")
	}
	b := newBench(t)
	for range manyJobs {
		j := b.seal(2, time.Now())
		b.serve(j)
	}
	r, err := lag.Open(b.ctx, b.js)
	must(t, err)
	quickest := time.Hour
	for until := time.Now().Add(costPatience); quickest > scrapeLimit && time.Now().Before(until); {
		r.Expire()
		began := time.Now()
		s, err := r.Snapshot(b.ctx)
		took := time.Since(began)
		must(t, err)
		if s.Active != manyJobs || s.Items != 2*manyJobs || len(s.Jobs) != manyJobs {
			t.Fatalf("%d active, %d items, %d jobs", s.Active, s.Items, len(s.Jobs))
		}
		quickest = min(quickest, took)
	}
	t.Logf("%d jobs in %s", manyJobs, quickest)
	if quickest > scrapeLimit {
		t.Errorf("the quickest scrape in %s took %s, may take %s", costPatience, quickest, scrapeLimit)
	}
}
