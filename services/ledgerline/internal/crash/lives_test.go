package crash

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/steer"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// life is what a small installation lives through up to a step, and after the
// death there.
type life struct {
	// at is which times the process gets to its point it dies, once each, in an
	// installation of its own; without any it is the first.
	at []int
	// environ is added to the service's.
	environ []string
	// begin makes what leads to the step. It runs beside the process under test.
	begin func(b *bed)
	// died is what changes before the service is started again.
	died func(b *bed)
	// pleo is how every job ends at Pleo; empty is completed.
	pleo string
	// parked is how many jobs and events are parked in the end.
	parked int
	// order is the fetcher's; empty is by date.
	order fetcher.Order
	// alone: no other service lives beside it at first.
	alone bool
	// phase is how every job ends here; 0 is completed, or parked where something is.
	phase ledgerlinev1.JobPhase
}

// times is l at others of the times that it gets to its point.
func (l life) times(n ...int) life {
	l.at = n
	return l
}

// deaths are the times of its point at which the process dies.
func (l life) deaths() []int {
	if len(l.at) == 0 {
		return []int{1}
	}
	return l.at
}

// smallJob has several pages, and several batches in a fetcher that is to die.
const smallJob = 8

func items(n int) *int { return &n }

// lives are the steps, each with a life that leads to it. A step before which and
// after which nothing differs has the same one.
var lives = map[string]life{
	// At the start a gateway stores the wish to poll, and lists jobs for it: the
	// second time is the webhook's.
	"gateway/store":   announced.times(2),
	"gateway/list":    announced.times(2),
	"gateway/mark":    announced,
	"gateway/start":   announced,
	"gateway/publish": announced,
	"gateway/state":   announced,
	"gateway/ack":     announced.times(2),
	"gateway/park":    refusedAtStart,
	"gateway/return":  stopped(looksAtCompany, func(b *bed) { b.add(simulator.JobSpec{Items: items(smallJob)}) }),
	"gateway/delay":   sinkAway,
	"gateway/answer":  checked,

	"fetcher/ack":    started,
	"fetcher/return": stopped(readsItems, startJob),
	"fetcher/delay":  unreadableRecord,

	"fetcher/start": started,
	"fetcher/note":  started,
	"fetcher/items": started,
	"fetcher/page":  started.times(2),
	"fetcher/dates": started,
	"fetcher/fail":  unmapped,

	// Before and after each batch: the second and the third time are those of a drain
	// that has staged a part of its job.
	"fetcher/stage":   stagedInPart.times(1, 2, 3),
	"fetcher/seal":    started,
	"fetcher/sealed":  started,
	"fetcher/discard": raced,

	"fetcher/park-event": nonsense,
	"fetcher/park-ack":   nonsense,
	"fetcher/park-state": unmapped,
	"fetcher/park-job":   unmapped,
	"fetcher/park-end":   furtherRefused,
	"fetcher/tell-park":  untold,
	"fetcher/tell":       untold,

	"consumer/drain-claim":  furtherRefused,
	"consumer/drain-fold":   furtherRefused,
	"consumer/drain-end":    furtherRefused,
	"consumer/cancel-claim": cancelledEarly,
	"consumer/cancel":       cancelled,
	"consumer/mend-report":  mended,
	"consumer/mend-close":   mended,

	"consumer/claim":       started,
	"consumer/note":        started,
	"consumer/refuse":      strangeManifest,
	"consumer/refuse-ack":  strangeManifest,
	"consumer/refuse-late": newerManifest,

	"consumer/payload": started,
	"consumer/create":  started,
	"consumer/reset":   started,
	"consumer/rewind":  rival,
	"consumer/own":     rival,
	"consumer/fetch":   started,

	"consumer/send":   started.times(3),
	"consumer/record": started.times(3),

	"consumer/report":   started,
	"consumer/item-ack": started.times(2),
	"consumer/strike":   partlyRefused,
	"consumer/statuses": started,
	"consumer/fail":     unmappedLater,

	"consumer/close":    started,
	"consumer/park":     unmappedLater,
	"consumer/fold":     started,
	"consumer/end":      started,
	"consumer/delete":   started,
	"consumer/purge":    started,
	"consumer/further":  late,
	"fetcher/further":   late,
	"consumer/release":  started,
	"consumer/manifest": started,
	"consumer/return":   stoppedAtAnItem,
	"consumer/stale":    stale,
	"consumer/delay":    unreadableBookings,

	"fetcher/orphans": orphans,
	"fetcher/again":   lost,
	"fetcher/offer":   forgotten,
	"fetcher/offered": forgotten,
	"fetcher/remove":  leftOver,
	"fetcher/give-up": strangeManifest,
}

