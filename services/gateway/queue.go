package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/crashpoint"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

const (
	// parallelLooks is how many companies one gateway looks at at a time. Each
	// costs a few requests, and Pleo's rate limit is shared by all of them.
	parallelLooks = 16
	// maxPullWait bounds one request for a detection and with it how long a stop
	// waits for an idle gateway.
	maxPullWait = time.Second
	// pullPause is the wait after a pull that failed.
	pullPause = 500 * time.Millisecond
	// settleTimeout bounds what must still be done for a detection whose lease or
	// process is ending: a start in hand, an ack.
	settleTimeout = 5 * time.Second

	// retryLeast and retryMost bound the growing wait until a detection that could
	// not be carried out is looked at again: soon after a hiccup, and once a minute
	// for each waiting company while the sink is away for hours.
	retryLeast = time.Second
	retryMost  = time.Minute
	// inHandPause is the wait for a company that this gateway is looking at.
	inHandPause = 250 * time.Millisecond
	// foreignPause is the wait with a detection that another gateway's settings
	// are for. Who takes it next is chance, so it is short.
	foreignPause = time.Second
	// jobLife is how long a detection is kept that nobody here serves, or whose
	// job cannot even be read: by then the job has expired.
	jobLife = pleo.DefaultExpiry
)

// detection is the body of a queued wish. What it is about stands in its subject.
type detection struct {
	// CompanyID is whose job it is, where the subject names a job and its company
	// is known.
	CompanyID string `json:"companyId,omitempty"`
	// Ask is what a check asks for.
	Ask request `json:"ask,omitzero"`
	// Reply is where the check's answer goes.
	Reply string `json:"reply,omitempty"`
}

func (d detection) encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode a detection: %w", err)
	}
	return data, nil
}

// take hands detections to looks until ctx ends, and waits for them.
func (g *Gateway) take(ctx context.Context) {
	var looks sync.WaitGroup
	defer looks.Wait()
	slots := make(chan struct{}, parallelLooks)
	for {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		msg, taken, err := g.next(ctx)
		if msg == nil {
			<-slots
			if err != nil && !pause(ctx, pullPause) {
				return
			}
			continue
		}
		looks.Go(func() {
			defer func() { <-slots }()
			g.handle(ctx, msg, taken)
		})
	}
}

// pullWait is the wait of one request: well below the lease, which is counted from
// before it, and by chance. Who has waited longest gets the next detection, and two
// gateways in step would hand a detection that only one serves to the other for
// ever.
func (g *Gateway) pullWait() time.Duration {
	most := min(maxPullWait, g.config.Topology.Lease/4)
	return most/2 + rand.N(most/2+1)
}

// next is the next detection, or nil when none came in pullWait.
func (g *Gateway) next(ctx context.Context) (msg jetstream.Msg, taken time.Time, err error) {
	msg, taken, err = pull.Next(ctx, g.js, subject.StreamDetected, subject.DurableGateway, g.pullWait())
	if err != nil && ctx.Err() == nil {
		g.logger.Warn().Err(err).Msg(logevent.DetectionsUnreachable)
	}
	return msg, taken, err
}

// handle carries out one detection, or hands it back.
func (g *Gateway) handle(ctx context.Context, msg jetstream.Msg, taken time.Time) {
	logger := g.logger.With().Str("detection", msg.Subject()).Logger()
	held, leased := lease.Keep(ctx, g.config.Conn, msg.Reply(), taken, g.config.Topology.Lease, logger)
	err := g.carryOut(leased, msg, logger)
	held.Stop()

	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var wait *laterError
	asked := errors.As(err, &wait)
	trouble := !asked || !wait.expected
	switch {
	case err == nil:
		crashpoint.Before(crashpoint.GatewayAck)
		err = msg.DoubleAck(settle)
		crashpoint.After(crashpoint.GatewayAck)
	case ctx.Err() != nil && trouble:
		// Stopping: another replica goes on at once.
		crashpoint.Before(crashpoint.GatewayReturn)
		err = msg.Nak()
		crashpoint.After(crashpoint.GatewayReturn)
	default:
		delay := retryDelay(msg)
		if asked && wait.in > 0 {
			delay = wait.in
		}
		// Once for a company, not at each look at it: a sink that is away for an
		// hour would fill the log.
		event := logger.Debug()
		if deliveries(msg) <= 1 && trouble {
			event = logger.Warn()
		}
		event.Err(err).Dur("retry_in", delay).Msg(logevent.JobLeftAlone)
		crashpoint.Before(crashpoint.GatewayDelay)
		err = msg.NakWithDelay(delay)
		crashpoint.After(crashpoint.GatewayDelay)
	}
	if err != nil {
		// The lease runs out and the detection comes again: nothing is lost.
		logger.Warn().Err(err).Msg(logevent.DetectionNotSettled)
	}
}

