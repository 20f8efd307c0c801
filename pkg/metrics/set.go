package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

const (
	namespace = "ledgerline"
	// maxScrapes bounds the scrapes that run at a time; the installation's figures
	// are read once for all of them.
	maxScrapes = 8
	// scrapeTimeout is below a scraper's usual ten seconds.
	scrapeTimeout = 8 * time.Second
)

// Buckets, in seconds.
var (
	// A call: from a local sink's millisecond to the longest time-out that is usual.
	callSeconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	// A drain: from one page to a job's usual hour, since Pleo's rate bounds it.
	drainSeconds = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 150, 300, 900, 1800, 3600}
)

// Set is the metrics of one process. All fields may be used at any time by any
// number of goroutines.
type Set struct {
	registry     *prometheus.Registry
	installation *installation

	jobs         *prometheus.CounterVec
	items        *prometheus.CounterVec
	pleoRequests *prometheus.CounterVec

	// EventsParked counts events that were parked as events.
	EventsParked prometheus.Counter
	// ItemRetries counts sends of an item after its first in this process's tenure.
	ItemRetries prometheus.Counter
	// Takeovers counts claims of a run that another claim had begun.
	Takeovers prometheus.Counter
	// StaleEpochs counts answers of the sink that this worker was presumed dead.
	StaleEpochs prometheus.Counter
	// SinkRefusals counts answers by which the sink refuses us, not an item.
	SinkRefusals prometheus.Counter
	// JobsShortOfTime are jobs of this process that at their present rate need more
	// time than is left.
	JobsShortOfTime prometheus.Gauge
	// SinkDuration is one transmission; DrainDuration one whole drain of a job;
	// ReportDuration one update at Pleo with its retries.
	SinkDuration, DrainDuration, ReportDuration prometheus.Observer
	// PagesFetched counts pages of items and of payloads; ItemsPublished the items
	// that were staged.
	PagesFetched, ItemsPublished prometheus.Counter
}

// New is the set of a process; program is its name, such as "consumer".
func New(program, version string) *Set {
	s := &Set{registry: prometheus.NewRegistry(), installation: newInstallation()}
	s.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		s.installation, s.installation.failures,
	)
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, by what runs here.",
	}, []string{"program", "version", "go_version"})
	build.WithLabelValues(program, version, runtime.Version()).Set(1)
	s.registry.MustRegister(build)

	s.jobs = s.counters("jobs_total", "Jobs that ended in this process, by outcome.", "outcome")
	for phase := range ledgerlinev1.JobPhase_name {
		if ledger.Final(ledgerlinev1.JobPhase(phase)) {
			s.jobs.WithLabelValues(jobstate.PhaseName(ledgerlinev1.JobPhase(phase)))
		}
	}
	s.items = s.counters("items_total", "Items settled by this process, by outcome.", "outcome")
	for _, outcome := range outcomes {
		s.items.WithLabelValues(outcome)
	}
	s.pleoRequests = s.counters("pleo_requests_total",
		"Requests to Pleo, by operation and by HTTP status, or timeout, connection, invalid, canceled.", "operation", "code")

	s.EventsParked = s.counter("events_parked_total", "Job-started events parked by this process.")
	s.ItemRetries = s.counter("item_retries_total", "Items sent again in place, after an answer that may pass.")
	s.Takeovers = s.counter("takeovers_total", "Jobs claimed by this process that another claim had begun.")
	s.StaleEpochs = s.counter("stale_epochs_total", "Jobs dropped because the sink knows a newer worker.")
	s.SinkRefusals = s.counter("sink_refusals_total", "Answers by which the sink refuses Ledgerline, not an item: 401, 403 and the unexpected.")
	s.PagesFetched = s.counter("pages_fetched_total", "Pages of items and payloads read in drains.")
	s.ItemsPublished = s.counter("items_published_total", "Items stored for their job, sealed or not.")
	s.JobsShortOfTime = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "jobs_short_of_time",
		Help: "Jobs of this process that at their present rate need more time than is left to their deadline.",
	})
	s.registry.MustRegister(s.JobsShortOfTime)
	s.SinkDuration = s.histogram("sink_duration_seconds", "One transmission of one item to the sink.", callSeconds)
	s.DrainDuration = s.histogram("drain_duration_seconds", "One whole drain of a job.", drainSeconds)
	s.ReportDuration = s.histogram("report_duration_seconds", "One report of results to Pleo, with its retries.", callSeconds)
	return s
}

func (s *Set) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	s.registry.MustRegister(c)
	return c
}

func (s *Set) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	s.registry.MustRegister(c)
	return c
}

func (s *Set) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	s.registry.MustRegister(h)
	return h
}

// OrNew is s, or a set that nobody reads where s is nil: who counts need not ask.
func OrNew(s *Set) *Set {
	if s != nil {
		return s
	}
	return New("", "")
}

// Handler answers a scrape.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		Registry: s.registry, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
		// One collector's trouble must not take the others' figures away.
		ErrorHandling: promhttp.ContinueOnError,
	})
}

// JobEnded counts the end of a job; phases that end no job count nothing.
func (s *Set) JobEnded(phase ledgerlinev1.JobPhase) {
	if ledger.Final(phase) {
		s.jobs.WithLabelValues(jobstate.PhaseName(phase)).Inc()
	}
}

// outcomes are the label's values.
var outcomes = map[ledgerlinev1.Outcome]string{
	ledgerlinev1.Outcome_OUTCOME_BOOKED:         "booked",
	ledgerlinev1.Outcome_OUTCOME_ALREADY_BOOKED: "already_booked",
	ledgerlinev1.Outcome_OUTCOME_FAILED:         "failed",
}

// ItemSettled counts an item whose settlement is recorded.
func (s *Set) ItemSettled(outcome ledgerlinev1.Outcome) {
	if name, known := outcomes[outcome]; known {
		s.items.WithLabelValues(name).Inc()
	}
}

// PleoCalled counts one request; it is what a Pleo client's Observe wants.
func (s *Set) PleoCalled(call pleo.Call) {
	s.pleoRequests.WithLabelValues(string(call.Operation), call.Code).Inc()
}
