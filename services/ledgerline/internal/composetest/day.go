package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	companies  = 6
	firstItems = 100
	// longItems make a job long enough to do something to it in the middle.
	longItems = 3000
)

// row is a job as the operator's command shows it.
type row struct {
	JobID    uuid.UUID `json:"jobId"`
	State    string    `json:"state"`
	Position uint32    `json:"position"`
	Epoch    uint64    `json:"epoch"`
	Worker   string    `json:"worker"`
}

// singleDay is the life of an installation on one NATS server.
func (s *stack) singleDay(ctx context.Context) error {
	s.env = append(s.env, fmt.Sprintf("JOBS=%d", companies), fmt.Sprintf("ITEMS=%d", firstItems), fmt.Sprintf("COMPANIES=%d", companies))
	if err := s.up(ctx); err != nil {
		return err
	}
	s.say("up: every container is healthy")
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("%d jobs are completed", companies)
	if err := s.killConsumer(ctx); err != nil {
		return fmt.Errorf("kill a consumer: %w", err)
	}
	if err := s.stopAndGoOn(ctx); err != nil {
		return fmt.Errorf("stop in the middle: %w", err)
	}
	if err := s.seen(ctx); err != nil {
		return err
	}
	return s.judge(ctx)
}

// addJobs adds a long job for each company, which the gateway learns of by webhook.
func (s *stack) addJobs(ctx context.Context, items int) ([]uuid.UUID, error) {
	state, _, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	owners := map[uuid.UUID]bool{}
	for _, job := range state.Jobs {
		owners[job.CompanyID] = true
	}
	var ids []uuid.UUID
	for company := range owners {
		var added struct {
			ID uuid.UUID `json:"id"`
		}
		if err := s.ask(ctx, "POST", "simulator", "8090", "/_simulator/jobs", simulator.JobSpec{CompanyID: company, Items: &items}, &added); err != nil {
			return nil, err
		}
		ids = append(ids, added.ID)
	}
	return ids, nil
}

// completed waits until every job at Pleo is.
func (s *stack) completed(ctx context.Context) error {
	return s.wait(ctx, "every job to be completed", func() (string, error) {
		state, _, err := s.snapshot(ctx)
		if err != nil {
			return "", err
		}
		open := 0
		for _, job := range state.Jobs {
			switch job.Status {
			case simulator.JobCompleted:
			case simulator.JobPending, simulator.JobInProgress:
				open++
			default:
				return "", fmt.Errorf("%w: job %s is %s: %s", errHopeless, job.ID, job.Status, job.FailureReason)
			}
		}
		if open > 0 {
			return fmt.Sprintf("%d of %d jobs", open, len(state.Jobs)), nil
		}
		return "", nil
	})
}

// errTooShort is returned where jobs end before they are seen in their middle: NATS
// may take seconds to answer a question about them after one of its servers was away.
var errTooShort = errors.New("the jobs are too short for this machine")

// middleTries bounds how often jobs are added until they are seen in their middle.
const middleTries = 3

