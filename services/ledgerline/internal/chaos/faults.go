//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// faultKind is what is done to the installation.
type faultKind string

const (
	killed  faultKind = "kill"    // SIGKILL of a worker, started again
	frozen  faultKind = "freeze"  // SIGSTOP for longer than the lease, then SIGCONT
	downed  faultKind = "server"  // SIGKILL of the NATS server, started again
	deposed faultKind = "leader"  // SIGKILL of the server that leads a stream
	spoiled faultKind = "network" // trouble on a link, longer than the lease
	stalled faultKind = "stall"   // the machine itself stood still: nobody's doing
)

// everybody is touched by what touches the servers or the machine.
const everybody = "*"

// fault is one that was made, or seen.
type fault struct {
	Kind faultKind `json:"kind"`
	// Targets are the processes that it touches.
	Targets []string  `json:"targets"`
	What    string    `json:"what,omitempty"`
	From    time.Time `json:"from"`
	// Until is when it was over: the process back, the link mended.
	Until time.Time `json:"until"`
}

func (f fault) touches(process string) bool {
	return slices.Contains(f.Targets, process) || slices.Contains(f.Targets, everybody)
}

// shares of the kinds among a hundred faults.
var (
	singleShares  = map[faultKind]int{killed: 60, frozen: 13, downed: 7, spoiled: 20}
	clusterShares = map[faultKind]int{killed: 56, frozen: 16, spoiled: 28}
	kinds         = []faultKind{killed, frozen, downed, spoiled} // in the order of the draw
)

// weights of the workers: two thirds of the faults meet the consumers.
var weights = map[string]int{"gateway": 1, "fetcher": 1, "consumer": 3}

const (
	// leastGap and mostGap lie between the beginnings of two faults.
	leastGap = 200 * time.Millisecond
	mostGap  = 1500 * time.Millisecond
	// clusterGap makes the gaps of a cluster's run longer: a kill of a leader stops
	// everybody for seconds, and jobs must get on between the faults to be met by
	// them.
	clusterGap = 3
	// mostDown is how long a killed process stays away.
	mostDown = 1500 * time.Millisecond
	// leaderGap lies between a whole cluster and the next kill of a leader.
	leaderGap = 4 * time.Second
	// wholeLimit bounds the wait for a whole cluster. Past it the fault is made all
	// the same: network trouble may keep it apart.
	wholeLimit = 30 * time.Second
	// tellEvery is how often a run tells where it is.
	tellEvery = 30 * time.Second
)

// draw is one fault as the seed gives it. What it meets depends on what runs: one
// that is down or in another fault's hand is passed over for its neighbour.
type draw struct {
	gap    time.Duration
	kind   faultKind
	target uint64
	// extent is from 0 to 1, number any: each kind reads them in its own way.
	extent float64
	number uint64
}

// plan draws the faults and keeps those that were made.
type plan struct {
	o      *runOptions
	random *rand.Rand
	began  time.Time

	mu     sync.Mutex
	faults []fault
}

// planStream tells the draws of the faults from those of the work.
const planStream, leaderStream, workStream = 1, 2, 3

func newPlan(o *runOptions) *plan {
	return &plan{o: o, random: rand.New(rand.NewPCG(o.Seed, planStream)), began: time.Now()}
}

func (p *plan) draw() draw {
	shares := singleShares
	if p.o.Cluster {
		shares = clusterShares
	}
	d := draw{gap: leastGap + time.Duration(p.random.Int64N(int64(mostGap-leastGap)))}
	if p.o.Cluster {
		d.gap *= clusterGap
	}
	die := p.random.IntN(100)
	for _, kind := range kinds {
		if die -= shares[kind]; die < 0 {
			d.kind = kind
			break
		}
	}
	d.target, d.extent, d.number = p.random.Uint64(), p.random.Float64(), p.random.Uint64()
	return d
}

func (p *plan) keep(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}

func (p *plan) made() []fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.faults)
}

func (p *plan) count(kind faultKind) int {
	n := 0
	for _, f := range p.made() {
		if f.Kind == kind {
			n++
		}
	}
	return n
}

func (p *plan) counts() string { return tally(p.made()).String() }

func (p *plan) elapsed() time.Duration { return time.Since(p.began) }

func (p *plan) over() bool {
	if p.o.Short {
		return p.elapsed() >= shortFaults
	}
	return p.count(killed) >= p.o.Kills
}

// trouble makes faults until the plan is over, and returns when each has ended.
func (b *bed) trouble(ctx context.Context, p *plan, say func(string, ...any)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	run := func(fault func(context.Context) error) {
		running.Go(func() {
			if err := fault(ctx); err != nil {
				cancel(err)
			}
		})
	}
	leading, stopLeading := context.WithCancel(ctx)
	if b.o.Cluster {
		run(func(context.Context) error { return b.depose(ctx, leading, p) })
	}
	told := time.Now()
	for !p.over() {
		d := p.draw()
		if !lasting(ctx, d.gap) {
			break
		}
		run(func(ctx context.Context) error { return b.make(ctx, p, d) })
		if time.Since(told) > tellEvery {
			told = time.Now()
			say("%s: %s", p.elapsed().Round(time.Second), p.counts())
		}
	}
	stopLeading()
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("make faults: %w", err)
	}
	return nil
}

