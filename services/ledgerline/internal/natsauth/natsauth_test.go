package natsauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	// testLimit is far above what a test takes; it costs nothing when it passes.
	testLimit = 3 * time.Minute
	lookEvery = 50 * time.Millisecond
)

var deployed = filepath.Join("..", "..", "..", "..", "deploy", "nats")

// bed is a server with the installation's users.
type bed struct {
	server *server.Server
	config string
	url    string
	// environ is what a program is told to be the user.
	environ func(user string) []string
	options func(user string) []nats.Option
}

// start runs a server from the text of a configuration, in dir.
func start(t *testing.T, dir, text string) *bed {
	t.Helper()
	b := &bed{config: filepath.Join(dir, "server.conf")}
	text = fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream { store_dir: %q, sync_interval: always }\n", t.TempDir()) + text
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	if b.server, err = server.NewServer(o); err != nil {
		t.Fatal(err)
	}
	b.server.Start()
	t.Cleanup(func() {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	})
	if !b.server.ReadyForConnections(testLimit) {
		t.Fatal("the server does not start")
	}
	b.url = b.server.ClientURL()
	return b
}

// passwords is the server of docker-compose.yml.
func passwords(t *testing.T) *bed {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"accounts.conf", "permissions.conf"} {
		text, err := os.ReadFile(filepath.Join(deployed, name))
		if err != nil {
			t.Fatal(err)
		}
		// The environment is the process's, and other tests run in it.
		for _, user := range []string{"gateway", "fetcher", "consumer", "operator", "admin", "system"} {
			text = bytes.ReplaceAll(text, []byte("$NATS_"+strings.ToUpper(user)+"_PASSWORD"), []byte("secret-"+user))
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, dir, "include accounts.conf\n")
	b.environ = func(user string) []string {
		return []string{"NATS_URL=" + b.url, "NATS_USER=" + user, "NATS_PASSWORD=secret-" + user}
	}
	b.options = func(user string) []nats.Option { return []nats.Option{nats.UserInfo(user, "secret-"+user)} }
	return b
}

// credentials is a server with signed users and TLS, as scripts/nats-auth makes it.
func credentials(t *testing.T) (b *bed, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := Create(dir, filepath.Join(deployed, "permissions.conf")); err != nil {
		t.Fatal(err)
	}
	if err := Certificates(dir, []string{"localhost", "127.0.0.1"}, ""); err != nil {
		t.Fatal(err)
	}
	b = start(t, dir, "include auth.conf\ninclude tls.conf\n")
	ca := filepath.Join(dir, "tls", "ca.pem")
	b.environ = func(user string) []string {
		return []string{"NATS_URL=" + b.url, "NATS_CREDS=" + credsFile(dir, user), "NATS_CA=" + ca}
	}
	b.options = func(user string) []nats.Option {
		return []nats.Option{nats.UserCredentials(credsFile(dir, user)), nats.RootCAs(ca)}
	}
	return b, dir
}

var inbox = map[string]string{
	"gateway": "ledgerline-gateway", "fetcher": "ledgerline-fetcher", "consumer": "ledgerline-consumer", "operator": "ledgerline-cli",
	"admin": "ledgerline-admin",
}

