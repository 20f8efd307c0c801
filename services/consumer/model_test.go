package consumer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/ledgerline/ledgerline/pkg/cas"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/lease"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pull"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

const (
	modelLimit = 4 * time.Minute
	// modelLease never runs out by itself: in the model a lease ends when the model
	// says so.
	modelLease = time.Hour
	// modelWait is for items that a rival has swallowed.
	modelWait = 20 * time.Millisecond
	// minSteps and maxSteps bound one run.
	minSteps, maxSteps = 10, 80
)

// shelf is a sink that refuses stale epochs, with its own record.
type shelf struct {
	epoch  uint64
	booked []sink.Delivery
	keys   map[string]int
}

func (s *shelf) Ready(context.Context) error { return nil }
func (s *shelf) Close() error                { return nil }

func (s *shelf) Deliver(_ context.Context, d sink.Delivery) sink.Answer {
	if d.Epoch < s.epoch {
		return sink.Answer{Outcome: sink.Stale, Detail: "a higher epoch is known"}
	}
	s.epoch = d.Epoch
	s.keys[d.AccountingEntryID]++
	s.booked = append(s.booked, d)
	return sink.Answer{Outcome: sink.Booked, ExternalID: d.AccountingEntryID}
}

// hand is one worker: what it holds, or believes to hold.
type hand struct {
	c   *Consumer
	msg jetstream.Msg // the manifest as it was given to it
	// last is the job's last record as it stood then.
	last *ledger.Entry
	j    *job    // once it has claimed
	src  *source // once it has reset
	it   *item   // fetched and not settled
}

func (h *hand) forget() {
	if h.j != nil {
		h.j.lease.Stop()
	}
	h.msg, h.last, h.j, h.src, h.it = nil, nil, nil, nil, nil
}

// truth is what must be so, in plain memory.
type truth struct {
	holder   *hand         // whom the server gave the manifest, dead or alive
	given    jetstream.Msg // the delivery
	owner    *hand         // whose writes count
	epoch    uint64
	position uint32
	ended    bool
	// stray: somebody made the job's consumer again after its end, and died.
	stray bool
}

// TestOneJobAgainstAModel lets several workers take, claim, reset, fetch, settle,
// assert, beat, freeze, die and finish in any order, each step the consumer's own
// code against a real server and a real ledger, and compares each outcome with a
// model in plain memory. A worker whose lease has ended does not know it.
func TestOneJobAgainstAModel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), modelLimit)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	// The payload's settings and the reports are other tests' matter.
	books := &shelf{}
	hands := make([]*hand, 3)
	for i := range hands {
		c, err := New(Config{
			Conn: js.Conn(), Sink: books, Logger: zerolog.Nop(), Topology: topology.Options{Replicas: 1, Lease: modelLease},
			Worker: fmt.Sprintf("worker %d", i), ConcurrentJobs: 1, Payload: PayloadNone, OnFailure: OnFailureContinue, APITimeout: 10 * time.Second,
		})
		if err == nil {
			err = c.open(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		hands[i] = &hand{c: c}
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(ctx, rt, hands, books)
		for range rapid.IntRange(minSteps, maxSteps).Draw(rt, "steps") {
			m.step(rt)
		}
		m.conclude(rt)
	})
}

type model struct {
	truth
	ctx     context.Context
	hands   []*hand
	books   *shelf
	job     uuid.UUID
	company uuid.UUID
	ids     []uuid.UUID
}

// newModel seals a job of a few items.
func newModel(ctx context.Context, rt *rapid.T, hands []*hand, books *shelf) *model {
	*books = shelf{keys: map[string]int{}}
	for _, h := range hands {
		h.forget() // what a run that failed has left
	}
	clean(ctx, rt, hands[0].c.pipe)
	m := &model{ctx: ctx, hands: hands, books: books, job: uuid.New(), company: uuid.New()}
	c := hands[0].c
	n := rapid.IntRange(1, 6).Draw(rt, "items")
	manifest := &ledgerlinev1.Manifest{
		JobId: m.job.String(), CompanyId: m.company.String(), Run: 1, Attempt: "drain", Count: uint32(n),
		SealedAt: timestamppb.Now(), CreatedAt: timestamppb.Now(), Deadline: timestamppb.New(time.Now().Add(modelLease)), ExpiresInSeconds: int32(modelLease / time.Second),
	}
	digest := sha256.New()
	publish := func(subj string, message proto.Message) uint64 {
		data, err := proto.Marshal(message)
		if err != nil {
			rt.Fatal(err)
		}
		ack, err := c.js.Publish(ctx, subj, data)
		if err != nil {
			rt.Fatal(err)
		}
		return ack.Sequence
	}
	for i := range n {
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
		m.ids = append(m.ids, id)
		digest.Write(id[:])
		manifest.LastSequence = publish(subject.Items(m.job, "drain"), &ledgerlinev1.Item{EntryId: id[:], Position: uint32(i + 1)})
		if i == 0 {
			manifest.FirstSequence = manifest.LastSequence
		}
	}
	manifest.Digest = digest.Sum(nil)
	publish(subject.Ready(m.job), manifest)
	return m
}

