package endtoend

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/reconcile"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// reconcile asks a consumer about a job, as soon as one is there.
func (in *installation) reconcile(job uuid.UUID, fix bool) *reconcile.Report {
	in.t.Helper()
	ctx := in.bounded("no consumer answered")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		report := new(reconcile.Report)
		err := endpoint.Ask(ctx, in.conn, subject.ConsumerReconcile, reconcile.Request{JobID: job.String(), Fix: fix}, report)
		if err == nil {
			return report
		}
		if !errors.Is(err, endpoint.ErrNobody) {
			in.t.Fatal(err)
		}
		<-tick.C
	}
}

// kinds are the findings of a report as "kind fix", each once.
func kinds(r *reconcile.Report) []string {
	found := []string{}
	for _, f := range r.Findings {
		if text := string(f.Kind) + " " + string(f.Fix); !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	return found
}

// A job that ended well shows nothing to do, and its figures agree.
func TestReconcileOfAnEndedJobFindsNothing(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 140})
	in.fetcher()
	in.consumer(&book{})
	job := in.add(simulator.JobSpec{Entries: entries(7)})
	in.publish(job)
	in.completes(job)
	r := in.reconcile(job, true)
	if !r.OK || len(r.Findings) != 0 || len(r.Fixed) != 0 || r.State != "completed" || r.Pleo.Successful != 7 || r.Ledger.Booked != 7 || r.Ledger.End != "completed" {
		t.Errorf("%+v", r)
	}
}

// Results that Pleo has forgotten, of a job that has ended here, are reported
// again from the ledger, and the job closed; nothing is sent to the sink.
func TestReconcileReportsAndClosesAgain(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 141})
	in.fetcher()
	to := &book{}
	in.consumer(to, silently)
	job := in.add(simulator.JobSpec{Entries: entries(5)})
	// Worked here, and told to nobody: as if Pleo had been set back.
	in.publish(job)
	in.ends(job)
	if at := in.job(job); at.Status != simulator.JobInProgress || in.reported(job) != 0 {
		t.Fatalf("it was reported: %s", at.Status)
	}
	r := in.reconcile(job, false)
	if got := kinds(r); r.OK || !slices.Equal(got, []string{"unreported report"}) || r.Pleo.Open != 5 || r.Ledger.Booked != 5 {
		t.Errorf("%v: %+v", got, r)
	}
	if n := in.reported(job); n != 0 {
		t.Errorf("a look without --fix reported %d", n)
	}
	// Pleo accepts the event and shows the job as it was for a while.
	var mu sync.Mutex
	var posts, late int
	var before *httptest.ResponseRecorder
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(next, r)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case postsEvent(r):
			posts++
		case !strings.HasSuffix(r.URL.Path, job.String()):
		case posts > 0 && late < 2:
			late++
			answer = before
		default:
			before = answer
		}
		replay(w, answer)
	})
	r = in.reconcile(job, true)
	if !r.OK || !slices.Equal(r.Fixed, []string{"5 results reported", "the event completed posted"}) {
		t.Errorf("%+v", r)
	}
	mu.Lock()
	defer mu.Unlock()
	if posts != 1 || late != 2 {
		t.Errorf("the event was posted %d times, after %d late readings", posts, late)
	}
	in.completes(job)
	if n := len(to.deliveries()); n != 5 {
		t.Errorf("%d sends, want 5", n)
	}
}

// A parked job, and one whose manifest and event are lost, are found with what
// mends them.
func TestReconcileNamesTheWayOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state func(in *installation, job uuid.UUID)
		want  []string
	}{
		"never heard of": {func(*installation, uuid.UUID) {}, []string{"unknown start"}},
		"parked": {func(in *installation, job uuid.UUID) {
			in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if readsPayload(r) {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				next.ServeHTTP(w, r)
			})
			in.publish(job)
			in.ends(job)
			in.intercept(nil)
		}, []string{"parked retry", "open retry"}},
		"lost": {func(in *installation, job uuid.UUID) {
			in.publish(job)
			in.phase(job, isSealed)
			in.settled(1)
			ctx := in.bounded("")
			pipe, err := in.js.Stream(ctx, subject.StreamPipe)
			if err != nil {
				in.t.Fatal(err)
			}
			if err := pipe.Purge(ctx, jetstream.WithPurgeSubject(subject.Ready(job))); err != nil {
				in.t.Fatal(err)
			}
		}, []string{"lost start"}},
		"cancelled at Pleo": {func(in *installation, job uuid.UUID) {
			in.publish(job)
			in.phase(job, isSealed)
			in.wish(job, pause)
			if err := in.upstream.Cancel(job); err != nil {
				in.t.Fatal(err)
			}
		}, []string{"ended_at_pleo none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 142})
			in.fetcher()
			job := in.add(simulator.JobSpec{Entries: entries(3)})
			c.state(in, job)
			in.consumer(&book{})
			r := in.reconcile(job, false)
			if got := kinds(r); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v: %+v", got, c.want, r)
			}
		})
	}
}
