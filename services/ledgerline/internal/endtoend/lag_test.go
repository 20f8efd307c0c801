package endtoend

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/metrics/metricstest"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// shows makes a consumer's, or a fetcher's, figures readable.
func shows(set *metrics.Set) func(*consumer.Config) {
	return func(c *consumer.Config) { c.Metrics = set }
}

// figures waits until what set shows is as wanted, and returns it. Looks are apart
// by the age that a snapshot may have: sooner would show the same.
func (in *installation) figures(set *metrics.Set, wanted map[string]float64) map[string]float64 {
	in.t.Helper()
	ctx := in.bounded("")
	look := time.NewTicker(lag.MaxAge / 4)
	defer look.Stop()
	for {
		values := metricstest.Values(in.t, set.Handler())
		wrong := ""
		for name, want := range wanted {
			if got, shown := values[name]; !shown || got != want {
				wrong = name
			}
		}
		if wrong == "" {
			return values
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			in.t.Fatalf("%s is %v, must become %v; all: %v", wrong, values[wrong], wanted[wrong], values)
		}
	}
}

// The sink is held at chosen items: what the metrics then tell is what was counted
// by hand, on each consumer, and what the server's own monitoring tells. When the
// jobs have ended their series are gone.
func TestFiguresAreRightToTheItem(t *testing.T) {
	t.Parallel()
	const (
		first, heldAt = 250, 120 // more than a batch of anything
		second, third = 30, 7
		firstAcked    = heldAt - 1
		refusedItems  = 1
	)
	in := install(t, simulator.Config{Seed: 7, Companies: 2})
	held := in.gate()
	var a, b, c uuid.UUID
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		switch {
		case d.JobID == a.String() && d.Position == heldAt, d.JobID == b.String() && d.Position == 1:
			held.pass(ctx)
		case d.JobID == c.String() && d.Position == 1:
			return sink.Answer{Outcome: sink.Failed, FailureReason: "no"}
		}
		return bookedAs(d)
	}}
	atFetcher := metrics.New("fetcher", "test")
	in.fetcher(func(c *fetcher.Config) { c.Metrics = atFetcher })
	sets := []*metrics.Set{metrics.New("consumer", "test"), metrics.New("consumer", "test")}
	began := in.upstream.Now().Add(-time.Minute)
	company := in.upstream.Company(0)
	a = in.add(simulator.JobSpec{CompanyID: company, Items: items(first), CreatedAt: began})
	// It waits behind a, which is of the same company.
	c = in.add(simulator.JobSpec{CompanyID: company, Items: items(third), CreatedAt: began.Add(time.Second)})
	b = in.add(simulator.JobSpec{CompanyID: in.upstream.Company(1), Items: items(second), CreatedAt: began})
	in.publish(a, c, b)
	// An event is parked, and no job.
	in.publishRaw("", []byte("no JSON"))
	// Sealed, and nobody claims: the manifests' counts.
	before := metrics.New("consumer", "test")
	reader, err := lag.Open(in.bounded("the lag was not opened"), in.js)
	if err != nil {
		t.Fatal(err)
	}
	before.Follow(reader)
	in.figures(before, map[string]float64{
		"ledgerline_jobs_waiting": 3, "ledgerline_jobs_active": 0, "ledgerline_lag_items": first + second + third,
		"ledgerline_jobs_parked": 0, "ledgerline_events_parked": 1,
		`ledgerline_job_lag_items{job_id="` + a.String() + `"}`: first,
	})

	for _, set := range sets {
		in.consumer(to, shows(set))
	}
	lagOf := func(job uuid.UUID) string { return `ledgerline_job_lag_items{job_id="` + job.String() + `"}` }
	leftOf := func(job uuid.UUID) string {
		return `ledgerline_job_deadline_seconds{job_id="` + job.String() + `"}`
	}
	for _, set := range sets {
		values := in.figures(set, map[string]float64{
			"ledgerline_jobs_waiting": 1, "ledgerline_jobs_active": 2, "ledgerline_jobs_parked": 0,
			"ledgerline_lag_items": (first - firstAcked) + second + third,
			lagOf(a):               first - firstAcked, lagOf(b): second, lagOf(c): third,
		})
		// A job of the simulator lives an hour from its last report.
		for _, job := range []uuid.UUID{a, b, c} {
			if left := values[leftOf(job)]; left <= 0 || left > time.Hour.Seconds() {
				t.Errorf("job %s has %v s left", job, left)
			}
		}
		if age := values["ledgerline_oldest_job_age_seconds"]; age <= 0 || age > patience.Seconds() {
			t.Errorf("the oldest job is %v s old", age)
		}
	}
	in.agreesWithTheServer(map[uuid.UUID]uint64{a: first - firstAcked, b: second}, 3)

	held.open()
	in.ends(a, b, c)
	sum := map[string]float64{}
	for _, set := range sets {
		values := in.figures(set, map[string]float64{"ledgerline_jobs_waiting": 0, "ledgerline_jobs_active": 0, "ledgerline_lag_items": 0})
		for name, value := range values {
			sum[name] += value
			if strings.Contains(name, "job_id=") {
				t.Errorf("all jobs have ended, and %s is %v", name, value)
			}
		}
	}
	for name, value := range metricstest.Values(t, atFetcher.Handler()) {
		sum[name] += value
	}
	for name, want := range map[string]float64{
		`ledgerline_jobs_total{outcome="completed"}`:             2,
		`ledgerline_jobs_total{outcome="completed_with_errors"}`: 1,
		`ledgerline_jobs_total{outcome="parked"}`:                0,
		`ledgerline_items_total{outcome="booked"}`:               first + second + third - refusedItems,
		`ledgerline_items_total{outcome="failed"}`:               refusedItems,
		`ledgerline_sink_duration_seconds`:                       first + second + third,
		`ledgerline_events_parked_total`:                         1,
		`ledgerline_items_published_total`:                       first + second + third,
		`ledgerline_drain_duration_seconds`:                      3,
		`ledgerline_takeovers_total`:                             0,
		`ledgerline_stale_epochs_total`:                          0,
	} {
		if sum[name] != want {
			t.Errorf("%s is %v over all, must be %v", name, sum[name], want)
		}
	}
	for _, name := range []string{
		"ledgerline_report_duration_seconds", "ledgerline_pages_fetched_total",
	} {
		if sum[name] == 0 {
			t.Errorf("%s is 0", name)
		}
	}
}