// clean removes what a run that failed has left in the stream.
func clean(ctx context.Context, rt *rapid.T, pipe jetstream.Stream) {
	for {
		msg, err := pipe.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject.AllReady))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err == nil {
			err = cas.Remove(ctx, pipe, msg.Sequence)
		}
		if err != nil {
			rt.Fatal(err)
		}
	}
	if err := pipe.Purge(ctx, jetstream.WithPurgeSubject(subject.AllItems)); err != nil {
		rt.Fatal(err)
	}
	names := pipe.ConsumerNames(ctx)
	for name := range names.Name() {
		if name == subject.DurableConsumer {
			continue
		}
		if err := pipe.DeleteConsumer(ctx, name); err != nil {
			rt.Fatal(err)
		}
	}
}

// move is one thing that may happen to a worker, and how often it is to be tried.
type move struct {
	name   string
	often  int
	may    func(*hand) bool
	happen func(*rapid.T, *hand)
}

// moves weigh what brings the job on against what disturbs it, so that most runs
// get into its middle.
func (m *model) moves() []move {
	return []move{
		{"take", 4, func(h *hand) bool { return h.msg == nil && m.holder == nil && !m.ended }, m.take},
		{"expire", 1, func(h *hand) bool { return m.holder == h && !m.ended }, m.expire},
		{"claim", 4, func(h *hand) bool { return h.msg != nil && h.j == nil }, m.claim},
		{"reset", 4, func(h *hand) bool { return h.j != nil && h.src == nil }, m.reset},
		{"fetch", 6, func(h *hand) bool {
			return h.src != nil && h.it == nil && h.j.tenure.Position < h.j.total()
		}, m.fetch},
		{"settle", 6, func(h *hand) bool { return h.it != nil }, m.settle},
		{"assert", 1, func(h *hand) bool { return h.src != nil && h.it == nil && (m.owner != h || !m.ended) }, m.assert},
		{"beat", 1, func(h *hand) bool { return h.msg != nil && !m.ended }, m.beat},
		{"die", 1, func(h *hand) bool { return h.msg != nil }, m.die},
		{"finish", 2, func(h *hand) bool { return h.j != nil && h.j.tenure.Position == h.j.total() && !m.ended }, m.finish},
	}
}

// step draws one of the moves that are possible.
func (m *model) step(rt *rapid.T) {
	type choice struct {
		move   move
		worker int
	}
	var choices []choice
	var names []string
	for _, mv := range m.moves() {
		for i, h := range m.hands {
			for range mv.often {
				if mv.may(h) {
					choices, names = append(choices, choice{mv, i}), append(names, fmt.Sprintf("worker %d: %s", i, mv.name))
				}
			}
		}
	}
	if len(choices) == 0 {
		return // the job has ended and nobody holds anything
	}
	n := rapid.IntRange(0, len(choices)-1).Draw(rt, "move")
	rt.Log(names[n])
	choices[n].move.happen(rt, m.hands[choices[n].worker])
}

// write checks a step that writes to the ledger: it passes for the owner, and for
// nobody else.
func (m *model) write(rt *rapid.T, h *hand, what string, err error) bool {
	if m.owner == h {
		if err != nil {
			rt.Fatalf("%s by the owner: %v", what, err)
		}
		return true
	}
	if !errors.Is(err, ledger.ErrFenced) && !errors.Is(err, errStale) {
		rt.Fatalf("%s by a worker that was fenced: %v", what, err)
	}
	if errors.Is(err, ledger.ErrFenced) {
		h.c.settle(h.j, err)
	}
	h.forget()
	return false
}

// take: the server gives the manifest to whoever asks while nobody has it.
func (m *model) take(rt *rapid.T, h *hand) {
	msg, _, err := pull.Next(m.ctx, h.c.js, subject.StreamPipe, subject.DurableConsumer, pullWait*10)
	if err != nil || msg == nil || msg.Subject() != subject.Ready(m.job) {
		rt.Fatalf("the manifest is nobody's and does not come: %v %v", msg, err)
	}
	h.msg, h.last, m.holder, m.given = msg, m.last(rt), h, msg
}

