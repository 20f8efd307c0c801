package governor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// run lets callers wait in turn until d has passed, and counts who got through.
func run(t *testing.T, d time.Duration, callers int, limiters ...*Limiter) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var through atomic.Int64
	var all sync.WaitGroup
	for _, l := range limiters {
		for i := range callers {
			all.Go(func() {
				for l.Wait(ctx, fmt.Sprint("company ", i)) == nil {
					through.Add(1)
				}
			})
		}
	}
	all.Wait()
	return int(through.Load())
}

// Guards "all replicas send what one budget allows": three processes, each of which
// could send it ten times over.
func TestProcessesShareOneBudget(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	begin(t, server.JetStream(t), "one", known("50"))
	var limiters []*Limiter
	for range 3 {
		g, _ := process(t, server.URL(), 500)
		limiters = append(limiters, g.Limiter("one"))
	}
	const seconds = 2
	if n := run(t, seconds*time.Second, 8, limiters...); n < 35*seconds || n > 60*seconds {
		t.Errorf("%d requests in %d seconds, want 50 a second", n, seconds)
	}
}

// The process's own rate holds over all its credentials, whatever their budgets
// allow.
func TestProcessKeepsItsOwnRate(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	js := server.JetStream(t)
	begin(t, js, "one", known("1000"))
	begin(t, js, "two", known("1000"))
	g, _ := process(t, server.URL(), 20)
	// The burst of a second, and a second.
	if n := run(t, time.Second, 8, g.Limiter("one"), g.Limiter("two")); n < 30 || n > 42 {
		t.Errorf("%d requests, want 40", n)
	}
	if first, second := g.Limiter("one"), g.Limiter("one"); first != second {
		t.Error("a credential has two lines")
	}
}

// A 429 pauses every process until its Retry-After; another credential goes on.
func TestRefusalPausesAllProcesses(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	js := server.JetStream(t)
	begin(t, js, "one", known("100"))
	begin(t, js, "two", known("100"))
	one, log := process(t, server.URL(), 500)
	two, _ := process(t, server.URL(), 500)
	for _, g := range []*Governor{one, two} {
		if err := g.Limiter("one").Wait(within(t, patience), ""); err != nil {
			t.Fatal(err)
		}
	}
	const pause = 1500 * time.Millisecond
	began := time.Now()
	one.Limiter("one").Observe(refused(pause))
	if e := log.Wait(logevent.PleoRateCut); e["credential"] != "one" || e["rate"].(float64) >= e["rate_before"].(float64) {
		t.Errorf("event %v", e)
	}
	if err := two.Limiter("two").Wait(within(t, patience), ""); err != nil || time.Since(began) >= pause {
		t.Errorf("another credential waited %s: %v", time.Since(began), err)
	}
	var all sync.WaitGroup
	for _, g := range []*Governor{one, two} {
		all.Go(func() {
			if err := g.Limiter("one").Wait(within(t, patience), ""); err != nil {
				t.Error(err)
			}
			if waited := time.Since(began); waited < pause {
				t.Errorf("a process paused for %s", waited)
			}
		})
	}
	all.Wait()
}

// A replica that took its slots before another one was refused does not use those
// that lie in the pause.
func TestSlotsInHandAreGivenUp(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	// Two requests a second: the slots of a long line lie far ahead.
	begin(t, server.JetStream(t), "one", known("2"))
	one, _ := process(t, server.URL(), 500)
	two, log := process(t, server.URL(), 500)
	// The first two slots are used at once, the third is in hand.
	const callers = 3
	through := make(chan time.Time, callers)
	for range callers {
		go func() {
			if one.Limiter("one").Wait(within(t, patience), "") == nil {
				through <- time.Now()
			}
		}()
	}
	<-through
	began := time.Now()
	const pause = 3 * time.Second
	two.Limiter("one").Observe(refused(pause))
	log.Wait(logevent.PleoRateCut)
	told := time.Now()
	for range callers - 1 {
		at := <-through
		if at.After(told.Add(MaxSlice)) && at.Before(began.Add(pause)) {
			t.Errorf("a request went out %s after the refusal, in a pause of %s", at.Sub(began), pause)
		}
	}
}