// make makes one fault and undoes it. It undoes it also when ctx ends, so that
// what is frozen can be stopped.
func (b *bed) make(ctx context.Context, p *plan, d draw) error {
	switch d.kind {
	case killed:
		return b.kill(ctx, p, d)
	case frozen:
		return b.freeze(ctx, p, d)
	case downed:
		return b.down(ctx, p, b.servers[0], fault{Kind: downed, Targets: []string{everybody}}, mostDown*time.Duration(d.number%100)/100)
	}
	return b.spoil(ctx, p, d)
}

// worker is the drawn worker, taken, or nil where all are in a fault's hand.
func (b *bed) worker(d draw) *process {
	var wheel []*process
	for _, w := range b.workers {
		for range weights[strings.SplitN(w.name, "-", 2)[0]] {
			wheel = append(wheel, w)
		}
	}
	for i := range wheel {
		if w := wheel[(d.target+uint64(i))%uint64(len(wheel))]; w.take() {
			return w
		}
	}
	return nil
}

func (b *bed) kill(ctx context.Context, p *plan, d draw) error {
	w := b.worker(d)
	if w == nil {
		return nil
	}
	defer w.free()
	f := fault{Kind: killed, Targets: []string{w.name}, From: time.Now()}
	if err := w.kill(); err != nil {
		return err
	}
	lasting(ctx, time.Duration(d.extent*float64(mostDown)))
	if err := w.start(); err != nil {
		return err
	}
	f.Until = time.Now()
	p.keep(f)
	return nil
}

// freeze stops a worker for longer than its lease, so that it wakes up as one that
// was presumed dead.
func (b *bed) freeze(ctx context.Context, p *plan, d draw) error {
	w := b.worker(d)
	if w == nil {
		return nil
	}
	defer w.free()
	f := fault{Kind: frozen, Targets: []string{w.name}, From: time.Now()}
	if err := w.signal(sigStop); err != nil {
		return err
	}
	lasting(ctx, b.longer(d))
	if err := w.signal(sigContinue); err != nil {
		return err
	}
	f.Until = time.Now()
	p.keep(f)
	return nil
}

// longer is a time longer than the lease.
func (b *bed) longer(d draw) time.Duration {
	return time.Duration(float64(b.o.lease()) * (1.2 + 1.3*d.extent))
}

// down kills a server and starts it again.
func (b *bed) down(ctx context.Context, p *plan, s *server, f fault, away time.Duration) error {
	if !s.take() {
		return nil
	}
	defer s.free()
	f.From = time.Now()
	if err := s.kill(); err != nil {
		return err
	}
	lasting(ctx, away)
	if err := s.start(); err != nil {
		return err
	}
	if err := until(ctx, s.name+" is back", s.ready); err != nil {
		return err
	}
	f.Until = time.Now()
	p.keep(f)
	return nil
}

// spoil troubles a link.
func (b *bed) spoil(ctx context.Context, p *plan, d draw) error {
	links := b.network.links
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range troubles {
			if !yield(name) {
				return
			}
		}
	})
	kind := names[d.number%uint64(len(names))]
	for i := range links {
		l := links[(d.target+uint64(i))%uint64(len(links))]
		if !l.take() {
			continue
		}
		defer l.free()
		f := fault{Kind: spoiled, Targets: l.ends, What: kind + " on " + l.name, From: time.Now()}
		if err := b.network.spoil(ctx, l, kind, troubles[kind](b.o.lease(), d.number/uint64(len(names)))); err != nil {
			return err
		}
		lasting(ctx, b.longer(d))
		if err := b.network.mend(l); err != nil {
			return err
		}
		f.Until = time.Now()
		p.keep(f)
		return nil
	}
	return nil
}

// depose kills the leader of one stream after another, a few seconds after the
// cluster is whole again, until leading ends.
func (b *bed) depose(ctx, leading context.Context, p *plan) error {
	random := rand.New(rand.NewPCG(p.o.Seed, leaderStream))
	for lasting(leading, leaderGap/2+time.Duration(random.Int64N(int64(leaderGap)))) {
		stream := ledStreams[random.IntN(len(ledStreams))]
		away := time.Duration(random.Int64N(int64(2 * mostDown)))
		whole, cancel := context.WithTimeout(leading, wholeLimit)
		for b.whole(whole) != nil && lasting(whole, startRecheck) {
		}
		cancel()
		leader, err := b.leader(leading, stream)
		if err != nil {
			continue // no leader now: the next round finds one
		}
		f := fault{Kind: deposed, Targets: []string{everybody}, What: stream}
		if err := b.down(ctx, p, leader, f, away); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
