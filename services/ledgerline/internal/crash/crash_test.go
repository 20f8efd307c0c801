package crash

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// parallel is how many installations live at a time: they mostly wait for leases.
const parallel = 10

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestDeathAtEveryPoint kills a service before and after each step, once each, or
// as often as the step's life says, starts it again, and has the sink's record and Pleo's final state judged.
func TestDeathAtEveryPoint(t *testing.T) {
	t.Parallel()
	if slow {
		t.Skip("the race detector says nothing about processes that are built without it")
	}
	bin := t.TempDir()
	services := []string{"gateway", "fetcher", "consumer"}
	args := []string{"build", "-tags", "crashpoints", "-o", bin}
	for _, service := range services {
		args = append(args, module+"services/"+service+"/cmd/"+service)
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build the services: %v\n%s", err, out)
	}
	for _, step := range slices.Sorted(maps.Keys(names(t))) {
		service, _, _ := strings.Cut(step, "/")
		for _, side := range []string{"before", "after"} {
			if step == "fetcher/page" && side == "before" {
				continue // a page is taken in, not asked for: reading has the point before it
			}
			l := lives[step]
			for i, at := range l.deaths() {
				name := side + " " + step
				if i > 0 {
					name += " " + strconv.Itoa(at)
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					b := newBed(t, l)
					b.alive(service)
					b.start(filepath.Join(bin, service), "CRASHPOINT="+side+" "+step, "CRASHPOINT_AT="+strconv.Itoa(at))
					l.begin(b)
					b.dies()
					if l.died != nil {
						l.died(b)
					}
					b.start(filepath.Join(bin, service))
					b.settles()
					b.stops()
				})
			}
		}
	}
}

// settles waits until all has come to its end, and judges it.
func (b *bed) settles() {
	b.t.Helper()
	if b.mend {
		b.reconcile()
	}
	states := b.ends()
	for _, stream := range []string{subject.StreamEvents, subject.StreamPipe, subject.StreamDetected} {
		b.empty(stream)
	}
	// A job's consumer goes before its manifest does.
	if names := natstest.Consumers(b.ctx(), b.t, b.js, subject.StreamPipe); !slices.Equal(names, []string{subject.DurableConsumer}) {
		b.t.Errorf("the pipe has the consumers %v, want %s alone", names, subject.DurableConsumer)
	}
	status := simulator.JobCompleted
	if b.life.pleo != "" {
		status = b.life.pleo
	}
	for _, problem := range judge(b.sim.Snapshot(), b.sink, status) {
		b.t.Error(problem)
	}
	// A life that ends before a person ends there once, with a reason.
	b.until("all is parked that must be", func() bool { return len(b.parked()) >= b.life.parked })
	all := b.parked()
	if len(all) != b.life.parked {
		b.t.Errorf("%d things are parked, must be %d: %v", len(all), b.life.parked, all)
	}
	for _, p := range all {
		if p.GetReason() == "" {
			b.t.Errorf("parked without a reason: %v", p)
		}
	}
	phase := b.life.phase
	switch {
	case phase == 0 && b.life.parked > 0:
		phase = ledgerlinev1.JobPhase_JOB_PHASE_PARKED
	case phase == 0:
		phase = ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED
	}
	for job, state := range states {
		if state.GetPhase() != phase {
			b.t.Errorf("job %s is %s here, must be %s: %s", job, state.GetPhase(), phase, state.GetReason())
		}
	}
}
