package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// batch is how many messages one pull asks for: enough to hide the round
	// trip, few enough that a pull of the largest folded bookings (512 KiB each)
	// stays at 32 MiB, below what a server buffers for one client.
	batch = 64
	// requestLimit bounds one request. What is under way when a server ends is never
	// answered, and the client would wait until the end of its context: of a job's time.
	requestLimit = 5 * time.Second
	// abandoned is how long the server keeps a reader's consumer after the
	// reader's death.
	abandoned = 30 * time.Second
	// pullWait bounds one pull; a reader that waits longer looks whether there is
	// anything to wait for.
	pullWait = 2 * time.Second
	// pullPause is the wait after a pull that failed.
	pullPause = 50 * time.Millisecond
	// cleanupTimeout bounds the removal of the reader's consumer, which happens
	// also when the caller has gone.
	cleanupTimeout = 2 * time.Second
)

// Read calls visit for each message on subjects, in stream order, up to and
// including sequence upTo (from 1), which must be on one of the subjects. It
// returns visit's error, ErrGone when message upTo does not exist, or ctx's cause
// when it ended before upTo was seen.
func Read(ctx context.Context, stream jetstream.Stream, subjects []string, upTo uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	_, err := read(ctx, stream, subjects, 0, upTo, visit)
	return err
}

// ReadWhole is Read, and returns ErrDamaged where the server holds a message in
// between that it cannot read: it leaves such a one out without a word.
func ReadWhole(ctx context.Context, stream jetstream.Stream, subjects []string, upTo uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	r := &reader{stream: stream, subjects: subjects, upTo: upTo, visit: visit}
	if err := r.run(ctx); err != nil {
		return err
	}
	// With what is pending the server counts what it has left out on the way, too:
	// nothing pending, nothing left out.
	if r.pending == 0 {
		return nil
	}
	return r.count(ctx)
}

// count compares the messages up to upTo that were visited with those that the
// stream says it holds.
func (r *reader) count(ctx context.Context) error {
	held := uint64(0)
	for _, subject := range r.subjects {
		looking, cancel := asking(ctx)
		info, err := r.stream.Info(looking, jetstream.WithSubjectFilter(subject))
		cancel()
		if err != nil {
			return fmt.Errorf("count the history of %v: %w", r.subjects, err)
		}
		for _, n := range info.State.Subjects {
			held += n
		}
	}
	// What came after upTo, counted after the whole: it can only have become more.
	behind := &reader{
		stream: r.stream, subjects: r.subjects, seen: r.upTo,
		visit: func(jetstream.Msg, *jetstream.MsgMetadata) error { return nil },
	}
	if err := behind.run(ctx); err != nil {
		return err
	}
	if held > r.visited+behind.visited {
		return fmt.Errorf("read history of %v up to sequence %d: %d messages are held there and %d can be read: %w",
			r.subjects, r.upTo, held-behind.visited, r.visited, ErrDamaged)
	}
	return nil
}

// Snapshot calls visit for each message on subjects that the server has now, in
// stream order. Unlike Read it has no sequence to prove itself complete by: it
// is for listings.
func Snapshot(ctx context.Context, stream jetstream.Stream, subjects []string, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	_, err := read(ctx, stream, subjects, 0, 0, visit)
	return err
}

// Since is Snapshot for the messages after sequence after, for a reader that comes
// again: it returns the sequence of the last message visited, or after when there
// was none.
func Since(ctx context.Context, stream jetstream.Stream, subjects []string, after uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) (uint64, error) {
	return read(ctx, stream, subjects, after, 0, visit)
}

// reader is one reading, over as many consumers as it takes.
type reader struct {
	stream   jetstream.Stream
	subjects []string
	upTo     uint64 // 0: until nothing is pending
	visit    func(jetstream.Msg, *jetstream.MsgMetadata) error
	seen     uint64 // stream sequence of the last message visited
	visited  uint64 // how many there were
	pending  uint64 // what the server said is behind the last one
}

func read(ctx context.Context, stream jetstream.Stream, subjects []string, after, upTo uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) (uint64, error) {
	r := &reader{stream: stream, subjects: subjects, upTo: upTo, visit: visit, seen: after}
	err := r.run(ctx)
	return r.seen, err
}

func (r *reader) run(ctx context.Context) error {
	for {
		done, err := r.pass(ctx)
		if err != nil || done {
			return err
		}
	}
}

