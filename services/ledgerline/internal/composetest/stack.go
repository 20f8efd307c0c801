package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nuid"
)

const (
	// lease is short, so that a takeover takes seconds; two seconds are too few for
	// a machine that builds and starts other things besides.
	lease = 5 * time.Second
	// lookEvery is the time between two looks at something that takes seconds.
	lookEvery = 250 * time.Millisecond
	// maxAnswer bounds an answer that is read: the simulator's whole state.
	maxAnswer = 256 << 20
	// toldLines of each service's log are shown after a failure.
	toldLines = "60"
	// requestLimit bounds one question over HTTP, on a machine at its limit.
	requestLimit = 30 * time.Second
)

// stack is one installation, under a project name of its own.
type stack struct {
	options *options
	out     io.Writer
	compose []string // docker compose, or docker-compose
	project string
	env     []string
	scale   map[string]int
	files   []string // and the profile, where they are not docker-compose.yml alone
	// passwords of the users of NATS, or the folder of their credentials.
	passwords  map[string]string
	identities string
	// work is a folder for what is kept outside of containers.
	work string
	// lost says of jobs whose ledger was lost how many items may be sent again; again
	// has the jobs that carry entries of earlier ones.
	lost    map[string]int
	again   map[string]again
	started time.Time
	http    http.Client
}

func newStack(ctx context.Context, o *options, out io.Writer) *stack {
	s := &stack{
		options: o, out: out, started: time.Now(),
		project: "ledgerline-test-" + strings.ToLower(nuid.Next()[14:]),
		scale:   map[string]int{}, http: http.Client{Timeout: requestLimit},
		lost: map[string]int{}, again: map[string]again{},
		// As docker-compose.yml has them.
		passwords: map[string]string{
			"gateway": "gateway", "fetcher": "fetcher", "consumer": "consumer", "operator": "operator",
			"admin": "administrator", "system": "system",
		},
	}
	s.compose = []string{"docker", "compose"}
	if exec.CommandContext(ctx, "docker", "compose", "version").Run() != nil {
		s.compose = []string{"docker-compose"}
	}
	// Port 0 is a free one: nothing else on this machine is in the way.
	s.env = append(os.Environ(), "NATS_PORT=0", "GATEWAY_PORT=0", "SIMULATOR_PORT=0", "PROMETHEUS_PORT=0", "GRAFANA_PORT=0",
		"LEASE="+lease.String())
	return s
}

func (s *stack) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

// run runs a program and returns what it printed.
func (s *stack) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = s.env
	ownGroup(cmd)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, faults.Bytes())
	}
	return out.Bytes(), nil
}

func (s *stack) docker(ctx context.Context, args ...string) (string, error) {
	out, err := s.run(ctx, "docker", args...)
	return strings.TrimSpace(string(out)), err
}

func (s *stack) composed(ctx context.Context, args ...string) (string, error) {
	all := append(append(append([]string{}, s.compose[1:]...), "-p", s.project), s.files...)
	out, err := s.run(ctx, s.compose[0], append(all, args...)...)
	return strings.TrimSpace(string(out)), err
}

// up starts what is not running, in the numbers of s.scale, and waits until all of
// it is healthy.
func (s *stack) up(ctx context.Context) error {
	args := []string{"up", "-d", "--no-build"}
	for service, n := range s.scale {
		args = append(args, "--scale", fmt.Sprintf("%s=%d", service, n))
	}
	if _, err := s.composed(ctx, args...); err != nil {
		return err
	}
	return s.healthy(ctx)
}

// down removes containers, networks and volumes.
func (s *stack) down(ctx context.Context) error {
	_, err := s.composed(ctx, "down", "-v", "--remove-orphans", "-t", "2")
	return err
}

// container is what `docker inspect` tells.
type container struct {
	ID    string
	Name  string
	State struct {
		Status   string
		ExitCode int
		Health   *struct{ Status string }
	}
	Config struct {
		Image    string
		Hostname string
		Labels   map[string]string
	}
	NetworkSettings struct {
		Ports map[string][]struct{ HostIP, HostPort string }
	}
}

func (c container) service() string { return c.Config.Labels["com.docker.compose.service"] }

// containers lists those of a service, or all for "".
func (s *stack) containers(ctx context.Context, service string) ([]container, error) {
	filter := []string{"ps", "-aq", "--no-trunc", "--filter", "label=com.docker.compose.project=" + s.project}
	if service != "" {
		filter = append(filter, "--filter", "label=com.docker.compose.service="+service)
	}
	ids, err := s.docker(ctx, filter...)
	if err != nil || ids == "" {
		return nil, err
	}
	text, err := s.docker(ctx, append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, err
	}
	var all []container
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("read docker inspect: %w", err)
	}
	return all, nil
}

