package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/endpoint"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

const (
	// presenceWait is how long a replica may take to answer that it is there, after
	// the one before it; a busy machine takes its time.
	presenceWait = 2 * time.Second
	// monitorTimeout bounds a look at the server's monitoring port.
	monitorTimeout = 5 * time.Second
	// maxVarz bounds what is read of it.
	maxVarz = 1 << 20
	// defaultSync is the server's own sync_interval.
	defaultSync = 2 * time.Minute
)

// Verdict is what a check came to.
type Verdict string

// The verdicts.
const (
	Good Verdict = "ok"
	// Doubtful is not wrong, and worth a thought.
	Doubtful Verdict = "warning"
	Wrong    Verdict = "wrong"
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
}

// Diagnosis is all of them.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
	// PowerCut says what a power cut would lose with the present settings.
	PowerCut string `json:"powerCut"`
	OK       bool   `json:"ok"`
}

func (d *Diagnosis) add(name string, v Verdict, format string, args ...any) {
	d.Findings = append(d.Findings, Finding{Name: name, Verdict: v, Text: fmt.Sprintf(format, args...)})
	d.OK = d.OK && v != Wrong
}

// Doctor is `ledgerline doctor`.
type Doctor struct {
	NATS    config.NATS `embed:""`
	Log     config.Log  `embed:""`
	Monitor string      `placeholder:"URL" help:"The NATS server's monitoring port, such as http://127.0.0.1:8222: only there it tells how often it syncs."`
}

// Run looks at everything that the promises rest on; the exit code is 1 where
// something is wrong.
func (c *Doctor) Run(s *Session) error {
	return s.onNATS(c.NATS, func(ctx context.Context, js jetstream.JetStream) error {
		d := c.examine(ctx, js)
		if err := s.print(d, func() error { return s.printDiagnosis(d) }); err != nil {
			return err
		}
		if !d.OK {
			return program.Exit(1)
		}
		return nil
	})
}

func (c *Doctor) examine(ctx context.Context, js jetstream.JetStream) *Diagnosis {
	d := &Diagnosis{Findings: []Finding{}, OK: true}
	conn := js.Conn()
	// Connecting has refused a server that is too old.
	d.add("nats", Good, "%s, server %s, version %s", conn.ConnectedUrlRedacted(), conn.ConnectedServerName(), conn.ConnectedServerVersion())
	if _, err := js.AccountInfo(ctx); err != nil {
		d.add("jetstream", Wrong, "not to be used with these credentials: %v", err)
	} else {
		d.add("jetstream", Good, "enabled for this account")
	}
	replicas := c.workers(ctx, js, d)
	c.streams(ctx, js, d, replicas)
	c.durability(ctx, js, d, replicas)
	return d
}

// workers looks for replicas of each service, and asks a consumer about Pleo and
// its sink. It returns how many replicas of the streams that consumer wants.
func (c *Doctor) workers(ctx context.Context, js jetstream.JetStream, d *Diagnosis) (replicas int) {
	services := []struct {
		name, what string
		found      []micro.Info
		err        error
	}{
		{name: subject.ServiceGateway, what: "no job is detected or started; `ledgerline start JOB` still works"},
		{name: subject.ServiceFetcher, what: "no job is drained"},
		{name: subject.ServiceConsumer, what: "no item is sent"},
	}
	var looks sync.WaitGroup
	for i := range services {
		looks.Go(func() {
			services[i].found, services[i].err = endpoint.Replicas(ctx, js.Conn(), services[i].name, presenceWait)
		})
	}
	looks.Wait()
	for _, service := range services {
		short := strings.TrimPrefix(service.name, "ledgerline-")
		switch {
		case service.err != nil:
			d.add(short, Wrong, "%v", service.err)
		case len(service.found) == 0 && service.name == subject.ServiceGateway:
			// An installation may start its jobs by other means.
			d.add(short, Doubtful, "none is running: %s", service.what)
		case len(service.found) == 0:
			d.add(short, Wrong, "none is running: %s", service.what)
		default:
			d.add(short, Good, "%d running", len(service.found))
		}
	}
	var check endpoint.Check
	err := endpoint.Ask(ctx, js.Conn(), subject.ConsumerCheck, struct{}{}, &check)
	switch {
	case errors.Is(err, endpoint.ErrNobody):
		d.add("pleo", Doubtful, "not asked: only a consumer has the credential")
		d.add("sink", Doubtful, "not asked: only a consumer knows it")
		return 1
	case err != nil:
		d.add("pleo", Wrong, "a consumer was asked and did not answer: %v", err)
		return 1
	}
	for _, side := range []struct{ name, answer string }{{"pleo", check.Pleo}, {"sink", check.Sink}} {
		verdict := Wrong
		if side.answer == endpoint.Ready || strings.HasPrefix(side.answer, "not asked") {
			verdict = Good
		}
		d.add(side.name, verdict, "%s, says %s", side.answer, check.Worker)
	}
	return check.Replicas
}