// pass reads on after the last message seen, with a consumer of its own. It
// returns false when a delivery was lost on the way: the server does not give it
// to the same consumer again, so the next pass asks from there.
func (r *reader) pass(ctx context.Context) (done bool, err error) {
	creating, cancel := asking(ctx)
	consumer, err := r.stream.CreateConsumer(creating, jetstream.ConsumerConfig{
		FilterSubjects: r.subjects,
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    r.seen + 1,
		// Nothing is acknowledged: the position is the reader's own.
		AckPolicy: jetstream.AckNonePolicy,
		// The reader's state is worth nothing after it: no disk, no replicas.
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: abandoned,
	})
	cancel()
	if err != nil {
		return false, fmt.Errorf("read history of %v: create consumer: %w", r.subjects, err)
	}
	defer func() {
		// A failure leaves the consumer to its inactive threshold.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_ = r.stream.DeleteConsumer(cleanup, consumer.CachedInfo().Name)
	}()

	if r.upTo == 0 && consumer.CachedInfo().NumPending == 0 {
		return true, nil
	}
	var delivered uint64 // of this consumer, counted from 1 by the server
	for {
		before := delivered
		end, err := r.pull(ctx, consumer, &delivered)
		switch {
		case err != nil || end == finished:
			return err == nil, err
		case end == lost:
			return false, nil
		case end == failed:
			// In a cluster a new consumer cannot be reached from every node at once,
			// and one of one replica ends with its node. Its info tells which.
			timer := time.NewTimer(pullPause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return false, r.ended(ctx)
			case <-timer.C:
			}
		case delivered > before:
			continue
		}
		looking, cancel := asking(ctx)
		info, err := consumer.Info(looking)
		cancel()
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, r.ended(ctx)
		}
		if err != nil {
			return false, fmt.Errorf("read history of %v: %w", r.subjects, err)
		}
		if info.Delivered.Consumer != delivered {
			return false, nil
		}
		if r.upTo == 0 && info.NumPending == 0 {
			return true, nil // what was pending was purged meanwhile
		}
		if r.upTo != 0 {
			// The stream's leader knows; the replica that the consumer reads may lag.
			looking, cancel := asking(ctx)
			_, err := r.stream.GetMsg(looking, r.upTo)
			cancel()
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return false, r.gone()
			}
		}
	}
}

// asking bounds one request.
func asking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, requestLimit)
}

// pullEnd is how a pull ended.
type pullEnd int

const (
	exhausted pullEnd = iota // the server has no more for now
	failed                   // it did not answer, or refused
	lost                     // a delivery is missing
	finished                 // everything was visited
)

// pull visits what one pull brings.
func (r *reader) pull(ctx context.Context, consumer jetstream.Consumer, delivered *uint64) (pullEnd, error) {
	pulling, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel() // ends the pull also where the rest of it is not wanted
	msgs, err := consumer.Fetch(batch, jetstream.FetchContext(pulling))
	if err != nil {
		if ctx.Err() != nil {
			return failed, r.ended(ctx)
		}
		return failed, fmt.Errorf("read history of %v: pull: %w", r.subjects, err)
	}
	for {
		var msg jetstream.Msg
		var open bool
		select {
		case <-ctx.Done():
			return failed, r.ended(ctx)
		case msg, open = <-msgs.Messages():
		}
		if !open {
			if err := msgs.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return failed, nil
			}
			return exhausted, nil
		}
		meta, err := msg.Metadata()
		if err != nil {
			return failed, fmt.Errorf("read history of %v: %w", r.subjects, err)
		}
		if meta.Sequence.Consumer != *delivered+1 {
			return lost, nil
		}
		*delivered++
		if r.upTo != 0 && meta.Sequence.Stream > r.upTo {
			return failed, r.gone()
		}
		r.seen, r.pending = meta.Sequence.Stream, meta.NumPending
		r.visited++
		if err := r.visit(msg, meta); err != nil {
			return failed, err
		}
		if r.seen == r.upTo || (r.upTo == 0 && meta.NumPending == 0) {
			return finished, nil
		}
	}
}

func (r *reader) ended(ctx context.Context) error {
	return fmt.Errorf("read history of %v up to sequence %d, seen %d: %w", r.subjects, r.upTo, r.seen, context.Cause(ctx))
}

func (r *reader) gone() error {
	return fmt.Errorf("read history of %v up to sequence %d, seen %d: %w", r.subjects, r.upTo, r.seen, ErrGone)
}
