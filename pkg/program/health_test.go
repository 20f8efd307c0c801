package program

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/config"
)

type listening struct {
	HTTP config.HTTP `embed:""`
	Log  config.Log  `embed:""`
}

func TestHealthAsksTheRunningService(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if !ready.Load() {
			http.Error(w, "NATS is away", http.StatusServiceUnavailable)
		}
	}))
	defer service.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(service.URL, "http://"), ":")
	ask := func(listen string) (code int, told string) {
		var out bytes.Buffer
		p := config.Program{
			Name: "fetcher", Args: []string{"health"}, Environ: []string{"LEDGERLINE_LISTEN=" + listen}, Stdout: &out, Stderr: &out,
		}
		code = Service(p, &listening{}, func(context.Context, *listening, *Runtime) error {
			t.Error("the service itself was started")
			return nil
		})
		return code, out.String()
	}
	if code, told := ask("127.0.0.1:" + port); code != exitFailed || !strings.Contains(told, "NATS is away") {
		t.Errorf("not ready: exit code %d, %q", code, told)
	}
	ready.Store(true)
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		if code, told := ask(listen); code != exitDone || told != "" {
			t.Errorf("ready at %s: exit code %d, %q", listen, code, told)
		}
	}
	if code, told := ask("127.0.0.1:0"); code != exitFailed || !strings.Contains(told, "LEDGERLINE_LISTEN") {
		t.Errorf("a free port: exit code %d, %q", code, told)
	}
	service.Close()
	if code, _ := ask("127.0.0.1:" + port); code != exitFailed {
		t.Errorf("nobody there: exit code %d", code)
	}
}