// Guards "NATS away stops no request": the process goes on by its own rate, says so
// once, and comes back.
func TestWithoutNATS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trouble func(*natstest.Network)
		wait    time.Duration
	}{
		"away": {(*natstest.Network).Cut, KVTimeout / 2},
		"mute": {(*natstest.Network).Mute, 3 * KVTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t)
			network := natstest.StartNetwork(t, server.URL())
			g, log := process(t, network.URL(), 1000)
			l := g.Limiter("one")
			if err := l.Wait(within(t, patience), ""); err != nil {
				t.Fatal(err)
			}
			c.trouble(network)
			if conn := g.js.Conn(); name == "away" {
				for conn.IsConnected() {
					<-time.After(time.Millisecond)
				}
			}
			began := time.Now()
			for range 20 {
				if err := l.Wait(within(t, patience), ""); err != nil {
					t.Fatal(err)
				}
			}
			if waited := time.Since(began); waited > c.wait {
				t.Errorf("waited %s", waited)
			}
			if e := log.Wait(logevent.PleoRateUnshared); e["credential"] != "one" {
				t.Errorf("event %v", e)
			}
			// A refusal is heeded all the same.
			began = time.Now()
			l.Observe(refused(0))
			if err := l.Wait(within(t, patience), ""); err != nil || time.Since(began) < MinPause {
				t.Errorf("paused for %s: %v", time.Since(began), err)
			}
			network.Mend()
			back := within(t, patience)
			for len(log.Lines(logevent.PleoRateShared)) == 0 && l.Wait(back, "") == nil {
				<-time.After(AloneFor / 20)
			}
			if n := len(log.Lines(logevent.PleoRateShared)); n != 1 {
				t.Errorf("came back %d times", n)
			}
			if n := len(log.Lines(logevent.PleoRateUnshared)); n != 1 {
				t.Errorf("said %d times that it is alone", n)
			}
		})
	}
}

// The server has forgotten the bucket, which lies in its memory: it is made anew.
func TestBucketIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	g, log := process(t, server.URL(), 1000)
	l := g.Limiter("one")
	if err := l.Wait(within(t, patience), ""); err != nil {
		t.Fatal(err)
	}
	js := server.JetStream(t)
	if err := js.DeleteKeyValue(within(t, patience), "LEDGERLINE_RATE"); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, patience)
	for {
		if err := l.Wait(ctx, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := js.KeyValue(ctx, "LEDGERLINE_RATE"); err == nil {
			break
		} else if !errors.Is(err, jetstream.ErrBucketNotFound) {
			t.Fatal(err)
		}
		<-time.After(AloneFor / 20)
	}
	log.Wait(logevent.PleoRateUnshared)
}

// Guards the fair share: one company's bulk of a hundred requests stands in the
// line, and another's single one comes after at most two of them. A slot is long, so
// that a machine that is slow to count sees few more.
func TestBulkDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	begin(t, server.JetStream(t), "one", known("2")) // a slot each half second
	g, _ := process(t, server.URL(), 500)
	l := g.Limiter("one")
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if l.Wait(ctx, "bulk") == nil {
				passed.Add(1)
			}
		})
	}
	for waiting := 0; waiting < 80; runtime.Gosched() { // most of them stand in line
		if ctx.Err() != nil {
			t.Fatal("the bulk does not stand in line")
		}
		l.mu.Lock()
		waiting = l.line.length
		l.mu.Unlock()
	}
	before := passed.Load()
	if err := l.Wait(ctx, "small"); err != nil {
		t.Fatal(err)
	}
	if ahead := passed.Load() - before; ahead > 3 {
		t.Errorf("%d of the bulk went first", ahead)
	}
	cancel()
	all.Wait()
}

// A request that is given up leaves the line, and the dispatcher with the last one,
// also out of a pause.
func TestRequestThatIsGivenUp(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	g, log := process(t, server.URL(), 500)
	l := g.Limiter("one")
	l.Observe(refused(MaxPause))
	log.Wait(logevent.PleoRateCut)
	if err := l.Wait(within(t, 50*time.Millisecond), "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	ended := within(t, patience)
	for working := true; working && ended.Err() == nil; {
		l.mu.Lock()
		working = l.working
		l.mu.Unlock()
	}
	if ended.Err() != nil {
		t.Error("the dispatcher goes on")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Wait(gone, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// What stands in the bucket and makes no sense is written anew.
func TestUnreadableEntryIsReplaced(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	begin(t, server.JetStream(t), "one", "no JSON")
	g, _ := process(t, server.URL(), 1000)
	if n := run(t, 500*time.Millisecond, 2, g.Limiter("one")); n < 50 {
		t.Errorf("%d requests", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		_, err := New(Options{Rate: rate})
		for _, part := range []string{"JetStream", "Replicas", "Rate"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("rate %v: %v", rate, err)
			}
		}
	}
}
