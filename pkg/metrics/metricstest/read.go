package metricstest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Families are what handler shows, by name.
func Families(t testing.TB, handler http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", answer.Code, answer.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// Values are what handler shows of Ledgerline: each series by its name and labels,
// such as `ledgerline_items_total{outcome="booked"}`; of a histogram, its count.
func Values(t testing.TB, handler http.Handler) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for name, family := range Families(t, handler) {
		if !strings.HasPrefix(name, "ledgerline_") {
			continue
		}
		for _, m := range family.GetMetric() {
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				value = float64(h.GetSampleCount())
			}
			values[name+labels(m.GetLabel())] = value
		}
	}
	return values
}

func labels(pairs []*dto.LabelPair) string {
	if len(pairs) == 0 {
		return ""
	}
	var texts []string
	for _, p := range pairs {
		texts = append(texts, fmt.Sprintf("%s=%q", p.GetName(), p.GetValue()))
	}
	slices.Sort(texts)
	return "{" + strings.Join(texts, ",") + "}"
}