// alive starts the services beside the one that dies.
func (b *bed) alive(service string) {
	if b.life.alone {
		return
	}
	if service != "fetcher" {
		b.fetcher(cmp.Or(b.life.order, fetcher.OrderDate))
	}
	if service != "consumer" {
		b.consumer()
	}
}

// startJob is somebody's event for a job that waits at Pleo.
func startJob(b *bed) { b.event(b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true})) }

var (
	// announced is a job's usual life from its webhook on.
	announced = life{begin: func(b *bed) { b.add(simulator.JobSpec{Items: items(smallJob)}) }}

	// started is a job's usual life from its event on.
	started = life{begin: startJob}

	// stagedInPart: the fetcher dies when some of the job's batches are stored, or
	// all of them, and no manifest names them.
	stagedInPart = life{begin: startJob, died: func(b *bed) {
		job := b.sim.Snapshot().Jobs[0].ID
		if _, err := b.stream(subject.StreamPipe).GetLastMsgForSubject(b.ctx(), subject.Ready(job)); !errors.Is(err, jetstream.ErrMsgNotFound) {
			b.t.Errorf("the manifest of a job that is staged in part: %v", err)
		}
		if received := b.sink.of(job); len(received) > 0 {
			b.t.Errorf("%d items of a job that is staged in part were sent", len(received))
		}
	}}

	// refusedAtStart: Pleo does not let the job be started.
	refusedAtStart = life{
		pleo: simulator.JobPending, parked: 1,
		begin: func(b *bed) {
			b.front.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Method == http.MethodPost {
					http.Error(w, `{"type":"BAD_REQUEST","message":"not this job"}`, http.StatusBadRequest)
					return
				}
				next.ServeHTTP(w, r)
			})
			b.add(simulator.JobSpec{Items: items(smallJob)})
		},
	}

	// sinkAway: no job is started while the sink is not ready.
	sinkAway = life{begin: func(b *bed) {
		b.sink.away = func() bool { return !b.died() }
		b.add(simulator.JobSpec{Items: items(smallJob)})
	}}

	// checked: somebody asks for a look and waits for the answer.
	checked = life{begin: func(b *bed) {
		job := b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true})
		b.until("a gateway has heard", func() bool {
			_, err := b.conn.Request(subject.GatewayCheck, []byte(`{"jobId":"`+job.String()+`"}`), time.Second)
			return !errors.Is(err, nats.ErrNoResponders)
		})
	}}

	// unreadableRecord: what stands in the ledger cannot be read, for now.
	unreadableRecord = life{
		begin: func(b *bed) {
			job := b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true})
			b.publish(subject.Ledger(b.sim.Company(0), job), []byte("no record"))
			b.event(job)
		},
		died: func(b *bed) { b.purge(subject.StreamLedger, subject.AllLedger) },
	}

	// unreadableBookings: the same for what the company booked before.
	unreadableBookings = life{
		begin: func(b *bed) {
			b.publish(subject.Booked(b.sim.Company(0), uuid.New()), []byte("no bookings"))
			startJob(b)
		},
		died: func(b *bed) { b.purge(subject.StreamLedger, subject.AllBooked) },
	}

	// unmapped: Pleo refuses the payload, since an account is not mapped.
	unmapped = life{
		pleo: simulator.JobFailed, parked: 1,
		begin: func(b *bed) {
			if err := b.sim.SetFaults(simulator.FaultPlan{{Fault: simulator.FaultContraAccounts, Rate: 1, Mode: simulator.FaultAlways}}); err != nil {
				b.t.Fatal(err)
			}
			startJob(b)
		},
	}

	// unmappedLater: the fetcher reads no payload for this order, and leaves the
	// refusal to the consumer.
	unmappedLater = life{pleo: unmapped.pleo, parked: 1, order: fetcher.OrderEntry, begin: unmapped.begin}

	// partlyRefused: Pleo refuses results, one and all, once.
	partlyRefused = life{begin: func(b *bed) {
		if err := b.sim.SetFaults(simulator.FaultPlan{{Fault: simulator.FaultPartialErrors, Rate: 1, Mode: simulator.FaultOnce}}); err != nil {
			b.t.Fatal(err)
		}
		startJob(b)
	}}

	// raced: two events of one job are drained at once; one drain is for nothing.
	raced = life{begin: func(b *bed) {
		both := make(chan struct{})
		var readers atomic.Int64
		b.front.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !b.died() && readsItems(r) {
				if readers.Add(1) == 2 {
					close(both)
				}
				select {
				case <-both:
				case <-r.Context().Done():
				}
			}
			next.ServeHTTP(w, r)
		})
		job := b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true})
		b.event(job)
		b.event(job)
	}}

	// nonsense: an event that nobody can understand.
	nonsense = life{parked: 1, begin: func(b *bed) { b.publish(subject.JobStarted, []byte("no event")) }}

	// strangeManifest: a manifest that nobody can read.
	strangeManifest = life{parked: 1, begin: func(b *bed) { b.publish(subject.Ready(uuid.New()), []byte("no manifest")) }}

	// newerManifest: one that is a newer version's business.
	newerManifest = life{
		begin: func(b *bed) {
			data, err := proto.Marshal(&ledgerlinev1.Manifest{MinReader: ledger.Version + 1})
			if err != nil {
				b.t.Fatal(err)
			}
			b.publish(subject.Ready(uuid.New()), data)
		},
		died: func(b *bed) { b.purge(subject.StreamPipe, subject.AllReady) },
	}

	// late: an item that only the closing re-read shows makes a further run.
	late = life{begin: func(b *bed) {
		var shown atomic.Bool
		b.sink.meet = func(delivery) int {
			shown.Store(true)
			return 0
		}
		b.hideOne(func() bool { return !shown.Load() })
		b.event(b.add(simulator.JobSpec{Items: items(3), NumberOfItems: items(2), Quiet: true}))
	}}

	// furtherRefused: the further run is refused, and the job parked.
	furtherRefused = life{
		pleo: simulator.JobInProgress, parked: 1,
		begin: func(b *bed) {
			var shown, reread atomic.Bool
			b.sink.meet = func(delivery) int {
				shown.Store(true)
				return 0
			}
			hide := b.hideOne(func() bool { return !shown.Load() })
			b.front.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if readsItems(r) && shown.Load() {
					// The first of them that begins anew is the closing re-read's.
					if reread.Load() && r.URL.Query().Get("after") == "" {
						http.Error(w, `{"type":"FORBIDDEN","message":"no more"}`, http.StatusForbidden)
						return
					}
					reread.Store(true)
				}
				hide(w, r, next)
			})
			b.event(b.add(simulator.JobSpec{Items: items(3), NumberOfItems: items(2), Quiet: true}))
		},
	}

	// untold: the ledger has the end of a job, and nobody was told of it.
	untold = life{
		pleo: simulator.JobInProgress, parked: 1,
		begin: func(b *bed) {
			job := b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true, Status: simulator.JobInProgress})
			book, err := ledger.Open(b.ctx(), b.js)
			if err != nil {
				b.t.Fatal(err)
			}
			tenure, err := book.Claim(b.ctx(), ledger.ClaimRequest{Company: b.sim.Company(0), Job: job, Run: 1, Worker: "dead", Attempt: "gone", Total: smallJob})
			if err == nil {
				err = tenure.Append(b.ctx(), &ledgerlinev1.LedgerRecord{End: &ledgerlinev1.End{Phase: ledgerlinev1.JobPhase_JOB_PHASE_PARKED, Reason: "as it was"}})
			}
			if err != nil {
				b.t.Fatal(err)
			}
			b.open(job)
			b.event(job)
		},
	}

	// cancelled: an operator cancels the job while the sink has an item.
	cancelled = life{
		pleo: simulator.JobFailed, phase: ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED,
		begin: func(b *bed) {
			var once sync.Once
			b.sink.meet = func(d delivery) int {
				if d.Position == 3 {
					once.Do(func() { b.cancel(d.JobID) })
				}
				return 0
			}
			startJob(b)
		},
	}

	// cancelledEarly: the same for a job that is still being drained.
	cancelledEarly = life{
		pleo: simulator.JobFailed, phase: ledgerlinev1.JobPhase_JOB_PHASE_CANCELLED,
		begin: func(b *bed) {
			drained := make(chan struct{})
			var once sync.Once
			b.front.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if readsItems(r) && !b.died() {
					once.Do(func() { close(drained) })
					select {
					case <-b.proc.ended:
					case <-r.Context().Done():
					}
				}
				next.ServeHTTP(w, r)
			})
			startJob(b)
			<-drained
			b.cancel(b.sim.Snapshot().Jobs[0].ID)
		},
	}

	// mended: Pleo was told nothing, and somebody wants that put right.
	mended = life{
		environ: []string{"LEDGERLINE_REPORT=false"},
		begin: func(b *bed) {
			startJob(b)
			b.ends()
			b.reconcile()
		},
		died: func(b *bed) { b.mend = true },
	}

	// rival: somebody else pulls and acks items of the job.
	rival = life{begin: func(b *bed) {
		const pulled = 64 // the first batch; the next is pulled when few of it are left
		job := b.add(simulator.JobSpec{Items: items(pulled + 6), Quiet: true})
		var once sync.Once
		b.sink.meet = func(d delivery) int {
			if d.Position == 1 {
				once.Do(func() { b.swallow(job, 6) })
			}
			return 0
		}
		b.event(job)
	}}

	// stoppedAtAnItem: the process is to stop while the sink has an item.
	stoppedAtAnItem = life{begin: func(b *bed) {
		var once sync.Once
		b.sink.meet = func(d delivery) int {
			if d.Position == 3 {
				once.Do(b.terminate)
			}
			return 0
		}
		startJob(b)
	}}

	// stale: the sink says that it knows a higher epoch.
	stale = life{begin: func(b *bed) {
		var once sync.Once
		b.sink.meet = func(d delivery) (status int) {
			if d.Position == 3 {
				once.Do(func() { status = http.StatusPreconditionFailed })
			}
			return status
		}
		startJob(b)
	}}

	// orphans: items that no manifest names.
	orphans = life{begin: func(b *bed) { b.publish(subject.Items(uuid.New(), "left"), []byte("an item")) }}

	// lost: a job stands open here and nothing of it is stored.
	lost = life{begin: func(b *bed) {
		job := b.add(simulator.JobSpec{Items: items(smallJob), Quiet: true, Status: simulator.JobInProgress})
		b.open(job)
	}}

	// forgotten: the server holds a manifest for acked whose run has not ended.
	forgotten = life{
		alone: true,
		begin: func(b *bed) {
			startJob(b)
			b.ackManifest()
		},
		died: func(b *bed) { b.consumer() },
	}

	// leftOver: a manifest stays behind although its run has ended.
	leftOver = life{
		alone: true,
		begin: func(b *bed) {
			startJob(b)
			job := b.sim.Snapshot().Jobs[0].ID
			var manifest []byte
			b.until("the job is sealed", func() bool {
				msg, err := b.stream(subject.StreamPipe).GetLastMsgForSubject(b.ctx(), subject.Ready(job))
				if err == nil {
					manifest = msg.Data
				}
				return err == nil
			})
			stop := b.consumer()
			b.empty(subject.StreamPipe)
			stop()
			b.publish(subject.Ready(job), manifest)
			b.ackManifest()
		},
		died: func(b *bed) { b.consumer() },
	}
)

