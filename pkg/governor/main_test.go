package governor

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// process is one governor with a connection of its own.
func process(t *testing.T, url string, rate float64) (*Governor, *logtest.Recorder) {
	t.Helper()
	log := logtest.New(t)
	g, err := New(Options{JetStream: natstest.JetStream(t, url), Replicas: 1, Rate: rate, Logger: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	return g, log
}

// begin puts a budget into the bucket, as if it had been learnt.
func begin(t *testing.T, js jetstream.JetStream, key, value string) {
	t.Helper()
	g, err := New(Options{JetStream: js, Replicas: 1, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := g.open(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(within(t, patience), key, value); err != nil {
		t.Fatal(err)
	}
}

// known is a budget that believes to know the limit: it grows by a hundredth a
// second.
func known(rate string) string { return `{"rate":` + rate + `,"believed":` + rate + `}` }

func refused(after time.Duration) pleo.Call { return pleo.Call{Code: "429", RetryAfter: after} }
