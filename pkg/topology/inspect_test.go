package topology_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// Inspect names what is missing and what differs, and creates and changes nothing.
func TestInspectNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	options := topology.Options{Replicas: 1, Lease: 10 * time.Second}
	look := func() map[string]topology.Part {
		t.Helper()
		parts, err := topology.Inspect(ctx, js, options)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]topology.Part{}
		for _, p := range parts {
			named[p.Name] = p
		}
		return named
	}
	for name, part := range look() {
		if !part.Missing || part.OK() {
			t.Errorf("%s on an empty server: %+v", name, part)
		}
	}
	for name := range js.StreamNames(ctx).Name() {
		t.Errorf("Inspect created %s", name)
	}
	if err := topology.Ensure(ctx, js, options, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	for name, part := range look() {
		if !part.OK() {
			t.Errorf("%s is as Ensure makes it: %+v", name, part)
		}
	}
	stream, err := js.Stream(ctx, subject.StreamParked)
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxAge = time.Hour
	if _, err := js.UpdateStream(ctx, changed); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(ctx, subject.StreamPipe, subject.DurableConsumer); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(ctx, subject.StreamDetected); err != nil {
		t.Fatal(err)
	}
	parts := look()
	if p := parts[subject.StreamParked]; p.OK() || !strings.Contains(strings.Join(p.Differences, ""), "max_age is 1h0m0s") {
		t.Errorf("%+v", p)
	}
	for _, gone := range []string{subject.StreamPipe + " > " + subject.DurableConsumer, subject.StreamDetected, subject.StreamDetected + " > " + subject.DurableGateway} {
		if p := parts[gone]; !p.Missing || p.OK() {
			t.Errorf("%s: %+v", gone, p)
		}
	}
	if p := parts[subject.StreamLedger]; !p.OK() {
		t.Errorf("%+v", p)
	}
	if _, err := js.Stream(ctx, subject.StreamDetected); err == nil {
		t.Error("Inspect created a stream again")
	}
}