func readsItems(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/items")
}

// looksAtCompany is the listing of one company's jobs, not that of a poll.
func looksAtCompany(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/export-jobs") && r.URL.Query().Get("company_id") != ""
}

// stopped: the process is to stop while it waits for an answer of Pleo's.
func stopped(waits func(*http.Request) bool, begin func(*bed)) life {
	return life{begin: func(b *bed) {
		var once sync.Once
		b.front.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if waits(r) && !b.died() {
				once.Do(b.terminate)
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
		})
		begin(b)
	}}
}

// open makes a job one that is being drained here.
func (b *bed) open(job uuid.UUID) {
	b.t.Helper()
	states, err := jobstate.Open(b.ctx(), b.js)
	if err == nil {
		_, err = states.Update(b.ctx(), job, func(s *ledgerlinev1.JobState) error {
			s.Phase, s.Run, s.CompanyId = ledgerlinev1.JobPhase_JOB_PHASE_DRAINING, 1, b.sim.Company(0).String()
			return nil
		})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// cancel is an operator's wish.
func (b *bed) cancel(job uuid.UUID) {
	wishes, err := steer.Open(b.ctx(), b.js)
	if err == nil {
		_, err = wishes.Cancel(b.ctx(), job)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// reconcile has a consumer report and close what Pleo has open. Whoever was asked
// may die of it.
func (b *bed) reconcile() {
	b.t.Helper()
	ask := reconcile.Request{JobID: b.sim.Snapshot().Jobs[0].ID.String(), Fix: true}
	b.until("a consumer has done it", func() bool {
		asking, cancel := context.WithTimeout(b.ctx(), patience/4)
		defer cancel()
		return endpoint.Ask(asking, b.conn, subject.ConsumerReconcile, ask, nil) == nil || b.ended()
	})
}

func (b *bed) purge(stream, subj string) {
	b.t.Helper()
	if err := b.stream(stream).Purge(b.ctx(), jetstream.WithPurgeSubject(subj)); err != nil {
		b.t.Fatal(err)
	}
}

// hideOne leaves one item out of the pages of job items while hidden is true.
func (b *bed) hideOne(hidden func() bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	hook := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !readsItems(r) || !hidden() {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var page struct {
			Data       []json.RawMessage `json:"data"`
			Pagination json.RawMessage   `json:"pagination"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil {
			b.t.Error(err)
		}
		hide := b.sim.Snapshot().Jobs[0].Items[1].AccountingEntryID.String()
		kept := []json.RawMessage{}
		for _, row := range page.Data {
			if !bytes.Contains(row, []byte(hide)) {
				kept = append(kept, row)
			}
		}
		page.Data = kept
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.Code)
		if err := json.NewEncoder(w).Encode(page); err != nil {
			b.t.Log(err) // the asker may be dead
		}
	}
	b.front.intercept(hook)
	return hook
}

// swallow pulls n items of a job and acks them.
func (b *bed) swallow(job uuid.UUID, n int) {
	durable, err := b.js.Consumer(b.ctx(), subject.StreamPipe, subject.DurableJob(job))
	if err != nil {
		b.t.Error(err)
		return
	}
	batch, err := durable.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		b.t.Error(err)
		return
	}
	got := 0
	for msg := range batch.Messages() {
		got++
		if err := msg.DoubleAck(b.ctx()); err != nil {
			b.t.Error(err)
		}
	}
	if got != n {
		b.t.Errorf("the rival got %d of %d items", got, n)
	}
}

// ackManifest takes the manifest that waits and acks it, as if it were done with.
func (b *bed) ackManifest() {
	b.t.Helper()
	durable, err := b.js.Consumer(b.ctx(), subject.StreamPipe, subject.DurableConsumer)
	if err != nil {
		b.t.Fatal(err)
	}
	b.until("a manifest was taken", func() bool {
		batch, err := durable.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return false
		}
		msg, came := <-batch.Messages()
		if !came {
			return false
		}
		if err := msg.DoubleAck(b.ctx()); err != nil {
			b.t.Fatal(err)
		}
		return true
	})
}
