package topology_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// keeping runs Keep until the test ends; what it tells comes out of the channel.
func keeping(t *testing.T, js jetstream.JetStream, o topology.Options) (<-chan []string, *logtest.Recorder) {
	t.Helper()
	log := logtest.New(t)
	told, done := make(chan []string, 8), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		topology.Keep(ctx, js, o, log.Logger(), func(names []string) { told <- names })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return told, log
}

func next(t *testing.T, told <-chan []string) []string {
	t.Helper()
	select {
	case names := <-told:
		return names
	case <-within(t).Done():
		t.Fatal("nothing was told")
		return nil
	}
}

// What is removed under a running process is made anew, told by name, and logged
// as an error.
func TestWhatIsLostIsMadeAnewAndTold(t *testing.T) {
	t.Parallel()
	js := natstest.Start(t).JetStream(t)
	mustEnsure(t, js, standard)
	told, log := keeping(t, js, standard)
	begun(t, js, told, log)
	for _, lost := range []struct {
		name   string
		remove func() error
		want   []string
	}{
		{"a durable", func() error { return js.DeleteConsumer(within(t), subject.StreamEvents, subject.DurableFetcher) },
			[]string{subject.StreamEvents + "/" + subject.DurableFetcher}},
		{"the bucket", func() error { return js.DeleteKeyValue(within(t), subject.BucketJobs) }, []string{bucketStream}},
		{"a stream", func() error { return js.DeleteStream(within(t), subject.StreamPipe) },
			[]string{subject.StreamPipe, subject.StreamPipe + "/" + subject.DurableConsumer}},
	} {
		if err := lost.remove(); err != nil {
			t.Fatal(err)
		}
		if got := next(t, told); !slices.Equal(got, lost.want) {
			t.Errorf("%s: %v was told, want %v", lost.name, got, lost.want)
		}
		if err := topology.Check(within(t), js); err != nil {
			t.Errorf("%s: %v", lost.name, err)
		}
	}
	log.Wait(logevent.StoreLost)
}

// begun returns once Keep knows what there is: a durable that another process has
// replaced comes out then.
func begun(t *testing.T, js jetstream.JetStream, told <-chan []string, log *logtest.Recorder) {
	t.Helper()
	limit := within(t)
	for {
		if err := js.DeleteConsumer(limit, subject.StreamDetected, subject.DurableGateway); err != nil {
			t.Fatal(err)
		}
		mustEnsure(t, js, standard)
		select {
		case <-told:
			return
		case <-time.After(2 * topology.KeepInterval):
		case <-limit.Done():
			t.Fatalf("Keep tells nothing: %s", log.Text())
		}
	}
}
