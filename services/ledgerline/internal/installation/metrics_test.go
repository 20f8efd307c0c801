package installation_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
	"github.com/ledgerline/ledgerline/services/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// `up` shows on one page what its three services did, and what waits in the whole
// installation.
func TestUpShowsTheInstallationsFigures(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("the figures did not come"))
	defer cancel()
	sim, err := simulator.New(simulator.Config{Seed: 4, Jobs: 2, ItemsPerJob: 5, Companies: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	pleo := httptest.NewServer(sim.Handler())
	defer pleo.Close()

	running, stop := context.WithCancel(ctx)
	listening, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- installation.Run(running, installation.Settings{
			Name: "up", Version: "test",
			Embedded: config.Embedded{DataDir: t.TempDir()},
			Streams:  config.Streams{Replicas: 1, Lease: 10 * time.Second},
			HTTP:     config.HTTP{Listen: "127.0.0.1:0"},
			Pleo:     config.Pleo{URL: pleo.URL, Token: config.NewSecret(simulator.DefaultToken), Timeout: 10 * time.Second, PageSize: 100},
			Fetcher:  config.Fetcher{Order: config.OrderDate},
			Sink:     config.Sink{Spec: "log:", Timeout: 5 * time.Second},
			Consumer: config.Consumer{Payload: config.PayloadFull, OnFailure: config.OnFailureContinue, Report: true, ConcurrentJobs: 4},
		}, logtest.New(t).Logger(), installation.Started{HTTP: func(addr string) { listening <- addr }})
	}()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	wanted := []string{
		`ledgerline_jobs_total{outcome="completed"} 2`, `ledgerline_items_total{outcome="booked"} 10`,
		"ledgerline_items_published_total 10", "ledgerline_lag_items 0", "ledgerline_jobs_waiting 0", "ledgerline_jobs_active 0",
		`ledgerline_pleo_requests_total{code="202",operation="create_job_event"}`,
		`ledgerline_build_info{`, "go_goroutines", "process_open_fds",
	}
	defer http.DefaultClient.CloseIdleConnections()
	address := "http://" + <-listening + "/metrics"
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		missing := ""
		for _, line := range wanted {
			if !strings.Contains(string(page), line) {
				missing = line
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("%v: no %s in\n%s", context.Cause(ctx), missing, page)
		}
	}
}
