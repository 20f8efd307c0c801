package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerline/ledgerline/pkg/lag"
)

const (
	// maxJobSeries bounds the series by job: those with the most lag. An id is
	// never reused, so each job costs a scraper series of its own.
	maxJobSeries = 1_000
	// readTimeout bounds one reading, below scrapeTimeout: where NATS is away the
	// rest of the metrics still comes.
	readTimeout = 5 * time.Second
)

// Follow shows what reader tells of the whole installation, from now on.
func (s *Set) Follow(reader *lag.Reader) { s.installation.reader.Store(reader) }

// installation collects the gauges of the whole installation. They are made anew at
// each scrape, so that a job that has ended leaves no series.
type installation struct {
	reader   atomic.Pointer[lag.Reader]
	failures prometheus.Counter

	waiting, active, parked, parkedEvents, items, jobLag, jobDeadline, oldest *prometheus.Desc
}

func newInstallation() *installation {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &installation{
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "lag_read_failures_total",
			Help: "Scrapes that could not read the installation's figures and left them out.",
		}),
		waiting:      desc("jobs_waiting", "Sealed jobs that no worker has claimed. The same on every consumer: take max."),
		active:       desc("jobs_active", "Claimed jobs. The same on every consumer: take max."),
		parked:       desc("jobs_parked", "Parked jobs, which a person must look at. The same on every consumer: take max."),
		parkedEvents: desc("events_parked", "Parked events, which a person must look at. The same on every consumer: take max."),
		items:        desc("lag_items", "Items of sealed jobs that are not acked. The same on every consumer: take max."),
		jobLag:       desc("job_lag_items", "Items of one sealed job that are not acked; the 1,000 jobs with the most.", "job_id"),
		jobDeadline:  desc("job_deadline_seconds", "Seconds until Pleo gives a sealed job up, negative after that; the 1,000 jobs with the most lag.", "job_id"),
		oldest:       desc("oldest_job_age_seconds", "Time since the oldest job that has not ended was sealed; 0 without one. The same on every consumer: take max."),
	}
}

// Describe implements prometheus.Collector.
func (i *installation) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{i.waiting, i.active, i.parked, i.parkedEvents, i.items, i.jobLag, i.jobDeadline, i.oldest} {
		out <- d
	}
}

// Collect implements prometheus.Collector. It sends nothing where nobody follows the
// installation or it cannot be read.
func (i *installation) Collect(out chan<- prometheus.Metric) {
	reader := i.reader.Load()
	if reader == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	s, err := reader.Snapshot(ctx)
	if err != nil {
		i.failures.Inc()
		return
	}
	now := time.Now()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(i.waiting, float64(s.Waiting))
	gauge(i.active, float64(s.Active))
	gauge(i.parked, float64(s.Parked))
	gauge(i.parkedEvents, float64(s.ParkedEvents))
	gauge(i.items, float64(s.Items))
	gauge(i.oldest, s.OldestAge(now).Seconds())
	for _, job := range s.Jobs[:min(len(s.Jobs), maxJobSeries)] {
		gauge(i.jobLag, float64(job.Lag), job.ID.String())
		if !job.Deadline.IsZero() {
			gauge(i.jobDeadline, job.Deadline.Sub(now).Seconds(), job.ID.String())
		}
	}
}
