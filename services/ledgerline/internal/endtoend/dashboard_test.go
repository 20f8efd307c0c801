package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/metrics"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// rateWindow stands in Grafana's place for $__rate_interval: several of the test's
// scrapes.
const rateWindow = "20s"

// query is one target of one panel.
type query struct{ dashboard, panel, expr string }

func panelQueries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob("../../../../deploy/grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []query
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, p := range board.Panels {
			if len(p.Targets) == 0 {
				t.Errorf("%s: the panel %q asks for nothing", board.Title, p.Title)
			}
			for _, target := range p.Targets {
				all = append(all, query{board.Title, p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", rateWindow)})
			}
		}
	}
	return all
}

// Every panel of every dashboard shows something of an installation at work, asked
// of a real Prometheus that scrapes it.
func TestEveryPanelShowsData(t *testing.T) {
	t.Parallel()
	if slowness > 1 {
		t.Skip("without the race detector it runs as well")
	}
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("prometheus is not installed: the dashboards were NOT tried (scripts/packages installs it)")
	}
	queries := panelQueries(t)

	d := newDoor(t)
	faults, err := simulator.ParseFaults("some")
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, simulator.Config{Seed: 3, Companies: 6, Faults: faults, Webhook: d.webhooks()})
	targets := map[string]*metrics.Set{}
	for _, program := range []string{"gateway", "fetcher", "consumer"} {
		targets[program] = metrics.New(program, "test")
	}
	counted := func(set *metrics.Set) *pleo.Client {
		return in.client(func(c *pleo.Config) { c.Observe = set.PleoCalled })
	}
	d.gateway(in, func(c *gateway.Config) { c.Pleo = counted(targets["gateway"]) })
	in.fetcher(startsNothing, func(c *fetcher.Config) { c.Pleo, c.Metrics = counted(targets["fetcher"]), targets["fetcher"] })
	held := in.gate()
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		if d.CompanyID == in.upstream.Company(0).String() && d.Position == 2 {
			held.pass(ctx) // something has to wait while the panels are looked at
		}
		return bookedAs(d)
	}}
	server := prometheusOf(t, in, targets)
	in.consumer(to, shows(targets["consumer"]))
	in.add(simulator.JobSpec{CompanyID: in.upstream.Company(0), Items: items(20), Status: simulator.JobPending})
	in.wait(held, "the blocked job's second item")

	// Work comes in until every panel has seen some.
	ctx := in.bounded("")
	for n := 1; ; n++ {
		in.ends(in.add(simulator.JobSpec{CompanyID: in.upstream.Company(1 + n%5), Items: items(15), Status: simulator.JobPending}))
		var empty []query
		for _, q := range queries {
			if !server.has(ctx, t, q.expr) {
				empty = append(empty, q)
			}
		}
		if len(empty) == 0 {
			break
		}
		queries = empty
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			for _, q := range empty {
				t.Errorf("%s, %q: no data for %s", q.dashboard, q.panel, q.expr)
			}
			return
		}
	}
}

// promServer is a running Prometheus.
type promServer struct{ url string }

// prometheusOf runs Debian's Prometheus on what the sets show.
func prometheusOf(t *testing.T, in *installation, targets map[string]*metrics.Set) promServer {
	t.Helper()
	config := "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
	for program, set := range targets {
		mux := http.NewServeMux()
		mux.Handle("/metrics", set.Handler())
		web := httptest.NewServer(mux)
		t.Cleanup(web.Close)
		config += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [%q]}]}\n", program, strings.TrimPrefix(web.URL, "http://"))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	process(t, nil, "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	p := promServer{url: "http://" + addr}
	ctx := in.bounded("")
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/-/ready", nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := http.DefaultClient.Do(req); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				t.Cleanup(http.DefaultClient.CloseIdleConnections)
				return p
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("Prometheus does not get ready")
		}
	}
}

// has tells whether a query has at least one value that is a number.
func (p promServer) has(ctx context.Context, t *testing.T, expr string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var result struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		t.Fatal(err)
	}
	if result.Error != "" {
		t.Fatalf("%s: %s", expr, result.Error)
	}
	for _, r := range result.Data.Result {
		text, _ := r.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
			return true
		}
	}
	return false
}
