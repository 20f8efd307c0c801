package endtoend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobview"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/simulator"
)

var updateTranscripts = flag.Bool("update", false, "write the transcripts anew; read the difference")

// commandsTranscript is what the commands print, from an empty installation to one
// in trouble. docs/commands.md shows parts of it.
var commandsTranscript = filepath.Join("testdata", "transcripts", "commands.txt")

// story is a transcript in the making: commands of the real program against an
// installation in this process.
type story struct {
	in      *installation
	program string
	environ []string
	text    strings.Builder
}

// say adds a line that explains what follows.
func (s *story) say(format string, args ...any) {
	if s.text.Len() > 0 {
		s.text.WriteString("\n")
	}
	fmt.Fprintf(&s.text, "# "+format+"\n", args...)
}

// run runs the program and adds what it prints, and its exit code where that is
// not 0.
func (s *story) run(args ...string) {
	s.in.t.Helper()
	s.text.WriteString(mask("$ ledgerline " + strings.Join(args, " ") + "\n"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, s.program, args...)
	command.Env = s.environ
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.in.t.Fatalf("%v: %v", args, err)
	}
	text := mask(out.String())
	for line := range strings.Lines(text) {
		// Not JSON, an error, or code.
		isTable := exit == nil && !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, " ") && args[0] != "completion"
		if n := len([]rune(strings.TrimRight(line, "\n"))); isTable && n > 80 {
			s.in.t.Errorf("ledgerline %s prints a line of %d columns: %s", strings.Join(args, " "), n, line)
		}
	}
	s.text.WriteString(text)
	if exit != nil {
		fmt.Fprintf(&s.text, "exit code %d\n", exit.ExitCode())
	}
}

// masks make two runs alike. Where a column depends on it, the length stays.
var masks = []struct {
	is *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "2026-01-02T03:04:05Z"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "2026-01-02 03:04:05"},
	{regexp.MustCompile(`(?m)^\d\d-\d\d \d\d:\d\d:\d\d`), "01-02 03:04:05"},
	{regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d`), "03:04:05"},
	{regexp.MustCompile(`nats://127\.0\.0\.1:\d+`), "nats://127.0.0.1:4222"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://127.0.0.1:8222"},
	{regexp.MustCompile(`version \d+\.\d+\.\d+`), "version 2.15.2"},
	{regexp.MustCompile(`"oldestJobAgeSeconds": [\d.]+[1-9][\d.]*`), `"oldestJobAgeSeconds": 4.2`},
	{regexp.MustCompile(`(?m)^oldest job    [1-9]\S*s$`), "oldest job    4s"},
	{regexp.MustCompile(`sequence \d+`), "sequence 7"},
	{regexp.MustCompile(`request-Id [0-9a-f-]+`), "request-Id 1f0c9a52"},
	{regexp.MustCompile(`(?m)^ledgerline .+ \(go\S+\)$`), "ledgerline v1.0.0 (go1.26)"},
	{regexp.MustCompile(`"version": "[^"]+"`), `"version": "v1.0.0"`},
	{regexp.MustCompile(`"go": "[^"]+"`), `"go": "go1.26"`},
	{regexp.MustCompile(`/\S*/ledgerline\b`), "/usr/local/bin/ledgerline"},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.is.ReplaceAllString(text, m.to)
	}
	return text
}

// fixed is an id that stands in a transcript.
func fixed(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("8eb648ab-464b-42a0-ba17-0000000000%02d", n))
}

