package httpserve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/httpserve"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server that runs until the test ends or stop is called.
type running struct {
	url    string
	log    *logtest.Recorder
	client *http.Client
	stop   context.CancelFunc
	ended  chan error
}

func run(t *testing.T, options httpserve.Options) *running {
	t.Helper()
	r := &running{log: logtest.New(t), client: &http.Client{Transport: &http.Transport{}}, ended: make(chan error, 1)}
	options.Listen, options.Logger = "127.0.0.1:0", r.log.Logger()
	s, err := httpserve.New(options)
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + s.Addr()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	done := make(chan struct{})
	go func() {
		r.ended <- s.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		stop()
		r.client.CloseIdleConnections()
		<-done
	})
	return r
}

func (r *running) do(t *testing.T, method, path string, body io.Reader) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	reason := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ledgerline_jobs_active 1") })
	r := run(t, httpserve.Options{Handler: mux, Ready: func() error {
		select {
		case err := <-reason:
			return err
		default:
			return nil
		}
	}})
	for _, c := range []struct {
		method, path string
		reason       error
		status       int
		text         string
	}{
		{"GET", "/healthz", nil, 200, "ok\n"},
		{"HEAD", "/healthz", nil, 200, ""},
		{"GET", "/readyz", nil, 200, "ready\n"},
		{"GET", "/readyz", errors.New("NATS is not connected"), 503, "NATS is not connected\n"},
		{"GET", "/readyz", nil, 200, "ready\n"},
		{"POST", "/healthz", nil, 404, "404 page not found\n"},
		{"GET", "/metrics", nil, 200, "ledgerline_jobs_active 1\n"},
		{"GET", "/elsewhere", nil, 404, "404 page not found\n"},
	} {
		if c.reason != nil {
			reason <- c.reason
		}
		if status, text := r.do(t, c.method, c.path, nil); status != c.status || text != c.text {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, status, text, c.status, c.text)
		}
	}
	if line := r.log.Wait(logevent.HTTPListening); "http://"+line["addr"].(string) != r.url || strings.HasSuffix(r.url, ":0") {
		t.Errorf("logged %v", line)
	}
}

func TestAnAddressInUseIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := httpserve.New(httpserve.Options{Listen: taken.Addr().String()}); !errors.Is(err, httpserve.ErrListen) {
		t.Errorf("got %v", err)
	}
	unused, err := httpserve.New(httpserve.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unused.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestARequestInHandFinishes(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	r := run(t, httpserve.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "finished")
	})})
	answer := make(chan string, 1)
	go func() {
		response, err := r.client.Get(r.url + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		answer <- string(text)
	}()
	<-entered
	r.stop()
	close(release)
	if got := <-answer; got != "finished" {
		t.Errorf("got %q", got)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	r.log.Wait(logevent.HTTPStopped)
	if _, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil {
		t.Error("it still listens")
	}
}

func TestSizesAreBounded(t *testing.T) {
	t.Parallel()
	r := run(t, httpserve.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var tooLarge *http.MaxBytesError
		if _, err := io.Copy(io.Discard, request.Body); errors.As(err, &tooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})})
	if status, _ := r.do(t, "POST", "/", strings.NewReader(strings.Repeat("x", httpserve.MaxBodyBytes))); status != 200 {
		t.Errorf("the largest body: %d", status)
	}
	if status, _ := r.do(t, "POST", "/", strings.NewReader(strings.Repeat("x", httpserve.MaxBodyBytes+1))); status != 413 {
		t.Errorf("a larger body: %d", status)
	}
	// The server answers 431 and cuts the connection; which of the two the client
	// sees first is open. It must not get through.
	response, err := r.client.Get(r.url + "/" + strings.Repeat("x", 64<<10))
	if err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a larger head: %d", response.StatusCode)
		}
	}
}

func TestAPanicOfAHandlerIsLoggedAndSurvived(t *testing.T) {
	t.Parallel()
	r := run(t, httpserve.Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken handler") })})
	if response, err := r.client.Get(r.url + "/"); err == nil {
		response.Body.Close()
		t.Error("an answer came")
	}
	if line := r.log.Wait(logevent.HTTPErrorReported); !strings.Contains(line["text"].(string), "broken handler") {
		t.Errorf("logged %v", line)
	}
	if status, _ := r.do(t, "GET", "/healthz", nil); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}
