package operate_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/config"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/pkg/topology"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/terminal/screentest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// On a terminal each open job has a bar that moves in its place; a job that has
// ended leaves one line above them.
func TestWatchOnATerminal(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("TERM", "xterm-256color")
	server := natstest.Start(t)
	js := server.JetStream(t)
	if err := topology.Ensure(t.Context(), js, topology.Options{Replicas: 1, Lease: 10 * time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	first, second := uuid.MustParse("8eb648ab-464b-42a0-ba17-eda703657e33"), uuid.MustParse("0b6f5b9e-27a2-4cc4-8b0f-1d1c0a2f7f10")
	put := putter(t, js)
	put(first, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, 10)
	put(second, ledgerlinev1.JobPhase_JOB_PHASE_PAUSED, 50)

	screen := screentest.New(t, 80, 24)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		watch := &operate.Watch{NATS: config.NATS{URL: server.URL()}}
		ended <- watch.Run(&operate.Session{Context: ctx, Output: operate.OutputText, Runtime: &program.Runtime{Name: "ledgerline", Log: zerolog.Nop(), Stdout: screen.TTY}})
	}()
	sees := func(line string) string {
		t.Helper()
		return screen.Until(line, regexp.MustCompile(line).MatchString)
	}
	sees(`(?m)^8eb648ab .*[━╸─]{20,} +10/100 active$`)
	sees(`(?m)^0b6f5b9e .*[━╸─]{20,} +50/100 paused`)
	sees(`(?m)^ *2 jobs open$`)
	put(first, ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, 60)
	text := sees(`(?m)^8eb648ab .*[━╸─]{20,} +60/100 active$`)
	if strings.Count(text, "8eb648ab") != 1 {
		t.Errorf("the bar does not move in its place:\n%s", text)
	}
	put(first, ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED, 100)
	sees(`(?m)^\d\d:\d\d:\d\d  ` + first.String() + `  100/100  completed$`)
	sees(`(?m)^ *1 job open$`)
	text = screen.Until("the job that has ended once", func(text string) bool { return strings.Count(text, "8eb648ab") == 1 })
	if strings.Index(text, "8eb648ab") > strings.Index(text, "0b6f5b9e") {
		t.Errorf("the job that has ended does not stand above the bars:\n%s", text)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func putter(t *testing.T, js jetstream.JetStream) func(uuid.UUID, ledgerlinev1.JobPhase, uint32) {
	jobs, err := jobstate.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	company := uuid.NewString()
	return func(job uuid.UUID, phase ledgerlinev1.JobPhase, position uint32) {
		t.Helper()
		_, err := jobs.Update(t.Context(), job, func(s *ledgerlinev1.JobState) error {
			s.CompanyId, s.Phase, s.Position, s.Total, s.Run = company, phase, position, 100, 1
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
