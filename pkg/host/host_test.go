package host_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/host"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a wait for something that must come.
const patience = time.Minute

// finishing is a worker that has an item in hand when it is asked to end.
type finishing struct{ started, asked, done chan struct{} }

func (f *finishing) Run(ctx context.Context) error {
	close(f.started)
	<-ctx.Done()
	close(f.asked)
	<-f.done
	return nil
}

func (f *finishing) Ready(context.Context) error { return nil }

// A process that was asked to end is healthy until its item in hand is finished,
// and not ready: nothing new is to be sent to it.
func TestAProcessThatFinishesIsHealthyAndNotReady(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	worker := &finishing{started: make(chan struct{}), asked: make(chan struct{}), done: make(chan struct{})}
	listening := make(chan string, 1)
	server := natstest.Start(t)
	ended := make(chan error, 1)
	go func() {
		ended <- host.Run(ctx, host.Options{
			HTTP: config.HTTP{Listen: "127.0.0.1:0"}, Logger: logtest.New(t).Logger(),
			Connect: func(context.Context) (*nats.Conn, error) { return nats.Connect(server.URL()) },
			Build: func(context.Context, *nats.Conn) ([]host.Worker, func(), error) {
				return []host.Worker{worker}, func() {}, nil
			},
			Listening: func(addr string) { listening <- addr },
		})
	}()
	addr := wait(t, listening)
	wait(t, worker.started)
	look := func(path string, want int) {
		t.Helper()
		answer, err := http.Get("http://" + addr + path) //nolint:noctx // ends with the server
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if answer.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, answer.StatusCode, want)
		}
	}
	look("/readyz", http.StatusOK)
	cancel()
	wait(t, worker.asked)
	look("/healthz", http.StatusOK)
	look("/readyz", http.StatusServiceUnavailable)
	close(worker.done)
	if err := wait(t, ended); err != nil {
		t.Errorf("ended with %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("it did not come")
	}
	return v
}