// Every command of the outside contract, section 8, with what it prints for people
// and for programs, on states that faults have made.
func TestCommandsPrintWhatTheDocumentShows(t *testing.T) {
	t.Parallel()
	in := installIn(t, simulator.Config{Seed: 150}, t.TempDir(), "127.0.0.1:0")
	bin := filepath.Join(t.TempDir(), "ledgerline")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/ledgerline/ledgerline/services/ledgerline")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	s := &story{in: in, program: bin, environ: []string{"NATS_URL=nats://" + in.server.Addr(), "TZ=UTC", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	s.nothingYet()
	// The sink refuses the second item of the job with errors, and keeps that of the
	// held jobs waiting.
	done, errs, parked, held, dropped := fixed(1), fixed(2), fixed(3), fixed(4), fixed(5)
	var mu sync.Mutex
	holding := map[string]bool{held.String(): true, dropped.String(): true}
	resumed := make(chan struct{})
	to := &book{answer: func(ctx context.Context, d sink.Delivery) sink.Answer {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case d.JobID == held.String() && d.Position == 2 && !holding[d.JobID]:
			select { // until the command has told where the job goes on
			case <-resumed:
			case <-ctx.Done():
			}
		case d.JobID == errs.String() && d.Position == 2:
			return sink.Answer{Outcome: sink.Failed, FailureReason: "The period is closed", FailureReasonType: "accounting_system_validation_failure"}
		case holding[d.JobID] && d.Position == 2:
			return sink.Answer{Outcome: sink.Retry, RetryAfter: time.Hour}
		}
		return sink.Answer{Outcome: sink.Booked, ExternalID: fmt.Sprintf("INV-%d", 100+d.Position)}
	}}
	in.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if readsItems(r) && strings.Contains(r.URL.Path, parked.String()) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"type":"INSUFFICIENT_SCOPE","message":"The credential lacks the scope export-jobs:read"}`))
			return
		}
		next.ServeHTTP(w, r)
	})
	in.fetcher()
	in.consumer(to, named("consumer-a"))
	in.log.Wait("consumer ready")
	for i, job := range []uuid.UUID{done, errs, parked, held, dropped} {
		entries := entries(3)
		for n := range entries {
			entries[n].ID[15] = byte(i + 1)
		}
		in.add(simulator.JobSpec{ID: job, CompanyID: companyID(i + 1), Entries: entries, CreatedAt: time.Now().Add(time.Duration(i-10) * time.Second)})
	}
	s.running(done, errs)
	s.inTrouble(parked)
	s.steering(held, dropped, func() {
		mu.Lock()
		defer mu.Unlock()
		delete(holding, held.String())
	}, func() { close(resumed) })
	s.lastThings(done, parked)

	got := s.text.String()
	if *updateTranscripts {
		if err := os.MkdirAll(filepath.Dir(commandsTranscript), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(commandsTranscript, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(commandsTranscript)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the commands print otherwise than %s; the difference, - as it stands:\n%s", commandsTranscript, difference(string(want), got))
	}
}

func companyID(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("c0ffee00-0000-4000-8000-0000000000%02d", n))
}

// difference are the lines that two texts do not share, from the first on.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return "- " + strings.Join(a, "\n- ") + "\n+ " + strings.Join(b, "\n+ ")
}

func (s *story) nothingYet() {
	s.say("An installation that has just begun: the streams are there, no worker is.")
	s.run("jobs")
	s.run("parked")
	s.run("lag")
	s.run("verify")
	s.run("jobs", "--output", "json")
	s.run("--output", "json", "parked")
	s.run("lag", "-o", "json")
	s.run("doctor")
	s.run("reconcile", fixed(1).String())
}

func (s *story) running(done, errs uuid.UUID) {
	s.say("Workers run; one job is started by hand, another has an item that the sink refuses.")
	s.run("start", done.String())
	s.in.ends(done)
	s.run("start", errs.String(), "-o", "json")
	s.in.ends(errs)
	s.in.waitForManifests()
	s.run("jobs")
	s.run("job", errs.String())
	s.run("ledger", errs.String())
	s.run("ledger", errs.String(), "-o", "json")
	s.run("verify", done.String())
	s.run("verify", errs.String(), "-o", "json")
	s.run("reconcile", errs.String())
	s.run("doctor", "--monitor", "http://"+s.in.server.MonitorAddr())
	s.run("doctor", "-o", "json")
}

func (s *story) inTrouble(parked uuid.UUID) {
	s.say("A job that Pleo refuses, and an event that says nothing: both are parked.")
	s.in.publish(parked)
	s.in.ends(parked)
	s.in.parkedThing(func(p *ledgerlinev1.Parked) bool { return p.GetJobId() == parked.String() })
	s.in.publishRaw("", []byte("no event"))
	s.in.parkedThing(func(p *ledgerlinev1.Parked) bool { return p.GetKind() == ledgerlinev1.ParkedKind_PARKED_KIND_EVENT })
	s.run("parked")
	s.run("parked", "-o", "json")
	s.run("job", parked.String())
	s.run("cancel", parked.String())
	s.say("The scope is granted, and the job drained again.")
	s.in.intercept(nil)
	s.run("reconcile", parked.String())
	s.run("retry", parked.String())
	s.in.completes(parked)
	s.in.waitForManifests()
	s.run("job", parked.String(), "-o", "json")
	s.run("parked")
}

func (s *story) steering(held, dropped uuid.UUID, goOn, told func()) {
	s.say("A job whose second item the sink does not take is paused.")
	s.in.publish(held)
	s.in.log.WaitCount("item retried", 1)
	s.run("pause", held.String())
	s.in.untilLag(held, 2)
	s.run("job", held.String())
	s.run("jobs")
	s.run("lag")
	s.run("jobs", "-o", "json")
	s.say("It goes on when the sink does.")
	goOn()
	s.run("resume", held.String())
	told()
	s.in.completes(held)
	s.in.waitForManifests()
	s.say("Another one is paused, watched, and cancelled: what was booked is reported, Pleo is told.")
	s.in.publish(dropped)
	s.in.log.WaitCount("item retried", 2)
	s.run("pause", dropped.String(), "-o", "json")
	s.in.untilLag(dropped, 2)
	watched := s.follow("watch", "--until-done")
	s.run("cancel", dropped.String())
	s.in.waitForManifests()
	watched()
	s.run("job", dropped.String())
	s.run("ledger", dropped.String())
	s.run("reconcile", dropped.String(), "-o", "json")
	s.run("jobs")
	s.run("verify")
}

// follow runs the program until it has printed a line, and on; the returned
// function waits for its end and adds what it printed.
func (s *story) follow(args ...string) (end func()) {
	s.in.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	command := exec.CommandContext(ctx, s.program, args...)
	command.Env = s.environ
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		cancel()
		s.in.t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		cancel()
		s.in.t.Fatalf("%v: %q: %v", args, first, err)
	}
	return func() {
		s.in.t.Helper()
		defer cancel()
		rest, err := io.ReadAll(lines)
		if err == nil {
			err = command.Wait()
		}
		if err != nil {
			s.in.t.Fatalf("%v: %v", args, err)
		}
		s.text.WriteString("$ ledgerline " + strings.Join(args, " ") + "\n" + mask(first+string(rest)))
	}
}

// untilLag waits until so many items of a job are not acked.
func (in *installation) untilLag(job uuid.UUID, lag uint64) {
	in.t.Helper()
	ctx := in.bounded("")
	v, err := jobview.Open(ctx, in.js)
	if err != nil {
		in.t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		row, err := v.One(ctx, job)
		if err != nil {
			in.t.Fatal(err)
		}
		if row.Lag == lag {
			return
		}
		<-tick.C
	}
}

func (s *story) lastThings(done, parked uuid.UUID) {
	s.say("What cannot be done says what can.")
	unknown := fixed(99)
	s.run("job", unknown.String())
	s.run("pause", unknown.String())
	s.run("pause", done.String())
	s.run("retry", parked.String())
	s.run("verify", unknown.String())
	s.run("reconcile", unknown.String())
	s.run("job", "8eb648ab")
	s.run("start")
	s.run("version")
	s.run("version", "-o", "json")
	s.run("completion", "bash")
}

// What docs/commands.md shows stands in the transcript, and it shows every command.
func TestTheDocumentShowsWhatCommandsPrint(t *testing.T) {
	t.Parallel()
	transcript, err := os.ReadFile(commandsTranscript)
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(document), -1)
	if len(blocks) == 0 {
		t.Fatal("the document has no blocks")
	}
	for _, block := range blocks {
		if !strings.Contains(string(transcript), block[1]) {
			t.Errorf("no transcript has this block:\n%s", block[1])
		}
	}
	for _, command := range []string{"start", "jobs", "job", "watch", "lag", "pause", "resume", "cancel", "parked", "retry", "ledger", "verify", "reconcile", "doctor", "health", "version", "completion"} {
		if !strings.Contains(string(document), "`"+command) {
			t.Errorf("the document does not name %s", command)
		}
	}
}