func (c *Doctor) streams(ctx context.Context, js jetstream.JetStream, d *Diagnosis, replicas int) {
	parts, err := topology.Inspect(ctx, js, topology.Options{Replicas: replicas})
	if err != nil {
		d.add("streams", Wrong, "%v", err)
		return
	}
	good := 0
	for _, part := range parts {
		switch {
		case part.OK():
			good++
		case part.Missing:
			d.add(part.Name, Wrong, "is missing; the next service that starts creates it, empty")
		case len(part.Differences) > 0:
			d.add(part.Name, Wrong, "%s", strings.Join(part.Differences, "; "))
		default:
			d.add(part.Name, Wrong, "only %d of %d replicas are up to date", part.Current, part.Replicas)
		}
	}
	if good == len(parts) {
		d.add("streams", Good, "%d streams, buckets and durables are as they must be", good)
	}
}

// durability says what a power cut would lose.
func (c *Doctor) durability(ctx context.Context, js jetstream.JetStream, d *Diagnosis, replicas int) {
	alone := replicas <= 1
	every, known, err := c.syncs(ctx, js)
	switch {
	case err != nil:
		d.add("durability", Wrong, "%v", err)
	case !known:
		d.add("durability", Doubtful, "how often the server syncs is told by its monitoring port only: give --monitor http://HOST:8222")
	case every == 0:
		d.add("durability", Good, "every write is synced before it is acknowledged, %s", copies(replicas))
	case alone:
		d.add("durability", Doubtful, "the server syncs every %s, %s: set sync_interval to always, or LEDGERLINE_REPLICAS=3 on a cluster", every, copies(replicas))
	default:
		d.add("durability", Good, "the servers sync every %s, %s", every, copies(replicas))
	}
	if !known {
		every = defaultSync
	}
	switch {
	case known && every == 0:
		d.PowerCut = "A power cut would lose nothing that was acknowledged."
	case known && alone:
		d.PowerCut = fmt.Sprintf("A power cut would lose up to the last %s of what was acknowledged: items booked in that time would be sent again.", every)
	case alone:
		d.PowerCut = fmt.Sprintf("A power cut could lose up to the last %s of what was acknowledged (the server's default): items booked in that time would be sent again.", every)
	default:
		d.PowerCut = fmt.Sprintf("A power cut of one server would lose nothing; one of most of them at once could lose up to the last %s of what was acknowledged.", every)
	}
}

func copies(replicas int) string {
	if replicas <= 1 {
		return "on one server"
	}
	return fmt.Sprintf("on %d servers", replicas)
}

// syncs is how often the server syncs what it stores, 0 for before every
// acknowledgement. The embedded server of `ledgerline up` is known to.
func (c *Doctor) syncs(ctx context.Context, js jetstream.JetStream) (every time.Duration, known bool, err error) {
	if js.Conn().ConnectedServerName() == embedded.ServerName {
		return 0, true, nil
	}
	if c.Monitor == "" {
		return 0, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Monitor, "/")+"/varz", nil)
	if err != nil {
		return 0, false, fmt.Errorf("ask the monitoring port: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, false, fmt.Errorf("ask the monitoring port: %w", err)
	}
	defer answer.Body.Close()
	var varz struct {
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxVarz)).Decode(&varz); err != nil {
		return 0, false, fmt.Errorf("%s is no monitoring port of a NATS server: %w", c.Monitor, err)
	}
	switch config := varz.JetStream.Config; {
	case config == nil:
		return 0, false, fmt.Errorf("the server at %s has no JetStream", c.Monitor)
	case config.SyncAlways:
		return 0, true, nil
	case config.SyncInterval > 0:
		return config.SyncInterval, true, nil
	}
	return defaultSync, true, nil
}

func (s *Session) printDiagnosis(d *Diagnosis) error {
	marks := map[Verdict]string{Good: "ok", Doubtful: "?", Wrong: "WRONG"}
	for _, f := range d.Findings {
		text := strings.TrimSpace(wrap(f.Name+": "+f.Text, "         ", tableWidth))
		if err := s.printf("%-7s  %s\n", marks[f.Verdict], text); err != nil {
			return err
		}
	}
	return s.printf("\n%s", wrap(d.PowerCut, "", tableWidth))
}
