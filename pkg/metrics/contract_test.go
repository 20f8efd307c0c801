package metrics_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/lag"
	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/metrics/metricstest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

const (
	gauge     = dto.MetricType_GAUGE
	counter   = dto.MetricType_COUNTER
	histogram = dto.MetricType_HISTOGRAM
)

type shape struct {
	kind   dto.MetricType
	labels string
}

// contract is section 10 of the outside contract, and below it what we show beside.
var contract = map[string]shape{
	"ledgerline_jobs_waiting":            {gauge, ""},
	"ledgerline_jobs_active":             {gauge, ""},
	"ledgerline_jobs_parked":             {gauge, ""},
	"ledgerline_lag_items":               {gauge, ""},
	"ledgerline_job_lag_items":           {gauge, "job_id"},
	"ledgerline_job_deadline_seconds":    {gauge, "job_id"},
	"ledgerline_oldest_job_age_seconds":  {gauge, ""},
	"ledgerline_jobs_total":              {counter, "outcome"},
	"ledgerline_events_parked_total":     {counter, ""},
	"ledgerline_items_total":             {counter, "outcome"},
	"ledgerline_item_retries_total":      {counter, ""},
	"ledgerline_takeovers_total":         {counter, ""},
	"ledgerline_stale_epochs_total":      {counter, ""},
	"ledgerline_sink_duration_seconds":   {histogram, ""},
	"ledgerline_drain_duration_seconds":  {histogram, ""},
	"ledgerline_report_duration_seconds": {histogram, ""},
	"ledgerline_pleo_requests_total":     {counter, "code,operation"},
	"ledgerline_pages_fetched_total":     {counter, ""},
	"ledgerline_items_published_total":   {counter, ""},

	// For the alerts and the dashboard.
	"ledgerline_events_parked":           {gauge, ""},
	"ledgerline_sink_refusals_total":     {counter, ""},
	"ledgerline_jobs_short_of_time":      {gauge, ""},
	"ledgerline_lag_read_failures_total": {counter, ""},
	"ledgerline_build_info":              {gauge, "go_version,program,version"},
}

// outcomes are there from the start, so that a rate sees the first of each.
var outcomes = map[string][]string{
	"ledgerline_jobs_total":  {"cancelled", "completed", "completed_with_errors", "failed", "parked"},
	"ledgerline_items_total": {"already_booked", "booked", "failed"},
}

func TestNamesTypesAndLabelsAreTheContracts(t *testing.T) {
	t.Parallel()
	set := metrics.New("consumer", "v0")
	set.Follow(follow(t, 3))
	set.PleoCalled(pleo.Call{Operation: pleo.OpGetJob, Code: "200"})

	families := metricstest.Families(t, set.Handler())
	for name, want := range contract {
		family := families[name]
		if family == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		var names []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		slices.Sort(names)
		if got := (shape{family.GetType(), strings.Join(names, ",")}); got != want {
			t.Errorf("%s is %v, must be %v", name, got, want)
		}
	}
	for name := range families {
		_, known := contract[name]
		standard := strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
		if !known && !standard {
			t.Errorf("%s is not in the contract", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for name, want := range outcomes {
		var got []string
		for _, m := range families[name].GetMetric() {
			got = append(got, m.GetLabel()[0].GetValue())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has the outcomes %v, must have %v", name, got, want)
		}
	}
}

var documentRow = regexp.MustCompile("(?m)^\\| `(ledgerline_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

// docs/metrics.md has the same table.
func TestTheDocumentNamesEachMetric(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]shape{}
	for _, row := range documentRow.FindAllStringSubmatch(string(document), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		kind := dto.MetricType(dto.MetricType_value[strings.ToUpper(row[2])])
		documented[row[1]] = shape{kind, strings.Join(labels, ",")}
	}
	if !maps.Equal(documented, contract) {
		for name, want := range contract {
			if documented[name] != want {
				t.Errorf("%s stands there as %v, is %v", name, documented[name], want)
			}
		}
		for name := range documented {
			if _, known := contract[name]; !known {
				t.Errorf("%s stands there and is none", name)
			}
		}
	}
}

// Of more jobs than the bound only those with the most lag have series.
func TestOnlyTheThousandJobsWithTheMostLagHaveSeries(t *testing.T) {
	t.Parallel()
	const jobs, most = 1_010, 1_000
	set := metrics.New("consumer", "v0")
	set.Follow(follow(t, jobs))
	values := metricstest.Values(t, set.Handler())
	var lags []float64
	for name := range maps.Keys(values) {
		if strings.HasPrefix(name, "ledgerline_job_lag_items{") {
			lags = append(lags, values[name])
		}
	}
	slices.Sort(lags)
	if len(lags) != most || lags[0] != jobs-most+1 || lags[most-1] != jobs {
		t.Errorf("%d jobs have a series, from %v to %v items", len(lags), lags[0], lags[len(lags)-1])
	}
	if got := values["ledgerline_lag_items"]; got != jobs*(jobs+1)/2 {
		t.Errorf("all jobs have %v items", got)
	}
}

// follow gives a reader of an installation in which n sealed jobs wait, with 1 to n
// items.
func follow(t *testing.T, n int) *lag.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	js := natstest.Start(t).JetStream(t)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := uuid.New()
		data, err := proto.Marshal(&ledgerlinev1.Manifest{
			JobId: id.String(), CompanyId: uuid.NewString(), Run: 1, Count: uint32(i + 1), Attempt: "drain",
			SealedAt: timestamppb.Now(), Deadline: timestamppb.New(time.Now().Add(time.Hour)),
		})
		if err == nil {
			_, err = js.Publish(ctx, subject.Ready(id), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	reader, err := lag.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

// Where the installation cannot be read its gauges are left out, and that is
// counted; the process's own figures stay.
func TestFiguresThatCannotBeReadAreLeftOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	srv := natstest.Start(t)
	js := srv.JetStream(t)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	reader, err := lag.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	set := metrics.New("consumer", "v0")
	set.Follow(reader)
	if err := js.DeleteStream(ctx, subject.StreamPipe); err != nil {
		t.Fatal(err)
	}
	set.Takeovers.Inc()
	for scrape := range 2 {
		values := metricstest.Values(t, set.Handler())
		if _, shown := values["ledgerline_lag_items"]; shown || values["ledgerline_takeovers_total"] != 1 {
			t.Errorf("%v", values)
		}
		// The counter may be collected before the reading that it counts.
		if failures := values["ledgerline_lag_read_failures_total"]; int(failures) < scrape {
			t.Errorf("%v failures after %d scrapes", failures, scrape)
		}
	}
}
