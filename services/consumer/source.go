package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// fetchBatch is how many items one pull asks for: 232,000 items a second were
	// measured with batches against 36,000 one at a time, and beyond some tens
	// nothing is gained.
	fetchBatch = 64
	// fetchAhead is how many items at hand are few enough to pull more, while the
	// lane goes on: at an empty buffer it would wait for the server, and the send of
	// the item after it would cost a synced record of its own.
	fetchAhead = 16
	// maxAckPending is the server's bound on items delivered and not acked. It is
	// above what a lane holds, so that it never decides.
	maxAckPending = 256
	// itemAckWait is the job consumer's: long, since nothing depends on it. The
	// lease is on the manifest, and a takeover resets.
	itemAckWait = time.Hour
	// strayAge is how long a consumer that nobody uses is kept. A job's own goes with
	// the job, and one that is lost is made anew: this is for one that a worker made
	// which was frozen, woke up after another one had ended the job, and died. It is
	// far above what a job stands still, for it would take the job's lag with it.
	strayAge = 24 * time.Hour
	// fetchWait bounds one pull; items that the server has come at once.
	fetchWait = 2 * time.Second
	// maxResets bounds resets without a new item in between: more than a change of
	// the leader takes, at up to fetchWait each. After them the item is not there,
	// and draining the job again costs less than waiting for it.
	maxResets = 8
	// resetPause is the wait before a further reset in a row.
	resetPause = 200 * time.Millisecond
	// resetTry is how long the first try of a reset may take, each further one twice
	// as long: a cluster that makes many consumers at once leaves some unanswered
	// (nats-server 2.15.2), and a job would stand still for the whole time-out.
	resetTry = 250 * time.Millisecond
)

// item is one message of the job's subject, understood.
type item struct {
	id       uuid.UUID
	position uint32
	date     *time.Time
	msg      jetstream.Msg
}

// source gives a job's items in the order of their positions.
type source struct {
	j        *job
	consumer jetstream.Consumer
	buffer   []item
	// pull is under way, or nil; cancel gives it up.
	pull    jetstream.MessageBatch
	cancel  context.CancelFunc
	pending uint64 // items the server has for us beyond those that came
	resets  int    // in a row
	// wait bounds one pull, pause is the wait before a further reset in a row.
	wait, pause time.Duration
}

// openSource makes the job's consumer and resets it. The reset is what makes
// pulling in batches safe: whatever a former owner was given and did not ack
// comes again, in order.
func (j *job) openSource(ctx context.Context) (*source, error) {
	s := &source{j: j, wait: fetchWait, pause: resetPause}
	if err := s.create(ctx); err != nil {
		return nil, err
	}
	return s, s.reset(ctx)
}

func (s *source) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.j.c.config.APITimeout)
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerCreate)
	consumer, err := s.j.c.pipe.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       subject.DurableJob(s.j.id),
		Description:   "Items of one job; pending and ack-pending are its lag",
		FilterSubject: s.j.itemsSubject(),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       itemAckWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
		// No promise rests on its state: the ledger decides the position, every claim
		// resets, and a lost one is made anew. On disk, where every write is synced,
		// the server would write the state of each busy consumer ten times a second,
		// three syncs a time, beside the records: a hundred jobs ran at half the speed.
		MemoryStorage:     true,
		InactiveThreshold: strayAge,
		Metadata:          subject.JobMetadata(s.j.id, s.j.company),
	})
	crashpoint.After(crashpoint.ConsumerCreate)
	if err != nil {
		return fmt.Errorf("create the consumer of job %s: %w", s.j.id, err)
	}
	s.consumer = consumer
	return nil
}

func (s *source) reset(ctx context.Context) error {
	s.close() // what comes of it comes again
	ctx, cancel := context.WithTimeout(ctx, s.j.c.config.APITimeout)
	defer cancel()
	answer, err := s.restartAgain(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		// Its state was lost: a new one gives everything again, and what is
		// settled is acked.
		if err := s.create(ctx); err != nil {
			return err
		}
		answer, err = s.restartAgain(ctx)
	}
	if err != nil {
		return fmt.Errorf("reset the consumer of job %s: %w", s.j.id, err)
	}
	s.buffer, s.pending = nil, answer.NumPending
	return nil
}

// close gives up the pull that is under way.
func (s *source) close() {
	if s.pull != nil {
		s.cancel()
		s.pull = nil
	}
}

// restartAgain is restart until it is answered. One that was answered too late has
// items come again once more, settled or not, as after any reset.
func (s *source) restartAgain(ctx context.Context) (answer *jetstream.ConsumerResetResponse, err error) {
	for try := resetTry; ; try *= 2 {
		trying, cancel := context.WithTimeout(ctx, try)
		answer, err = s.restart(trying)
		unanswered := err != nil && trying.Err() != nil && ctx.Err() == nil
		cancel()
		if !unanswered {
			return answer, err
		}
	}
}

// restart makes the server deliver again what is not acked or, where that did not
// bring the item that is missing, everything: the server's acks may be ahead of
// the ledger, and the ledger alone decides.
func (s *source) restart(ctx context.Context) (answer *jetstream.ConsumerResetResponse, err error) {
	if s.resets > 1 {
		crashpoint.Before(crashpoint.ConsumerRewind)
		answer, err = s.j.c.pipe.ResetConsumerToSequence(ctx, subject.DurableJob(s.j.id), s.j.manifest.GetFirstSequence())
		crashpoint.After(crashpoint.ConsumerRewind)
		return answer, err
	}
	crashpoint.Before(crashpoint.ConsumerReset)
	answer, err = s.j.c.pipe.ResetConsumer(ctx, subject.DurableJob(s.j.id))
	crashpoint.After(crashpoint.ConsumerReset)
	return answer, err
}

