package consumer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deafStream leaves the first resets of a consumer unanswered.
type deafStream struct {
	jetstream.Stream
	deaf, resets int
}

func (s *deafStream) ResetConsumer(ctx context.Context, _ string) (*jetstream.ConsumerResetResponse, error) {
	s.resets++
	if s.resets <= s.deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	answer := new(jetstream.ConsumerResetResponse)
	answer.ConsumerInfo = &jetstream.ConsumerInfo{NumPending: 7}
	return answer, nil
}

// A cluster that makes many consumers at once leaves some resets unanswered: the next
// try comes soon, and the job does not stand still for a whole time-out. One that is
// never answered ends with it.
func TestAResetThatIsNotAnsweredIsMadeAgainSoon(t *testing.T) {
	t.Parallel()
	const timeout = 5 * time.Second
	for name, c := range map[string]struct {
		deaf  int
		takes time.Duration
		err   error
	}{
		"answered":       {0, 0, nil},
		"unanswered":     {2, resetTry + 2*resetTry, nil},
		"never answered": {100, timeout, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stream := &deafStream{deaf: c.deaf}
				s := &source{j: &job{c: &Consumer{config: Config{APITimeout: timeout}, pipe: stream}}}
				began := time.Now()
				err := s.reset(t.Context())
				if !errors.Is(err, c.err) || time.Since(began) != c.takes {
					t.Errorf("it took %s: %v", time.Since(began), err)
				}
				if c.err == nil && s.pending != 7 {
					t.Errorf("%d items are pending, not 7", s.pending)
				}
			})
		})
	}
}
