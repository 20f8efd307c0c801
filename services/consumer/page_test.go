package consumer_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/consumer"
)

// The page is there where it is asked for, and nowhere else.
func TestTheStatusPageIsServedWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, shown := range []bool{true, false} {
		log := logtest.New(t)
		settings := &consumer.Settings{
			Service: config.Service{
				NATS:    config.NATS{URL: natstest.Start(t).URL()},
				Streams: config.Streams{Replicas: 1, Lease: 10 * time.Second},
				HTTP:    config.HTTP{Listen: "127.0.0.1:0"},
			},
			Sink:       config.Sink{Spec: "log:", Timeout: time.Second},
			Consumer:   config.Consumer{Payload: config.PayloadNone, OnFailure: config.OnFailureContinue, ConcurrentJobs: 1},
			StatusPage: config.StatusPage{Shown: shown},
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- consumer.Serve(ctx, settings, &program.Runtime{Name: "consumer", Version: "v0", Log: log.Logger()})
		}()
		addr := log.Wait(logevent.HTTPListening)["addr"].(string)
		log.Wait(logevent.ConsumerReady)
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		switch {
		case shown && (response.StatusCode != http.StatusOK || !strings.Contains(text, "ledgerline consumer") || strings.Contains(text, "<form")):
			t.Errorf("the page: %s: %s", response.Status, text)
		case !shown && response.StatusCode != http.StatusNotFound:
			t.Errorf("there is a page: %s: %s", response.Status, text)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