// middle adds a job of so many items for each company and waits until most of them
// are in their middle.
func (s *stack) middle(ctx context.Context, items int) (ids []uuid.UUID, rows []row, err error) {
	for range middleTries {
		if ids, err = s.addJobs(ctx, items); err != nil {
			return nil, nil, err
		}
		if rows, err = s.midJob(ctx, ids); !errors.Is(err, errTooShort) {
			return ids, rows, err
		}
		if err := s.completed(ctx); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, err
}

// midJob waits until most of the jobs have begun and are not done, and returns those.
func (s *stack) midJob(ctx context.Context, ids []uuid.UUID) (rows []row, err error) {
	err = s.wait(ctx, "the jobs to be in the middle", func() (string, error) {
		var all []row
		if err := s.command(ctx, &all, "jobs"); err != nil {
			return "", err
		}
		ended := 0
		rows = rows[:0]
		for _, r := range all {
			switch {
			case !slices.Contains(ids, r.JobID):
			case r.State == "active" && r.Position > 0:
				rows = append(rows, r)
			case r.State == simulator.JobCompleted:
				ended++
			}
		}
		if ended > 0 {
			return "", fmt.Errorf("%w: %w: %d have ended", errHopeless, errTooShort, ended)
		}
		if len(rows) <= len(ids)/2 {
			return fmt.Sprintf("%d of %d are active", len(rows), len(ids)), nil
		}
		return "", nil
	})
	return rows, err
}

// busy sees to it that jobs are in their middle: where too little is left of those
// there are, it adds one of so many items for each company.
func (s *stack) busy(ctx context.Context, items int) error {
	state, _, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	open := 0
	for _, job := range state.Jobs {
		if job.Status == simulator.JobInProgress {
			open += len(job.Items) - successful(job)
		}
	}
	if open > items { // a job's worth, of all jobs
		return nil
	}
	_, _, err = s.middle(ctx, items)
	return err
}

// successful counts the items that Pleo has a result of.
func successful(job simulator.JobSnapshot) (n int) {
	for _, item := range job.Items {
		if item.Status == simulator.ItemSuccessful {
			n++
		}
	}
	return n
}

// worker is the container a row's worker runs in: its name has the host's in it.
func worker(r row, all []container) (container, bool) {
	for _, c := range all {
		if strings.Contains(r.Worker, c.Config.Hostname) {
			return c, true
		}
	}
	return container{}, false
}

// killConsumer kills the consumer with the most jobs, and sees each of them go on
// elsewhere.
func (s *stack) killConsumer(ctx context.Context) error {
	ids, rows, err := s.middle(ctx, longItems)
	if err != nil {
		return err
	}
	all, err := s.containers(ctx, "consumer")
	if err != nil {
		return err
	}
	held := map[string][]row{}
	victim := container{}
	for _, r := range rows {
		c, ok := worker(r, all)
		if !ok {
			return fmt.Errorf("no container runs worker %q", r.Worker)
		}
		held[c.ID] = append(held[c.ID], r)
		if len(held[c.ID]) > len(held[victim.ID]) {
			victim = c
		}
	}
	if _, err := s.docker(ctx, "kill", victim.ID); err != nil {
		return err
	}
	killed := time.Now()
	lost := held[victim.ID]
	err = s.wait(ctx, "the killed consumer's jobs to move", func() (string, error) {
		var now []row
		if err := s.command(ctx, &now, "jobs"); err != nil {
			return "", err
		}
		left := 0
		for _, before := range lost {
			i := slices.IndexFunc(now, func(r row) bool { return r.JobID == before.JobID })
			if i < 0 || now[i].Epoch <= before.Epoch || now[i].Position <= before.Position {
				left++
			}
		}
		if left > 0 {
			return fmt.Sprintf("%d of %d jobs", left, len(lost)), nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	s.say("%s was killed with %d jobs; all of them go on elsewhere %.1f s later (the lease is %s)",
		victim.Name, len(lost), time.Since(killed).Seconds(), lease)
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("%d jobs of %d items are completed", len(ids), longItems)
	// What a person would do; an engine does not start again what was killed by hand.
	if _, err := s.docker(ctx, "start", victim.ID); err != nil {
		return err
	}
	return s.healthy(ctx)
}

// installed is everything but Pleo, which a real installation does not stop either,
// and which is a simulation without a memory here.
var installed = []string{"gateway", "fetcher", "consumer", "sink", "nats", "prometheus", "grafana"}

// stopAndGoOn stops the whole installation in the middle of jobs, sees that each of
// our programs ended well, and starts it with six consumers.
func (s *stack) stopAndGoOn(ctx context.Context) error {
	ids, _, err := s.middle(ctx, longItems)
	if err != nil {
		return err
	}
	if _, err := s.composed(ctx, append([]string{"stop"}, installed...)...); err != nil {
		return err
	}
	state, _, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	open := 0
	for _, job := range state.Jobs {
		if job.Status == simulator.JobInProgress {
			open++
		}
	}
	if open == 0 {
		return errors.New("no job was in the middle any more: the stop showed nothing")
	}
	for _, service := range []string{"gateway", "fetcher", "consumer"} {
		all, err := s.containers(ctx, service)
		if err != nil {
			return err
		}
		for _, c := range all {
			if c.State.Status != "exited" || c.State.ExitCode != 0 {
				return fmt.Errorf("%s is %s with exit code %d: it did not end well", c.Name, c.State.Status, c.State.ExitCode)
			}
		}
	}
	s.say("stopped with %d jobs in the middle; every program ended with exit code 0", open)
	s.scale["consumer"] = 6
	if err := s.up(ctx); err != nil {
		return err
	}
	all, err := s.containers(ctx, "consumer")
	if err != nil || len(all) != s.scale["consumer"] {
		return fmt.Errorf("%d consumers run after --scale consumer=%d: %w", len(all), s.scale["consumer"], err)
	}
	s.say("up again, with %d consumers", len(all))
	if err := s.completed(ctx); err != nil {
		return err
	}
	s.say("%d jobs of %d items are completed", len(ids), longItems)
	return nil
}

// seen waits until Prometheus has figures of every process, and Grafana its
// dashboards.
func (s *stack) seen(ctx context.Context) error {
	for service, n := range map[string]int{"gateway": 1, "fetcher": 2, "consumer": s.scale["consumer"]} {
		for _, query := range []string{
			// Over a range, since Prometheus was stopped too and so does not know that
			// the processes of before have gone.
			fmt.Sprintf(`count(max_over_time(up{job=%q}[20s]) == 1)`, service),
			fmt.Sprintf(`count(max_over_time(process_start_time_seconds{job=%q}[20s]))`, service),
		} {
			if err := s.queried(ctx, query, n); err != nil {
				return err
			}
		}
	}
	if err := s.queried(ctx, "sum(max_over_time(ledgerline_jobs_total[1h])) > bool 0", 1); err != nil {
		return err
	}
	s.say("Prometheus has figures of every process")
	var boards []struct {
		UID string `json:"uid"`
	}
	if err := s.ask(ctx, "GET", "grafana", "3000", "/api/search", nil, &boards); err != nil {
		return err
	}
	if len(boards) == 0 {
		return errors.New("grafana has no dashboard")
	}
	s.say("Grafana has %d dashboards", len(boards))
	return nil
}

// queried waits until Prometheus answers a query with the figure.
func (s *stack) queried(ctx context.Context, query string, want int) error {
	return s.wait(ctx, fmt.Sprintf("Prometheus to answer %d to %s", want, query), func() (string, error) {
		var answer struct {
			Data struct {
				Result []struct {
					Value [2]any `json:"value"`
				} `json:"result"`
			} `json:"data"`
		}
		if err := s.ask(ctx, "GET", "prometheus", "9090", "/api/v1/query?query="+url.QueryEscape(query), nil, &answer); err != nil {
			return "", err
		}
		if len(answer.Data.Result) == 1 && answer.Data.Result[0].Value[1] == strconv.Itoa(want) {
			return "", nil
		}
		return fmt.Sprintf("it answers %v", answer.Data.Result), nil
	})
}
