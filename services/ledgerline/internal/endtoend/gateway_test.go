package endtoend

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// signingKey signs the simulator's webhooks.
var signingKey = []byte("a signing key for the whole file")

// door is where the simulator's webhooks arrive: one address, behind which the
// gateways of a test take turns.
type door struct {
	url string

	mu       sync.Mutex
	gateways []http.Handler
	turn     int
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{}
	web := httptest.NewServer(d)
	t.Cleanup(web.Close)
	d.url = web.URL + gateway.WebhookPath
	return d
}

func (d *door) webhooks(change ...func(*simulator.WebhookConfig)) simulator.WebhookConfig {
	c := simulator.WebhookConfig{
		URL: d.url, Secret: "whsec_" + base64.StdEncoding.EncodeToString(signingKey), RetryBase: 50 * time.Millisecond,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func (d *door) add(h http.Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gateways = append(d.gateways, h)
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	var next http.Handler = &gateway.Late{}
	if len(d.gateways) > 0 {
		d.turn++
		next = d.gateways[d.turn%len(d.gateways)]
	}
	d.mu.Unlock()
	next.ServeHTTP(w, r)
}

// gateway starts a gateway behind the door.
func (d *door) gateway(in *installation, change ...func(*gateway.Config)) (*worker, string) {
	in.t.Helper()
	name := ""
	w := in.run(func(conn *nats.Conn) (func(context.Context) error, error) {
		config := gateway.Config{
			Conn: conn, Pleo: in.client(), Logger: in.logger(), Topology: in.topology(),
			Name: "gateway-" + uuid.NewString()[:8], APITimeout: topology.APITimeout(testLease),
			SigningKeys: func() ([][]byte, error) { return [][]byte{signingKey}, nil },
		}
		for _, c := range change {
			c(&config)
		}
		name = config.Name
		g, err := gateway.New(config)
		if err != nil {
			return nil, err
		}
		d.add(g.Handler())
		return g.Run, nil
	})
	return w, name
}

func startsNothing(c *fetcher.Config) { c.StartJobs = false }

func polls(interval time.Duration) func(*gateway.Config) {
	return func(c *gateway.Config) { c.PollInterval = interval }
}

// startedOnce insists that every job was started once, by us, that the jobs of a
// company were started by age, and that no two of them overlapped.
func (in *installation) startedOnce() {
	in.t.Helper()
	snapshot := in.upstream.Snapshot()
	for _, problem := range snapshot.Problems() {
		in.t.Error(problem)
	}
	last := map[uuid.UUID]simulator.JobSnapshot{}
	for _, j := range snapshot.Jobs { // oldest first
		n := 0
		for _, e := range j.Events {
			if e.Event == simulator.EventStarted {
				n++
			}
		}
		if n != 1 {
			in.t.Errorf("job %s was started %d times", j.ID, n)
		}
		if before, found := last[j.CompanyID]; found && j.StartedAt.Before(before.StartedAt) {
			in.t.Errorf("company %s: job %s was started before the older %s", j.CompanyID, j.ID, before.ID)
		}
		last[j.CompanyID] = j
	}
}

// The whole round trip: webhooks, of which some come twice, some are forged, and
// all are spelled and wrapped in every way, and polls; two gateways, two fetchers,
// two consumers; 50 companies with three jobs each, made while all that runs.
func TestTheRoundTripBeginsWithTheWebhook(t *testing.T) {
	t.Parallel()
	const companies, each = 50, 3
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 7, Webhook: d.webhooks(func(w *simulator.WebhookConfig) {
		w.EventTypes, w.Wrap = simulator.WebhookSpellings, simulator.WrapMixed
		w.DuplicateRate, w.WrongSignatureRate = 0.3, 0.3
	})})
	to := &book{}
	for range 2 {
		d.gateway(in, polls(500*time.Millisecond))
		in.fetcher(startsNothing)
		in.consumer(to, payloadNone)
	}
	var jobs []uuid.UUID
	began := in.upstream.Now().Add(-companies * each * time.Second)
	for n := range companies * each {
		jobs = append(jobs, in.add(simulator.JobSpec{
			CompanyID: in.upstream.Company(n % companies), Items: items(2), Status: simulator.JobPending,
			CreatedAt: began.Add(time.Duration(n) * time.Second),
		}))
	}
	in.completes(jobs...)
	in.startedOnce()
	for _, j := range in.upstream.Snapshot().Jobs {
		if j.Refusals.Events != 0 {
			t.Errorf("job %s refused %d events", j.ID, j.Refusals.Events)
		}
		to.once(in, j.ID, 2)
	}
	codes := map[string]map[int]int{}
	for _, delivery := range in.upstream.WebhookDeliveries() {
		if codes[delivery.Kind] == nil {
			codes[delivery.Kind] = map[int]int{}
		}
		codes[delivery.Kind][delivery.Code]++
	}
	for kind, got := range codes {
		// 503 until a gateway has made the stream.
		delete(got, http.StatusServiceUnavailable)
		want := http.StatusNoContent
		if kind == "wrong signature" {
			want = http.StatusUnauthorized
		}
		if keys := slices.Collect(maps.Keys(got)); !slices.Equal(keys, []int{want}) {
			t.Errorf("webhooks of the kind %q were answered %v", kind, got)
		}
	}
	if len(codes) != 3 {
		t.Errorf("kinds of webhooks: %v", codes)
	}
}

