package natstest

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Leaderless answers the second look-up of each stream as servers do that are
// electing a leader: not at all. The first is the one that finds all streams there.
type Leaderless struct {
	jetstream.JetStream
	mu    sync.Mutex
	looks map[string]int
}

// NewLeaderless stands before js.
func NewLeaderless(js jetstream.JetStream) *Leaderless {
	return &Leaderless{JetStream: js, looks: map[string]int{}}
}

// Stream looks a stream up.
func (l *Leaderless) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	l.mu.Lock()
	l.looks[name]++
	look := l.looks[name]
	l.mu.Unlock()
	if look == 2 {
		return nil, context.DeadlineExceeded
	}
	return l.JetStream.Stream(ctx, name)
}

// Looks is how often a stream was looked up.
func (l *Leaderless) Looks(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks[name]
}