// last is the job's last record.
func (m *model) last(rt *rapid.T) *ledger.Entry {
	last, err := m.hands[0].c.ledger.Last(m.ctx, m.company, m.job)
	if err != nil {
		rt.Fatal(err)
	}
	return last
}

// expire: the lease is over; the server gives the manifest to the next one, and
// the holder knows nothing of it.
func (m *model) expire(rt *rapid.T, _ *hand) {
	m.giveBack(rt)
}

// giveBack makes the server give the manifest to the next one. The message in the
// holder's hand is left as it is.
func (m *model) giveBack(rt *rapid.T) {
	if _, err := m.holder.c.config.Conn.RequestWithContext(m.ctx, m.given.Reply(), []byte("-NAK")); err != nil {
		rt.Fatal(err)
	}
	m.holder, m.given = nil, nil
}

// claim: the last one to claim is the owner, however long ago it took the manifest;
// but not where somebody has written since it did.
func (m *model) claim(rt *rapid.T, h *hand) {
	j, err := h.c.readManifest(m.ctx, h.msg)
	if err != nil {
		rt.Fatal(err)
	}
	now := m.last(rt)
	overtaken := (now == nil) != (h.last == nil) || now != nil && now.Sequence != h.last.Sequence
	j.last = h.last
	j.tenure, err = h.c.claimer.Claim(m.ctx, j.claimRequest(0))
	if overtaken {
		if !errors.Is(err, ledger.ErrFenced) {
			rt.Fatalf("somebody has written since the manifest came, and it is claimed: %v", err)
		}
		h.c.settle(j, err)
		h.forget()
		return
	}
	if err != nil || j.tenure.Epoch != m.epoch+1 || j.tenure.Position != m.position {
		rt.Fatalf("claimed %+v, must be epoch %d and position %d: %v", j.tenure, m.epoch+1, m.position, err)
	}
	j.lease, _ = lease.Keep(m.ctx, h.c.config.Conn, h.msg.Reply(), time.Now(), modelLease, j.logger)
	h.j, m.owner, m.epoch = j, h, j.tenure.Epoch
	if err := j.recall(m.ctx); err != nil {
		rt.Fatal(err)
	}
	if err := j.learnDeadline(m.ctx); err != nil {
		rt.Fatal(err)
	}
	j.reporter = startReporter(m.ctx, j, func(error) {})
}

// reset: whoever has claimed resets, also one that was fenced since.
func (m *model) reset(rt *rapid.T, h *hand) {
	src, err := h.j.openSource(m.ctx)
	if err != nil {
		rt.Fatal(err)
	}
	src.wait, src.pause = modelWait, modelWait/10
	h.src = src
}

// fetch: the owner gets the item after the last one that is settled, whatever its
// rivals have swallowed; a fenced worker gets its own next one, or is told.
func (m *model) fetch(rt *rapid.T, h *hand) {
	it, err := h.src.next(m.ctx)
	if err != nil {
		m.write(rt, h, "a fetch", err)
		return
	}
	if want := h.j.tenure.Position + 1; it.position != want || it.id != m.ids[want-1] || (m.owner == h && want != m.position+1) {
		rt.Fatalf("owner %v got item %d, %s, must be %d", m.owner == h, it.position, it.id, want)
	}
	h.it = &it
}

// settle: the item is sent and recorded. One that was fenced may still send the
// item that its last record has announced, and never records it.
func (m *model) settle(rt *rapid.T, h *hand) {
	announced, sent := h.j.announced != nil, len(m.books.booked)
	err := h.j.step(m.ctx, h.src, *h.it)
	if n := len(m.books.booked) - sent; m.owner != h && (n > 1 || n == 1 && !announced) {
		rt.Fatalf("a fenced worker sent %d items, announced %v", n, announced)
	}
	if m.write(rt, h, "a settlement", err) {
		h.it = nil
		m.position++
	}
}

// assert: ownership is asserted and the job's consumer reset, as after a gap.
func (m *model) assert(rt *rapid.T, h *hand) {
	h.src.resets = 0
	m.write(rt, h, "an assertion", h.src.recover(m.ctx))
}

