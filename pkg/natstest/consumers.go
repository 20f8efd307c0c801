package natstest

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Consumers are the names of a stream's consumers, in order.
func Consumers(ctx context.Context, t testing.TB, js jetstream.JetStream, stream string) (names []string) {
	t.Helper()
	of, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	list := of.ConsumerNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