// The same with an upstream that fails as upstreams do: lost replies to "started",
// stale reads after it, cut listings. Only webhooks.
func TestTheRoundTripThroughAStorm(t *testing.T) {
	t.Parallel()
	faults, err := simulator.ParseFaults("some,lost-reply@0.3,stale-read@0.3")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 11, Faults: faults, Webhook: d.webhooks()})
	to := &book{}
	for range 2 {
		d.gateway(in)
	}
	in.fetcher(startsNothing)
	in.consumer(to, payloadNone)
	began := in.upstream.Now().Add(-time.Minute)
	var jobs []uuid.UUID
	for n := range 12 {
		jobs = append(jobs, in.add(simulator.JobSpec{
			CompanyID: in.upstream.Company(n % 4), Items: items(3), Status: simulator.JobPending,
			CreatedAt: began.Add(time.Duration(n) * time.Second),
		}))
	}
	in.completes(jobs...)
	in.startedOnce()
}

// A gateway dies between "started" and the event; the one that runs beside it and
// has nothing left to poll for goes on with the job.
func TestAGatewayThatDiesAfterStartedIsFollowed(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 3, Webhook: d.webhooks()})
	workers := map[string]*worker{}
	for n := 1; n <= 2; n++ {
		w, name := d.gateway(in)
		workers[name] = w
		in.log.WaitCount(logevent.JobsPolled, n)
	}
	dead := make(chan struct{})
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !postsStarted(r) {
			next.ServeHTTP(w, r)
			return
		}
		answer := recorded(next, r)
		in.marker(workers).die()
		close(dead) // a second "started" would panic here
		replay(w, answer)
	})
	job := in.add(simulator.JobSpec{Items: items(3), Status: simulator.JobPending})
	<-dead
	in.fetcher(startsNothing)
	to := &book{}
	in.consumer(to)
	in.completes(job)
	in.startedOnce()
	to.once(in, job, 3)
}

// A gateway is cut off from NATS between "started" and the event, is followed by
// the other one, and comes back: its late event changes nothing.
func TestAGatewayThatComesBackChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 4, Webhook: d.webhooks()})
	workers := map[string]*worker{}
	for n := 1; n <= 2; n++ {
		w, name := d.gateway(in)
		workers[name] = w
		in.log.WaitCount(logevent.JobsPolled, n)
	}
	stalled := make(chan *worker, 1)
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !postsStarted(r) {
			next.ServeHTTP(w, r)
			return
		}
		answer := recorded(next, r)
		frozen := in.marker(workers)
		frozen.wire.stall()
		stalled <- frozen
		replay(w, answer)
	})
	job := in.add(simulator.JobSpec{Items: items(3), Status: simulator.JobPending})
	frozen := <-stalled
	in.intercept(nil)
	in.fetcher(startsNothing)
	to := &book{}
	in.consumer(to)
	in.completes(job)
	frozen.wire.resume()
	next := in.add(simulator.JobSpec{Items: items(1), Status: simulator.JobPending})
	in.completes(next)
	in.startedOnce()
	to.once(in, job, 3)
}

// A job that a gateway has marked and not started is the gateway's: the fetchers'
// event for it would be parked while it is pending.
func TestAMarkedJobIsStartedByTheGatewayThatComesNext(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	in := install(t, simulator.Config{Seed: 5, Webhook: d.webhooks()})
	first, _ := d.gateway(in)
	in.log.Wait(logevent.JobsPolled)
	gone := in.gate()
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		// The read between the mark and "started".
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v3/export-jobs/") {
			first.die()
			gone.arrive()
			http.Error(w, "gone", http.StatusBadGateway)
			return
		}
		next.ServeHTTP(w, r)
	})
	job := in.add(simulator.JobSpec{Items: items(2), Status: simulator.JobPending})
	in.wait(gone, "the gateway never read the job")
	first.stop()
	in.intercept(nil)
	in.fetcher(startsNothing)
	in.consumer(&book{}, func(c *consumer.Config) { c.Payload = consumer.PayloadNone })
	d.gateway(in)
	in.completes(job)
	in.startedOnce()
}

// postsStarted tells whether a request is a "started".
func postsStarted(r *http.Request) bool {
	if !postsEvent(r) {
		return false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && bytes.Contains(body, []byte(`"started"`))
}

// marker is the gateway that has a job in hand to start it.
func (in *installation) marker(workers map[string]*worker) *worker {
	ctx := in.bounded("the mark was not read")
	store, err := jobstate.Open(ctx, in.js)
	name := ""
	if err == nil {
		err = store.List(ctx, func(s *ledgerlinev1.JobState, _ time.Time) {
			if jobstate.Starting(s) {
				name = s.GetWorker()
			}
		})
	}
	if err != nil || workers[name] == nil {
		in.t.Errorf("the mark is of %q: %v", name, err)
		panic("no gateway has marked the job that it starts")
	}
	return workers[name]
}