// beat: a heartbeat of whoever believes to hold the manifest changes nothing.
func (m *model) beat(rt *rapid.T, h *hand) {
	if _, err := h.c.config.Conn.RequestWithContext(m.ctx, h.msg.Reply(), []byte("+WPI")); err != nil {
		rt.Fatal(err)
	}
}

// die: the worker forgets everything, and nobody is told.
func (m *model) die(rt *rapid.T, h *hand) {
	if m.owner == h {
		m.owner = nil
	}
	m.stray = m.stray || m.ended && h.src != nil
	h.forget()
}

// finish: the last record, after the last item; then nothing is left.
func (m *model) finish(rt *rapid.T, h *hand) {
	if m.write(rt, h, "the end", h.j.end(m.ctx, &endError{phase: ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED})) {
		m.ended, m.owner = true, nil
		if err := h.j.release(m.ctx); err != nil {
			rt.Fatal(err)
		}
		h.forget()
	}
}

// conclude lets one more worker bring the job to its end, and judges the sink's
// record.
func (m *model) conclude(rt *rapid.T) {
	for _, h := range m.hands {
		defer h.forget()
	}
	c := m.hands[0].c
	if !m.ended {
		m.sleep(rt)
		m.bring(rt)
	}
	// Who still believes to have the job finds out, and leaves nothing behind.
	for _, h := range m.hands {
		if h.j == nil {
			continue
		}
		if h.src == nil {
			m.reset(rt, h)
		}
		m.write(rt, h, "an assertion", h.src.recover(m.ctx))
	}
	m.onlyDurable(rt)
	// Every item once, in order; at a takeover the one in doubt again.
	var last sink.Delivery
	for _, d := range m.books.booked {
		if next := d.Position == last.Position+1; !next && (d.Position != last.Position || d.Epoch <= last.Epoch || d.Attempt <= last.Attempt) {
			rt.Fatalf("position %d, epoch %d, attempt %d came after %d, %d, %d", d.Position, d.Epoch, d.Attempt, last.Position, last.Epoch, last.Attempt)
		}
		last = d
	}
	if int(last.Position) != len(m.ids) || len(m.books.keys) != len(m.ids) {
		rt.Fatalf("%d of %d items are booked, the last at position %d", len(m.books.keys), len(m.ids), last.Position)
	}
	info, err := c.pipe.Info(m.ctx, jetstream.WithSubjectFilter(">"))
	if err != nil || info.State.Msgs != 0 {
		rt.Fatalf("%d messages are left: %v", info.State.Msgs, err)
	}
}

// onlyDurable sees that no job's consumer is left, but for one that goes by itself.
func (m *model) onlyDurable(rt *rapid.T) {
	left := m.hands[0].c.pipe.ListConsumers(m.ctx)
	for info := range left.Info() {
		if info.Name != subject.DurableConsumer && (!m.stray || info.Config.InactiveThreshold != strayAge) {
			rt.Errorf("consumer %s is left", info.Name)
		}
	}
	if err := left.Err(); err != nil {
		rt.Fatal(err)
	}
}

// sleep is a worker that claims and is frozen before it resets.
func (m *model) sleep(rt *rapid.T) {
	if m.holder != nil {
		m.giveBack(rt)
	}
	h := m.hands[len(m.hands)-1]
	h.forget()
	m.take(rt, h)
	m.claim(rt, h)
}

// bring is a worker to which nothing happens.
func (m *model) bring(rt *rapid.T) {
	must := func(err error) {
		if err != nil {
			rt.Fatal(err)
		}
	}
	if m.holder != nil {
		m.giveBack(rt)
	}
	c := m.hands[0].c
	msg, taken, err := pull.Next(m.ctx, c.js, subject.StreamPipe, subject.DurableConsumer, pullWait*10)
	must(err)
	j, err := c.readManifest(m.ctx, msg)
	must(err)
	j.last = m.last(rt)
	j.tenure, err = c.claimer.Claim(m.ctx, j.claimRequest(0))
	must(err)
	j.lease, _ = lease.Keep(m.ctx, c.config.Conn, msg.Reply(), taken, modelLease, j.logger)
	defer j.lease.Stop()
	m.owner = nil
	must(j.work(m.ctx))
	must(j.release(m.ctx))
}

// TestMain sees that no test leaves a goroutine behind, and runs the model a few dozen times, unless told otherwise: each run is
// some dozens of requests to a real server.
func TestMain(m *testing.M) {
	if err := modelChecks(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// modelChecks sets the usual number of runs; -rapid.checks on the command line is
// parsed later and counts.
func modelChecks() error {
	const usual = "40"
	return flag.Set("rapid.checks", usual)
}