// healthy waits until every container runs and those with a probe are well.
func (s *stack) healthy(ctx context.Context) error {
	return s.wait(ctx, "every container to be healthy", func() (string, error) {
		all, err := s.containers(ctx, "")
		if err != nil {
			return "", err
		}
		var ill []string
		for _, c := range all {
			switch {
			case c.service() == "nats-volume" || c.service() == "cluster-volumes" || c.service() == "identities":
				if c.State.Status != "exited" || c.State.ExitCode != 0 {
					ill = append(ill, fmt.Sprintf("%s is %s (%d)", c.Name, c.State.Status, c.State.ExitCode))
				}
			case c.State.Status != "running":
				ill = append(ill, c.Name+" is "+c.State.Status)
			case c.State.Health != nil && c.State.Health.Status != "healthy":
				ill = append(ill, c.Name+" is "+c.State.Health.Status)
			}
		}
		if len(all) == 0 {
			ill = append(ill, "nothing runs")
		}
		return strings.Join(ill, ", "), nil
	})
}

// errHopeless is returned by a look that no waiting mends.
var errHopeless = errors.New("waiting does not mend it")

// wait looks until look finds nothing missing any more; what look returns says what
// is. An error of look is told only when the time is up: a container that starts
// refuses questions.
func (s *stack) wait(ctx context.Context, what string, look func() (missing string, err error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		missing, err := look()
		if err == nil && missing == "" {
			return nil
		}
		if errors.Is(err, errHopeless) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w; missing: %s", what, context.Cause(ctx), missing), err)
		case <-ticker.C:
		}
	}
}

// address is where a service's port is published. Asked each time: a container that
// is started again has another one.
func (s *stack) address(ctx context.Context, service, port string) (string, error) {
	all, err := s.containers(ctx, service)
	if err != nil {
		return "", err
	}
	for _, c := range all {
		for _, published := range c.NetworkSettings.Ports[port+"/tcp"] {
			return net.JoinHostPort(published.HostIP, published.HostPort), nil
		}
	}
	return "", fmt.Errorf("port %s of %s is not published", port, service)
}

// ask reads an answer in JSON from a service's published port.
func (s *stack) ask(ctx context.Context, method, service, port, path string, body, into any) error {
	address, err := s.address(ctx, service, port)
	if err != nil {
		return err
	}
	var sent io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the question: %w", err)
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, sent)
	if err != nil {
		return fmt.Errorf("ask %s%s: %w", service, path, err)
	}
	response, err := s.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s%s: %w", service, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask %s%s: %w", service, path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("ask %s%s: %d %.500s", service, path, response.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer of %s%s: %w", service, path, err)
	}
	return nil
}

// command runs an operator's command of ledgerline, from outside, as the user
// operator.
func (s *stack) command(ctx context.Context, into any, args ...string) error {
	address, err := s.address(ctx, s.natsService(), "4222")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.options.ledgerline, append(args, "--output", "json")...)
	cmd.Env = append(os.Environ(), "NATS_URL=nats://"+address)
	if s.identities == "" {
		cmd.Env = append(cmd.Env, "NATS_USER=operator", "NATS_PASSWORD="+s.passwords["operator"])
	} else {
		cmd.Env = append(cmd.Env, "NATS_CREDS="+s.credentials("operator"), "NATS_CA="+s.authority())
	}
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ledgerline %s: %w\n%s", strings.Join(args, " "), err, faults.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("read the answer of ledgerline %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// natsService is the NATS server that is asked from outside.
func (s *stack) natsService() string {
	if s.options.cluster {
		return "nats-1"
	}
	return "nats"
}

// logs is what a service's containers printed.
func (s *stack) logs(ctx context.Context, service string, args ...string) (string, error) {
	return s.composed(ctx, append(append([]string{"logs", "--no-color"}, args...), service)...)
}

// tellLogs shows, after a failure, how everything stands and what it said last.
func (s *stack) tellLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	for _, args := range [][]string{{"ps"}, {"logs", "--no-color", "--tail=" + toldLines}} {
		text, err := s.composed(ctx, args...)
		if err != nil {
			text = err.Error()
		}
		fmt.Fprintf(s.out, "\n%s\n", text)
	}
}