// peek is the next item if it is at hand.
func (s *source) peek() (next item, ok bool, err error) {
	if err := s.receive(false); err != nil || len(s.buffer) == 0 {
		return item{}, false, err
	}
	return s.buffer[0], true, nil
}

// next is the item after the settled ones. Settled ones that come again are
// reported where needed and acked. A gap or an empty pull means that somebody
// swallowed items: a dead owner's open pull, or a rival's.
func (s *source) next(ctx context.Context) (item, error) {
	for {
		for len(s.buffer) > 0 {
			it := s.buffer[0]
			if it.position > s.j.tenure.Position {
				break
			}
			s.buffer = s.buffer[1:]
			if err := s.j.again(ctx, it); err != nil {
				return item{}, err
			}
		}
		if len(s.buffer) > 0 && s.buffer[0].position == s.j.tenure.Position+1 {
			it := s.buffer[0]
			s.buffer = s.buffer[1:]
			s.resets = 0
			return it, s.ahead(ctx)
		}
		gap := len(s.buffer) > 0
		if !gap {
			if err := s.fill(ctx); err != nil {
				return item{}, err
			}
		}
		if ctx.Err() != nil {
			return item{}, context.Cause(ctx)
		}
		if len(s.buffer) > 0 && !gap {
			continue
		}
		if err := s.recover(ctx); err != nil {
			return item{}, err
		}
	}
}

// recover first makes sure that the job is still ours, then resets: else a stale
// worker and the owner would reset each other for ever.
func (s *source) recover(ctx context.Context) error {
	s.resets++
	if s.resets > maxResets {
		// It is not in the store any more, or cannot be read there. Pleo has it.
		reason := fmt.Sprintf("after %d resets the item at position %d of %d is still missing in the store", maxResets, s.j.tenure.Position+1, s.j.total())
		s.j.logger.Error().Str("reason", reason).Msg(logevent.ItemsLost)
		return &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, reason: reason + "; drained again"}
	}
	s.j.logger.Warn().Uint32("position", s.j.tenure.Position+1).Int("resets", s.resets).Msg(logevent.ItemsMissed)
	if s.resets > 1 && !pause(ctx, s.pause) {
		return context.Cause(ctx)
	}
	recording, cancel := s.j.recording(ctx)
	defer cancel()
	crashpoint.Before(crashpoint.ConsumerOwn)
	err := s.j.tenure.Append(recording, &ledgerlinev1.LedgerRecord{Send: s.j.announced})
	crashpoint.After(crashpoint.ConsumerOwn)
	if err != nil {
		return err
	}
	return s.reset(ctx)
}

// ahead pulls more before the items at hand run out.
func (s *source) ahead(ctx context.Context) error {
	if s.pull != nil || s.pending == 0 || len(s.buffer) > fetchAhead || !s.j.reporter.hasRoom() {
		return nil
	}
	return s.ask(ctx)
}

// fill waits for what the server has, at most a batch. It leaves the buffer empty
// when nothing came.
func (s *source) fill(ctx context.Context) error {
	if s.pull == nil {
		if s.pending == 0 {
			return nil
		}
		// The lane holds no more than the server lets be unacked.
		if err := s.j.reporter.room(ctx); err != nil {
			return err
		}
		if err := s.ask(ctx); err != nil {
			return err
		}
	}
	return s.receive(true)
}

// ask begins a pull.
func (s *source) ask(ctx context.Context) error {
	pulling, cancel := context.WithTimeout(ctx, s.wait)
	crashpoint.Before(crashpoint.ConsumerFetch)
	pull, err := s.consumer.Fetch(int(min(fetchBatch, s.pending)), jetstream.FetchContext(pulling))
	crashpoint.After(crashpoint.ConsumerFetch)
	if err != nil {
		cancel()
		return fmt.Errorf("pull items of job %s: %w", s.j.id, err)
	}
	s.pull, s.cancel = pull, cancel
	return nil
}

// receive takes what has come of the pull that is under way; where nothing is at
// hand and wait is true it waits for the first of it, until the pull's end.
func (s *source) receive(wait bool) error {
	for s.pull != nil {
		var (
			msg  jetstream.Msg
			more bool
		)
		if wait && len(s.buffer) == 0 {
			msg, more = <-s.pull.Messages()
		} else {
			select {
			case msg, more = <-s.pull.Messages():
			default:
				return nil
			}
		}
		if !more {
			if err := s.pull.Error(); err != nil && len(s.buffer) == 0 {
				// The recovery that follows an empty pull mends it, within its bound.
				s.j.logger.Warn().Err(err).Msg(logevent.ItemsUnreachable)
			}
			s.close()
			return nil
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("pull items of job %s: %w", s.j.id, err)
		}
		it, err := readItem(msg)
		if err != nil {
			return err
		}
		s.pending = meta.NumPending
		s.buffer = append(s.buffer, it)
	}
	return nil
}

func readItem(msg jetstream.Msg) (item, error) {
	stored := new(ledgerlinev1.Item)
	if err := proto.Unmarshal(msg.Data(), stored); err != nil {
		return item{}, park("a stored item on %s is unreadable: %v", msg.Subject(), err)
	}
	id, err := uuid.FromBytes(stored.GetEntryId())
	if err != nil {
		return item{}, park("a stored item on %s has no entry id: %v", msg.Subject(), err)
	}
	it := item{id: id, position: stored.GetPosition(), msg: msg}
	if stored.GetDate() != nil {
		date := stored.GetDate().AsTime()
		it.date = &date
	}
	return it, nil
}
