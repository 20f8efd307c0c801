package endtoend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// kedaLag is the arithmetic of KEDA's nats-jetstream trigger, from its own source,
// pkg/scalers/nats_jetstream_scaler.go at 8b4f083: the account by name or id, the
// stream and the consumer by name, and num_pending + num_ack_pending of that.
func kedaLag(t *testing.T, endpoint, account, stream, consumer string) int {
	t.Helper()
	query := url.Values{"acc": {account}, "consumers": {"true"}, "config": {"true"}}
	response, err := http.Get(endpoint + "/jsz?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Accounts []struct {
			ID      string `json:"id"`
			Name    string `json:"name"`
			Streams []struct {
				Name      string `json:"name"`
				Consumers []struct {
					Name          string `json:"name"`
					NumAckPending int    `json:"num_ack_pending"`
					NumPending    int    `json:"num_pending"`
				} `json:"consumer_detail"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	for _, a := range answer.Accounts {
		if a.ID != account && a.Name != account {
			continue
		}
		for _, s := range a.Streams {
			for _, c := range s.Consumers {
				if s.Name == stream && c.Name == consumer {
					return c.NumPending + c.NumAckPending
				}
			}
		}
	}
	t.Fatalf("the server's monitoring knows no consumer %s of %s in %s", consumer, stream, account)
	return 0
}

// What an autoscaler sees are the jobs that wait and those that are worked on.
func TestAnAutoscalerSeesWaitingAndRunningJobs(t *testing.T) {
	t.Parallel()
	o := server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), DisableJetStreamBanner: true,
	}
	srv, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	js := natstest.JetStream(t, srv.ClientURL())
	ctx := t.Context()
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: testLease}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	endpoint := fmt.Sprintf("http://%s", srv.MonitorAddr())
	sees := func(want int, when string) {
		t.Helper()
		if got := kedaLag(t, endpoint, "$G", subject.StreamPipe, subject.DurableConsumer); got != want {
			t.Errorf("%s: the autoscaler sees %d jobs, not %d", when, got, want)
		}
	}
	sees(0, "nothing sealed")
	const sealed, running, ended = 10, 3, 2
	for range sealed {
		if _, err := js.Publish(ctx, subject.Ready(uuid.New()), []byte("manifest")); err != nil {
			t.Fatal(err)
		}
	}
	sees(sealed, "all waiting")
	consumer, err := js.Consumer(ctx, subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(running)
	if err != nil {
		t.Fatal(err)
	}
	var claimed []jetstream.Msg
	for msg := range batch.Messages() {
		claimed = append(claimed, msg)
	}
	if err := batch.Error(); err != nil || len(claimed) != running {
		t.Fatalf("%d manifests were given out: %v", len(claimed), err)
	}
	sees(sealed, "some running")
	for _, msg := range claimed[:ended] {
		if err := msg.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	sees(sealed-ended, "some ended")
}