// refusal publishes to a subject as a user and returns the server's refusal, or "".
func (b *bed) refusal(t *testing.T, user, subject string) string {
	t.Helper()
	refused := make(chan error, 8)
	conn, err := nats.Connect(b.url, append(b.options(user), nats.CustomInboxPrefix("_INBOX."+inbox[user]),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))...)
	if err != nil {
		t.Fatalf("connect as %s: %v", user, err)
	}
	defer conn.Close()
	if err := conn.PublishRequest(subject, conn.NewRespInbox(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	// The server's answer to the flush comes after its refusal.
	if err := conn.FlushTimeout(testLimit); err != nil {
		t.Fatal(err)
	}
	if err := conn.LastError(); err != nil {
		return err.Error()
	}
	return ""
}

// No program's user may do another one's work, none may remove what is stored, and
// none reads another one's answers.
func TestLeastPrivilegeRefuses(t *testing.T) {
	t.Parallel()
	const company, job = "0b9d0c4e-6f0a-4c39-9a54-1f1b7b3c2d1e", "1b9d0c4e-6f0a-4c39-9a54-1f1b7b3c2d1e"
	b := passwords(t)
	ledger := []string{"ledgerline.ledger." + company + "." + job, "ledgerline.booked." + company + "." + job, "ledgerline.turn." + company}
	items := []string{"ledgerline.items." + job + ".ATTEMPT", "ledgerline.ready." + job}
	event := []string{"ledgerline.jobs.started"}
	tokens := []string{"$KV.LEDGERLINE_TOKENS.default.0", "$JS.API.STREAM.MSG.GET.KV_LEDGERLINE_TOKENS", "$JS.API.CONSUMER.CREATE.KV_LEDGERLINE_TOKENS.x"}
	var removal []string
	for _, stream := range []string{"LEDGERLINE_EVENTS", "LEDGERLINE_PIPE", "LEDGERLINE_LEDGER", "LEDGERLINE_PARKED", "LEDGERLINE_DETECTED", "KV_LEDGERLINE_JOBS", "KV_LEDGERLINE_TOKENS"} {
		for _, verb := range []string{"DELETE", "UPDATE", "RESTORE", "SNAPSHOT"} {
			removal = append(removal, "$JS.API.STREAM."+verb+"."+stream)
		}
	}
	removal = append(removal, "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.PURGE.LEDGERLINE_EVENTS", "$JS.API.STREAM.MSG.DELETE.LEDGERLINE_LEDGER")
	all := slices.Concat(ledger, items, event, tokens)
	for user, may := range map[string][]string{
		"gateway":  slices.Concat(event, tokens),
		"fetcher":  slices.Concat(items, event, tokens),
		"consumer": slices.Concat(ledger, tokens),
		"operator": event, // its own wish: `ledgerline start`
		"admin":    all,
	} {
		for _, subject := range all {
			if refused := b.refusal(t, user, subject); (refused == "") != slices.Contains(may, subject) {
				t.Errorf("%s publishes to %s: refused %q", user, subject, refused)
			}
		}
		if user == "admin" {
			continue
		}
		for _, subject := range removal {
			if b.refusal(t, user, subject) == "" {
				t.Errorf("%s may ask for %s", user, subject)
			}
		}
		for other, prefix := range inbox {
			conn, err := nats.Connect(b.url, append(b.options(user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.SubscribeSync("_INBOX." + prefix + ".>"); err != nil {
				t.Fatal(err)
			}
			if err := conn.FlushTimeout(testLimit); err != nil {
				t.Fatal(err)
			}
			if refused := conn.LastError() != nil; refused != (other != user) {
				t.Errorf("%s reads the answers of %s: refused %v", user, other, refused)
			}
			conn.Close()
		}
	}
}

// The real programs, from the job that is created to the one that is completed, and
// every command of an operator, with these users on passwords, and on TLS and signed
// users: NATS refuses nothing.
func TestEverythingWorksWithLeastPrivilege(t *testing.T) {
	t.Parallel()
	programs := built(t)
	t.Run("passwords", func(t *testing.T) {
		t.Parallel()
		work(t, programs, passwords(t))
	})
	t.Run("TLS and credentials", func(t *testing.T) {
		t.Parallel()
		b, _ := credentials(t)
		work(t, programs, b)
	})
}

// built is a folder with the programs.
func built(t *testing.T) string {
	t.Helper()
	if raceDetector {
		t.Skip("the programs are processes of their own, and built without the race detector")
	}
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", programs,
		"github.com/ledgerline/ledgerline/services/gateway/cmd/gateway",
		"github.com/ledgerline/ledgerline/services/fetcher/cmd/fetcher",
		"github.com/ledgerline/ledgerline/services/consumer/cmd/consumer",
		"github.com/ledgerline/ledgerline/services/ledgerline")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return programs
}

// pleo is a simulated Pleo over HTTP.
func pleo(t *testing.T, config simulator.Config) (*simulator.Simulator, string) {
	t.Helper()
	sim, err := simulator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(sim.Handler())
	t.Cleanup(func() {
		served.Close()
		sim.Close()
	})
	return sim, served.URL
}

// run runs the three services as their users until the test ends. NATS may refuse
// nothing to them.
func (b *bed) run(t *testing.T, programs, pleoURL string, environ ...string) map[string]*log {
	t.Helper()
	common := []string{
		"LEDGERLINE_PLEO_URL=" + pleoURL, "LEDGERLINE_PLEO_TOKEN=" + simulator.DefaultToken, "LEDGERLINE_PLEO_RATE=0",
		"LEDGERLINE_LISTEN=127.0.0.1:0", "TMPDIR=" + t.TempDir(),
	}
	logs := map[string]*log{}
	for _, program := range []string{"gateway", "fetcher", "consumer"} {
		cmd := exec.Command(filepath.Join(programs, program))
		cmd.Env = slices.Concat(common, b.environ(program), environ)
		logs[program] = &log{}
		cmd.Stdout, cmd.Stderr = logs[program], logs[program]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			// It may have ended; then Wait tells how.
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", program, err)
			}
			if refused := logs[program].refused(); len(refused) > 0 {
				t.Errorf("NATS refused to %s: %v", program, refused)
			}
			if t.Failed() {
				t.Logf("%s:\n%s", program, logs[program])
			}
		})
	}
	return logs
}

