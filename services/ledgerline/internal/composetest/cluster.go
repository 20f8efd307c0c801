package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// clusterItems make a job long enough on three servers that wait for each other.
	clusterItems = 800
	// cut is how long a server is away: above the lease and what the others need to
	// elect a leader in its place.
	cut = 3 * lease
)

var nodes = []string{"nats-1", "nats-2", "nats-3"}

// clusterDay is the life of an installation on three NATS servers, with signed users
// and TLS.
func (s *stack) clusterDay(ctx context.Context) error {
	s.files = []string{"-f", "docker-compose.yml", "-f", "deploy/secure.yml", "--profile", "cluster"}
	if err := s.signUsers(ctx); err != nil {
		return err
	}
	s.scale["nats"] = 0
	s.env = append(s.env, "REPLICAS=3", "NATS_SERVERS=nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222",
		fmt.Sprintf("JOBS=%d", companies), fmt.Sprintf("ITEMS=%d", firstItems), fmt.Sprintf("COMPANIES=%d", companies))
	if err := s.up(ctx); err != nil {
		return err
	}
	s.say("up: every container is healthy, three NATS servers with signed users and TLS among them")
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("%d jobs are completed", companies)
	for _, trouble := range []struct {
		name string
		make func(context.Context, []uuid.UUID) error
	}{
		{"a server is killed", s.killNode},
		{"a server is cut off", s.cutNode},
		{"servers and workers are restarted one by one", s.rollingRestart},
		{"the fetchers get new credentials", s.rotate},
	} {
		ids, _, err := s.middle(ctx, clusterItems)
		if err != nil {
			return fmt.Errorf("%s: %w", trouble.name, err)
		}
		if err := trouble.make(ctx, ids); err != nil {
			return fmt.Errorf("%s: %w", trouble.name, err)
		}
		if err := s.completed(ctx); err != nil {
			return fmt.Errorf("%s: %w", trouble.name, err)
		}
		s.say("%s in the middle of %d jobs: all are completed", trouble.name, len(ids))
	}
	return s.judge(ctx)
}

func (s *stack) node(ctx context.Context, name string) (container, error) {
	all, err := s.containers(ctx, name)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d containers of %s", len(all), name)
	}
	if err != nil {
		return container{}, err
	}
	return all[0], nil
}

// reported counts the items of the jobs that Pleo has results of.
func (s *stack) reported(ctx context.Context, ids []uuid.UUID) (n int, err error) {
	state, _, err := s.snapshot(ctx)
	for _, job := range state.Jobs {
		if slices.Contains(ids, job.ID) {
			n += successful(job)
		}
	}
	return n, err
}

// goesOn waits until results go on coming after something happened.
func (s *stack) goesOn(ctx context.Context, ids []uuid.UUID, what string) error {
	before, err := s.reported(ctx, ids)
	if err != nil {
		return err
	}
	since := time.Now()
	err = s.wait(ctx, "results to go on", func() (string, error) {
		now, err := s.reported(ctx, ids)
		if err != nil || now > before || now == len(ids)*clusterItems {
			return "", err
		}
		return fmt.Sprintf("still %d", now), nil
	})
	if err != nil {
		return err
	}
	s.say("%s: results go on after %.1f s", what, time.Since(since).Seconds())
	return nil
}

func (s *stack) killNode(ctx context.Context, ids []uuid.UUID) error {
	victim, err := s.node(ctx, nodes[1])
	if err != nil {
		return err
	}
	if _, err := s.docker(ctx, "kill", victim.ID); err != nil {
		return err
	}
	if err := s.goesOn(ctx, ids, nodes[1]+" was killed"); err != nil {
		return err
	}
	if _, err := s.docker(ctx, "start", victim.ID); err != nil {
		return err
	}
	return s.healthy(ctx)
}

func (s *stack) cutNode(ctx context.Context, ids []uuid.UUID) error {
	victim, err := s.node(ctx, nodes[2])
	if err != nil {
		return err
	}
	network := s.project + "_default"
	if _, err := s.docker(ctx, "network", "disconnect", network, victim.ID); err != nil {
		return err
	}
	err = s.goesOn(ctx, ids, nodes[2]+" was cut off")
	timer := time.NewTimer(cut)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	_, reconnectErr := s.docker(ctx, "network", "connect", "--alias", nodes[2], network, victim.ID)
	if err := errors.Join(err, reconnectErr); err != nil {
		return err
	}
	return s.healthy(ctx)
}

// rollingRestart restarts everything of ours, one container after the other, each
// time in the middle of jobs.
func (s *stack) rollingRestart(ctx context.Context, _ []uuid.UUID) error {
	for _, service := range append(append([]string{}, nodes...), "gateway", "fetcher", "consumer") {
		all, err := s.containers(ctx, service)
		if err != nil {
			return err
		}
		for _, c := range all {
			if err := s.busy(ctx, clusterItems); err != nil {
				return err
			}
			if _, err := s.docker(ctx, "restart", "-t", "25", c.ID); err != nil {
				return err
			}
			if err := s.healthy(ctx); err != nil {
				return err
			}
		}
		s.say("%d of %s restarted", len(all), service)
	}
	return nil
}
