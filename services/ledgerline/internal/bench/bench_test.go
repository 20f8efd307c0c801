package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/simulate"
)

// actAs, as the first argument, makes this test's own binary act as the program
// that the second one names: one of those whose memory is measured.
const actAs = "act-as"

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != actAs {
		goleak.VerifyTestMain(m)
		return
	}
	p := program.FromOS(os.Args[2], "acts as "+os.Args[2])
	p.Args = os.Args[3:]
	switch p.Name {
	case "fetcher":
		os.Exit(program.Main(p, &fetcher.Settings{}, fetcher.Serve))
	case "consumer":
		os.Exit(program.Main(p, &consumer.Settings{}, consumer.Serve))
	case "nats-server":
		natsServer(p.Args)
		return
	}
	type commands struct {
		Simulate simulate.Command `cmd:""`
	}
	os.Exit(program.Main(p, &commands{}, func(ctx context.Context, _ *commands, rt *program.Runtime) error {
		return rt.Command.Run(&operate.Session{Context: ctx, Runtime: rt})
	}))
}

// natsServer runs until it is signalled.
func natsServer(args []string) {
	options, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ExitOnError), args, nil, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	s, err := server.NewServer(options)
	if err != nil {
		log.Fatal(err)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
}

// actors are this test's own binary in the place of each program.
func actors() *programs {
	return &programs{
		fetcher:   []string{os.Args[0], actAs, "fetcher"},
		consumer:  []string{os.Args[0], actAs, "consumer"},
		simulator: []string{os.Args[0], actAs, "ledgerline", "simulate"},
		server:    []string{os.Args[0], actAs, "nats-server"},
	}
}

// Jobs at once on a cluster: each line tells of all its jobs, and that none was sent
// an item twice.
func TestJobsAtOnceAreMeasuredOnACluster(t *testing.T) {
	t.Parallel()
	b := &bench{dir: t.TempDir(), say: sayer(t.Output()), sizes: sizes{together: []int{2, 3}, paced: 50 * time.Millisecond}, programs: actors()}
	found, err := b.runCluster(t.Context())
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("SKIPPED: this system does not tell the processor time of a process")
	}
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := found.writeText(&text); err != nil {
		t.Fatal(err)
	}
	if len(found.Lines) != 2 || strings.Count(text.String(), "0 sent again") != 2 || !strings.Contains(text.String(), "3 jobs at once, 3 items of 15ms each") {
		t.Errorf("%s", &text)
	}
}

// TestEveryMeasurementRuns runs all of it in the smallest sizes. It says nothing
// about the figures, but that they are there.
func TestEveryMeasurementRuns(t *testing.T) {
	t.Parallel()
	b := &bench{
		dir: t.TempDir(), say: sayer(t.Output()),
		sizes:    sizes{rounds: 1, shown: 1, writes: 70, staged: 1_100, tenJobs: 3, many: 3, manyItems: 1, slow: 2, memory: 120},
		programs: actors(),
	}
	found, err := b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, line := range found.Lines {
		kinds[line.Kind]++
		if line.Value <= 0 {
			t.Errorf("%s: %f", line.Name, line.Value)
		}
	}
	if kinds[kindRaw] < 9 || kinds[kindOurs] < 12 {
		t.Errorf("lines by kind: %v", kinds)
	}
	var text, machine bytes.Buffer
	if err := found.writeText(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "asked >= 80 %") {
		t.Errorf("the table does not tell what is asked:\n%s", &text)
	}
	if err := found.writeJSON(&machine); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(machine.Bytes(), &findings{}); err != nil {
		t.Error(err)
	}
}