// work lets an installation complete its jobs, asks it everything, and reads what the
// programs logged.
func work(t *testing.T, programs string, b *bed) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), testLimit, errors.New("the test took too long"))
	defer cancel()
	const companies, items = 3, 20
	sim, pleoURL := pleo(t, simulator.Config{Seed: 11, Companies: companies, Jobs: companies, ItemsPerJob: items, Control: true})
	b.run(t, programs, pleoURL, "LEDGERLINE_LEASE=2s", "LEDGERLINE_POLL_INTERVAL=1s", "LEDGERLINE_SINK=file:"+filepath.Join(t.TempDir(), "book.jsonl"))
	completed(ctx, t, sim, companies)

	// ask runs a command as the operator. That it can say no is not looked at where
	// well is false: a job that has ended cannot be paused.
	ask := func(well bool, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(ctx, filepath.Join(programs, "ledgerline"), args...)
		cmd.Env = b.environ("operator")
		var out, faults bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &faults
		if err := cmd.Run(); err != nil && well || strings.Contains(faults.String(), "ermissions Violation") {
			t.Errorf("ledgerline %s: %v\n%s", strings.Join(args, " "), err, faults.Bytes())
		}
		return out.Bytes()
	}
	var jobs []struct {
		JobID uuid.UUID `json:"jobId"`
	}
	if err := json.Unmarshal(ask(true, "jobs", "--output", "json"), &jobs); err != nil || len(jobs) != companies {
		t.Fatalf("%d jobs are known: %v", len(jobs), err)
	}
	id := jobs[0].JobID.String()
	for _, args := range [][]string{{"job", id}, {"lag"}, {"parked"}, {"ledger", id}, {"ledger"}, {"verify", id}, {"verify"}, {"start", id}} {
		ask(true, args...)
	}
	for _, args := range [][]string{{"reconcile", id}, {"doctor"}, {"pause", id}, {"resume", id}, {"cancel", id}, {"retry", id}} {
		ask(false, args...)
	}
	for company := range companies {
		if _, err := sim.AddJob(simulator.JobSpec{CompanyID: sim.Company(company), Items: new(int)}); err != nil {
			t.Fatal(err)
		}
	}
	parkedID := uuid.New()
	ask(true, "start", parkedID.String()) // unknown at Pleo: parked
	wait(ctx, t, "the unknown job to be parked", func() bool { return bytes.Contains(ask(true, "parked", "--output", "json"), []byte(parkedID.String())) })
	ask(true, "retry", parkedID.String())
	completed(ctx, t, sim, 2*companies)
}

func completed(ctx context.Context, t *testing.T, sim *simulator.Simulator, n int) {
	t.Helper()
	wait(ctx, t, fmt.Sprintf("%d jobs to be completed", n), func() bool {
		done := 0
		for _, job := range sim.Snapshot().Jobs {
			if job.Status == simulator.JobCompleted {
				done++
			}
		}
		return done == n
	})
}

func wait(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("wait for %s: %v", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// log is what a program printed.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) refused() []string {
	refused := map[string]bool{}
	for line := range strings.Lines(l.String()) {
		if _, cause, ok := strings.Cut(line, "ermissions Violation for "); ok {
			refused[strings.SplitN(cause, "\\\"", 3)[1]] = true
		}
	}
	all := []string{}
	for what := range refused {
		all = append(all, what)
	}
	slices.Sort(all)
	return all
}

// A rotated user's old credentials are refused once the server has loaded its
// configuration again; the new ones and everybody else's work.
func TestRotatedCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	b, dir := credentials(t)
	old := filepath.Join(t.TempDir(), "old.creds")
	text, err := os.ReadFile(credsFile(dir, "fetcher"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, text, 0o600); err != nil {
		t.Fatal(err)
	}
	connect := func(creds string) error {
		conn, err := nats.Connect(b.url, nats.UserCredentials(creds), nats.RootCAs(filepath.Join(dir, "tls", "ca.pem")))
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := connect(old); err != nil {
		t.Fatal(err)
	}
	// Tokens carry the second in which they were signed, and a rotation comes in a
	// later one: the servers must take it all the same.
	<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	if err := Rotate(dir, "fetcher"); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := connect(old); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthRevoked) {
		t.Errorf("the old credentials: %v", err)
	}
	for _, user := range []string{"fetcher", "gateway", "operator"} {
		if err := connect(credsFile(dir, user)); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	if err := Create(dir, filepath.Join(deployed, "permissions.conf")); err == nil {
		t.Error("keys in use were replaced")
	}
}
