package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	alertRules = "deploy/prometheus/ledgerline.rules.yml"
	alertTests = "deploy/prometheus/tests/ledgerline.test.yml"
	runbook    = "docs/runbook.md"
	// runbookURL is where an alert's link leads: the runbook's section of its name.
	runbookURL = "https://github.com/ledgerline/ledgerline/blob/main/" + runbook + "#"
)

type alert struct {
	Alert       string            `yaml:"alert"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(read(t, alertRules)), &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

var alertSection = regexp.MustCompile(`(?m)^## (Ledgerline\w+)$`)

// Each alert has a section in the runbook, to which it links, and each section has
// its alert.
func TestEachAlertHasItsSectionInTheRunbook(t *testing.T) {
	t.Parallel()
	sections := map[string]bool{}
	for _, heading := range alertSection.FindAllStringSubmatch(read(t, runbook), -1) {
		sections[heading[1]] = true
	}
	for _, a := range alerts(t) {
		if !sections[a.Alert] {
			t.Errorf("%s has no section %q in %s", a.Alert, "## "+a.Alert, runbook)
		}
		delete(sections, a.Alert)
		if want := runbookURL + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s links to %q, not to %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if a.Annotations["summary"] == "" || !slices.Contains([]string{"warning", "critical"}, a.Labels["severity"]) {
			t.Errorf("%s has the summary %q and the severity %q", a.Alert, a.Annotations["summary"], a.Labels["severity"])
		}
	}
	for name := range sections {
		t.Errorf("%s has a section for %s, which is no alert", runbook, name)
	}
}

// The runbook's links to its own sections lead somewhere.
func TestTheRunbooksSectionsExist(t *testing.T) {
	t.Parallel()
	text := read(t, runbook)
	for _, to := range regexp.MustCompile(`\]\(#([a-z]+)\)`).FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(alertSection.FindAllStringSubmatch(text, -1), func(h []string) bool { return strings.ToLower(h[1]) == to[1] }) {
			t.Errorf("no section #%s", to[1])
		}
	}
}

// Each alert has a case in which it fires and one in which it does not, and
// Prometheus's own tool says that they hold.
func TestAlertsFireAndAreQuiet(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, alertTests)), &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.AlertRuleTest {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				quiet[c.Alertname] = true
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: a case in which it fires: %v, in which it is quiet: %v", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
	}

	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: the alerts were NOT tried (scripts/packages installs it)")
	}
	for _, args := range [][]string{
		{"check", "rules", alertRules},
		{"test", "rules", alertTests},
		{"check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"},
	} {
		tool := exec.CommandContext(t.Context(), promtool, args...)
		tool.Dir = root
		if out, err := tool.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

var (
	metricName   = regexp.MustCompile(`\bledgerline_[a-z_]+`)
	metricSuffix = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// Alerts and dashboards ask for metrics that are there.
func TestAlertsAndDashboardsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, name := range metricName.FindAllString(read(t, "docs/metrics.md"), -1) {
		known[name] = true
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range append(files, filepath.Join(root, alertRules)) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAll(bytes.ReplaceAll(text, []byte("ledgerline-"), nil), -1) {
			if base := metricSuffix.ReplaceAllString(string(name), ""); !known[string(name)] && !known[base] {
				t.Errorf("%s asks for %s, which is not in docs/metrics.md", filepath.Base(path), name)
			}
		}
	}
}