// agreesWithTheServer compares the server's monitoring with what was counted: the
// figures of `nats consumer report` and of every JetStream exporter.
func (in *installation) agreesWithTheServer(lags map[uuid.UUID]uint64, manifests int) {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.bounded("the server's monitoring did not answer"), http.MethodGet,
		"http://"+in.server.MonitorAddr()+"/jsz?consumers=1&config=1", nil)
	if err != nil {
		in.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer answer.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var seen server.JSInfo
	if err := json.NewDecoder(answer.Body).Decode(&seen); err != nil {
		in.t.Fatal(err)
	}
	found := 0
	for _, account := range seen.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Name != subject.StreamPipe {
				continue
			}
			for _, c := range stream.Consumer {
				pending := c.NumPending + uint64(c.NumAckPending)
				meta := c.Config.Metadata
				switch meta[subject.MetadataRole] {
				case subject.RoleReady:
					found++
					if c.Name != subject.DurableConsumer || pending != uint64(manifests) {
						in.t.Errorf("%s has %d manifests, want %d", c.Name, pending, manifests)
					}
				case subject.RoleJob:
					found++
					job, err := subject.ParseID(meta[subject.MetadataJob])
					if err != nil || c.Name != subject.DurableJob(job) || meta[subject.MetadataCompany] == "" {
						in.t.Errorf("%s says of itself %v", c.Name, meta)
					}
					if want, ours := lags[job]; !ours || pending != want {
						in.t.Errorf("the server says that job %s has a lag of %d, counted were %d", job, pending, want)
					}
				}
			}
		}
	}
	if found != len(lags)+1 {
		in.t.Errorf("the server tells of %d consumers of ours, want %d", found, len(lags)+1)
	}
}

// What a worker's trouble shows in: takeovers, retries, refusals, stale epochs.
func TestTroubleIsCounted(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 8, Companies: 2})
	in.fetcher()
	first, second := metrics.New("consumer", "test"), metrics.New("consumer", "test")
	held := in.gate()
	refused, stale := false, false
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		switch {
		case d.Position == 1 && d.Attempt == 1:
			return sink.Answer{Outcome: sink.Retry, RetryAfter: time.Millisecond}
		case d.Position == 2 && !refused:
			refused = true
			return sink.Answer{Outcome: sink.Refused, RetryAfter: time.Millisecond}
		case d.Position == 3 && d.Epoch == 1:
			held.pass(ctx)
		case d.Position == 4 && !stale:
			stale = true
			return sink.Answer{Outcome: sink.Stale}
		}
		return bookedAs(d)
	}}
	job := in.add(simulator.JobSpec{Items: items(5)})
	dying := in.consumer(to, shows(first))
	in.publish(job)
	in.wait(held, "the third item")
	in.consumer(to, shows(second))
	dying.die()
	in.completes(job)
	values := metricstest.Values(t, first.Handler())
	for name, want := range map[string]float64{
		"ledgerline_item_retries_total": 2, "ledgerline_sink_refusals_total": 1, "ledgerline_takeovers_total": 0,
	} {
		if values[name] != want {
			t.Errorf("the first worker: %s is %v, must be %v", name, values[name], want)
		}
	}
	values = metricstest.Values(t, second.Handler())
	for name, want := range map[string]float64{
		// The dead worker's, and after the stale epoch its own again.
		"ledgerline_takeovers_total": 2, "ledgerline_stale_epochs_total": 1,
		`ledgerline_jobs_total{outcome="completed"}`: 1,
	} {
		if values[name] != want {
			t.Errorf("the second worker: %s is %v, must be %v", name, values[name], want)
		}
	}
}
