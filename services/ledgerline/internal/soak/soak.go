package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// wantedSamples of a run, none closer together than sampleLeast, none further
	// apart than sampleMost.
	wantedSamples           = 240
	sampleLeast, sampleMost = 250 * time.Millisecond, 15 * time.Second
	judgeEvery              = time.Second
	sayEvery                = time.Minute
	// emptyTimeout is how long the last jobs may take, and the store to be empty of
	// them.
	emptyTimeout = 2 * time.Minute
)

// soak runs the fleet under load and returns what was seen.
func soak(ctx context.Context, o *options, dir string, say func(string, ...any)) (found *findings, err error) {
	f := &fleet{}
	defer func() { err = errors.Join(err, f.stop()) }()
	say("starting %d processes", len(services)+1)
	if err := f.launch(ctx, o, dir); err != nil {
		return nil, err
	}
	l := &load{fleet: f, items: o.Items, open: map[uuid.UUID]struct{}{}}
	found = &findings{options: *o, samples: newSamples()}
	began := time.Now()
	say("%g jobs a second of %d items for %s, seed %d, faults %s", o.Rate, o.Items, o.duration(), o.Seed, o.Faults)
	if err := run(ctx, o, f, l, found.samples, say); err != nil {
		return nil, err
	}
	if err := found.processorTime(f, time.Since(began)); err != nil {
		return nil, err
	}
	say("no more jobs; waiting for the last %d", len(l.open))
	if found.left, err = drain(ctx, f, l); err != nil {
		return nil, err
	}
	found.take(l)
	return found, nil
}

// run adds jobs, judges those that have ended and samples, until the time is over.
func run(ctx context.Context, o *options, f *fleet, l *load, s *samples, say func(string, ...any)) error {
	interval := min(max(o.duration()/wantedSamples, sampleLeast), sampleMost)
	add := time.NewTicker(time.Duration(float64(time.Second) / o.Rate))
	defer add.Stop()
	judge := time.NewTicker(judgeEvery)
	defer judge.Stop()
	sample := time.NewTicker(interval)
	defer sample.Stop()
	tell := time.NewTicker(sayEvery)
	defer tell.Stop()
	over := time.NewTimer(o.duration())
	defer over.Stop()
	began := time.Now()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.C:
			return nil
		case <-add.C:
			err = l.add()
		case <-judge.C:
			err = errors.Join(l.judge(), f.alive())
		case <-tell.C:
			say("%d jobs added, %d ended, %d items booked", l.added, l.ended, l.booked)
		case <-sample.C:
			var now map[key]float64
			if now, err = f.take(ctx); err == nil {
				s.add(time.Since(began), l.ended, now)
			}
		}
		if err != nil {
			return err
		}
	}
}

// drain waits for the last jobs' end and for the store to hold nothing of them. It
// returns what it still holds when the time for that is over.
func drain(ctx context.Context, f *fleet, l *load) ([]string, error) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	over := time.NewTimer(emptyTimeout)
	defer over.Stop()
	for {
		if err := errors.Join(l.judge(), f.alive()); err != nil {
			return nil, err
		}
		left, err := f.leftovers(ctx)
		if err != nil {
			return nil, err
		}
		if len(l.open) > 0 {
			left = append(left, fmt.Sprintf("%d jobs have not ended", len(l.open)))
		}
		if len(left) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-over.C:
			return left, nil
		case <-tick.C:
		}
	}
}