// carryOut does what a detection asks for. nil means that nothing is left to do
// for it.
func (g *Gateway) carryOut(ctx context.Context, msg jetstream.Msg, logger zerolog.Logger) error {
	kind, of, ok := subject.ParseDetected(msg.Subject())
	var d detection
	err := json.Unmarshal(msg.Data(), &d)
	if !ok || err != nil {
		// Nobody but gateways writes here, so nothing of a bookkeeper's is lost.
		logger.Error().AnErr("cause", err).Msg(logevent.DetectionRefused)
		return nil
	}
	switch kind {
	case subject.DetectedPoll, subject.DetectedStart:
		return g.carryOutPoll(ctx, kind, of, msg, logger)
	case subject.DetectedCheck:
		if err = g.answer(ctx, d, logger); errors.Is(err, errForeign) {
			return g.foreign(msg, logger)
		}
		return err
	}
	id, err := subject.ParseID(of)
	if err != nil {
		logger.Error().AnErr("cause", err).Msg(logevent.DetectionRefused)
		return nil
	}
	switch kind {
	case subject.DetectedCompany:
		if !g.serves(id) {
			return g.foreign(msg, logger)
		}
		_, err = g.look(ctx, id, logger)
	case subject.DetectedJob, subject.DetectedResume:
		_, err = g.lookForJob(ctx, id, idOf(d.CompanyID), kind == subject.DetectedResume, logger)
		if err != nil && ctx.Err() == nil && g.dropped(msg, err, logger) {
			return nil
		}
	default:
		// Of a newer version: a gateway that knows it may be running.
		return g.foreign(msg, logger)
	}
	if errors.Is(err, errForeign) {
		return g.foreign(msg, logger)
	}
	return err
}

// errForeign is returned for a company that this gateway does not serve.
var errForeign = errors.New("the company is another gateway's")

// foreign hands a detection back for a gateway with other settings.
func (g *Gateway) foreign(msg jetstream.Msg, logger zerolog.Logger) error {
	if g.dropped(msg, errForeign, logger) {
		return nil
	}
	return later(foreignPause, "%v", errForeign)
}

// dropped tells whether a detection has waited for longer than its job lives.
func (g *Gateway) dropped(msg jetstream.Msg, reason error, logger zerolog.Logger) bool {
	meta, err := msg.Metadata()
	if err != nil || time.Since(meta.Timestamp) <= jobLife {
		return false
	}
	logger.Warn().Err(reason).Dur("waited", time.Since(meta.Timestamp)).Msg(logevent.DetectionDropped)
	return true
}

// idOf is the id that a text names, or uuid.Nil.
func idOf(text string) uuid.UUID {
	id, err := subject.ParseID(text)
	if err != nil {
		return uuid.Nil
	}
	return id
}

func deliveries(msg jetstream.Msg) uint64 {
	meta, err := msg.Metadata()
	if err != nil {
		return 1
	}
	return meta.NumDelivered
}

// retryDelay grows with the deliveries of a detection.
func retryDelay(msg jetstream.Msg) time.Duration {
	const doublings = 6
	return min(retryMost, retryLeast<<min(deliveries(msg)-1, doublings))
}

// hands are the companies that this gateway is looking at. A mark keeps other
// gateways out; this keeps out the other looks of this one, whose mark is the same.
type hands struct {
	mu   sync.Mutex
	held map[uuid.UUID]struct{}
}

func newHands() *hands { return &hands{held: map[uuid.UUID]struct{}{}} }

// take tells whether the company is now in the caller's hand; drop gives it back.
func (h *hands) take(company uuid.UUID) (drop func(), taken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, held := h.held[company]; held {
		return nil, false
	}
	h.held[company] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.held, company)
	}, true
}
