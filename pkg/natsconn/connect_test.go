package natsconn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/embedded"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natsconn"
)

const serverStartLimit = 10 * time.Second

// startServer runs a real NATS server until the test ends or stop is called. An
// address that was in use a moment ago may be given again.
func startServer(t *testing.T, opts server.Options) (url string, stop func()) {
	t.Helper()
	if opts.Host == "" {
		opts.Host = "127.0.0.1"
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(serverStartLimit) {
		t.Fatal("the server does not start")
	}
	stop = func() { srv.Shutdown(); srv.WaitForShutdown() }
	t.Cleanup(stop)
	return srv.ClientURL(), stop
}

// freeAddress is an address that nothing listens on now.
func freeAddress(t *testing.T) (host string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr.IP.String(), addr.Port
}

// connecting is a Connect that runs beside the test.
type connecting struct {
	log    *logtest.Recorder
	result chan result
}

type result struct {
	nc  *nats.Conn
	err error
}

func connect(t *testing.T, ctx context.Context, settings config.NATS, options natsconn.Options) *connecting {
	t.Helper()
	c := &connecting{log: logtest.New(t), result: make(chan result, 1)}
	options.Name, options.Logger = "ledgerline-test", c.log.Logger()
	go func() {
		nc, err := natsconn.Connect(ctx, settings, options)
		c.result <- result{nc, err}
	}()
	return c
}

func (c *connecting) conn(t *testing.T) *nats.Conn {
	t.Helper()
	got := <-c.result
	if got.err != nil {
		t.Fatalf("connect: %v\n%s", got.err, c.log.Text())
	}
	t.Cleanup(func() {
		got.nc.Close()
		c.log.Wait(logevent.NATSClosed)
	})
	return got.nc
}

func TestConnectsAndIsReady(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{})
	c := connect(t, t.Context(), config.NATS{URL: url}, natsconn.Options{InboxPrefix: "_INBOX_test"})
	nc := c.conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
	if err := natsconn.Ready(nil); !errors.Is(err, natsconn.ErrNotConnected) {
		t.Errorf("no connection yet: %v", err)
	}
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, "_INBOX_test.") {
		t.Errorf("the inbox is %s", inbox)
	}
	if line := c.log.Wait(logevent.NATSConnected); line["server_version"] != server.VERSION {
		t.Errorf("logged %v", line)
	}
	nc.Close()
	if err := natsconn.Ready(nc); !errors.Is(err, natsconn.ErrNotConnected) {
		t.Errorf("a closed connection: %v", err)
	}
}

func TestWaitsForAServerThatIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	host, port := freeAddress(t)
	c := connect(t, t.Context(), config.NATS{URL: fmt.Sprintf("nats://%s:%d", host, port)}, natsconn.Options{})
	c.log.Wait(logevent.NATSWaiting)
	startServer(t, server.Options{Host: host, Port: port})
	if err := natsconn.Ready(c.conn(t)); err != nil {
		t.Error(err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	host, port := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := connect(t, ctx, config.NATS{URL: fmt.Sprintf("nats://%s:%d", host, port)}, natsconn.Options{})
	c.log.Wait(logevent.NATSWaiting)
	cancel()
	if got := <-c.result; !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %v", got.err)
	}
	c.log.Wait(logevent.NATSClosed)
}

func TestGoesOnWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	host, port := freeAddress(t)
	url, stop := startServer(t, server.Options{Host: host, Port: port})
	c := connect(t, t.Context(), config.NATS{URL: url}, natsconn.Options{})
	nc := c.conn(t)
	stop()
	c.log.Wait(logevent.NATSDisconnected)
	if err := natsconn.Ready(nc); !errors.Is(err, natsconn.ErrNotConnected) {
		t.Errorf("while the server is away: %v", err)
	}
	startServer(t, server.Options{Host: host, Port: port})
	c.log.Wait(logevent.NATSReconnected)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
}

// gate lets in who has the password, and tells of everybody else.
type gate struct {
	password string
	refused  chan struct{}
}

func (g *gate) Check(c server.ClientAuthentication) bool {
	if c.GetOpts().Password == g.password {
		return true
	}
	select {
	case g.refused <- struct{}{}:
	default:
	}
	return false
}

// The client itself gives up when one server refuses it twice.
func TestAWrongPasswordIsWaitedOutAndReadAgain(t *testing.T) {
	t.Parallel()
	g := &gate{password: "right-password", refused: make(chan struct{}, 100)}
	url, _ := startServer(t, server.Options{CustomClientAuthentication: g})
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, "wrong-password\n")
	c := connect(t, t.Context(), config.NATS{
		URL: url, User: config.NewSecret("worker"), Password: config.SecretFromFile(file),
	}, natsconn.Options{})
	if line := c.log.Wait(logevent.NATSAccessRefused); line["level"] != "error" {
		t.Errorf("logged %v", line)
	}
	for range 4 {
		select {
		case <-g.refused:
		case got := <-c.result:
			t.Fatalf("it gave up: %v", got.err)
		}
	}
	writeFile(t, file, "right-password\n")
	if err := natsconn.Ready(c.conn(t)); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"wrong-password", "right-password"} {
		if strings.Contains(c.log.Text(), secret) {
			t.Errorf("the log shows %s", secret)
		}
	}
}

func TestAUserWithoutPasswordIsAToken(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{Authorization: "some-token"})
	nc := connect(t, t.Context(), config.NATS{URL: url, User: config.NewSecret("some-token")}, natsconn.Options{}).conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
}

func TestATokenInTheURLIsNotLogged(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{Authorization: "some-token"})
	c := connect(t, t.Context(), config.NATS{URL: strings.Replace(url, "nats://", "nats://some-token@", 1)}, natsconn.Options{})
	nc := c.conn(t)
	c.log.Wait(logevent.NATSConnected)
	nc.Close()
	c.log.Wait(logevent.NATSClosed)
	if strings.Contains(c.log.Text(), "some-token") {
		t.Errorf("the log shows the token:\n%s", c.log.Text())
	}
}

func TestConnectsByNkey(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "user.nk")
	writeFile(t, file, string(seed))
	url, _ := startServer(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	nc := connect(t, t.Context(), config.NATS{URL: url, NKey: file}, natsconn.Options{}).conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
}

func TestConnectsByContextFile(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{Username: "worker", Password: "from-context"})
	file := filepath.Join(t.TempDir(), "books.json")
	writeFile(t, file, fmt.Sprintf(`{"url":%q,"user":"worker","password":"from-context","inbox_prefix":"_INBOX_ctx"}`, url))
	nc := connect(t, t.Context(), config.NATS{Context: file}, natsconn.Options{}).conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, "_INBOX_ctx.") {
		t.Errorf("the inbox is %s", inbox)
	}
}

func TestAnIdentityThatIsGivenGoesBeforeTheContexts(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{Username: "worker", Password: "given"})
	file := filepath.Join(t.TempDir(), "books.json")
	writeFile(t, file, fmt.Sprintf(`{"url":%q,"user":"somebody","password":"else"}`, url))
	nc := connect(t, t.Context(), config.NATS{
		Context: file, User: config.NewSecret("worker"), Password: config.NewSecret("given"),
	}, natsconn.Options{}).conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
}

func TestASettingOfThisMachineThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for variable, settings := range map[string]config.NATS{
		"NATS_CREDS": {Creds: missing}, "NATS_NKEY": {NKey: missing}, "NATS_CA": {CA: missing},
		"NATS_CERT": {Cert: missing, Key: missing}, "NATS_CONTEXT": {Context: missing}, "NATS_URL": {URL: "http://127.0.0.1"},
	} {
		_, err := natsconn.Connect(t.Context(), settings, natsconn.Options{Name: "fetcher"})
		var faults *config.Error
		if !errors.As(err, &faults) || faults.ExitCode() != 2 || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s: got %v", variable, err)
		}
	}
}

// fakeServer answers like a NATS server of another version, as far as the
// handshake and pings go.
func fakeServer(t *testing.T, version, listen string) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	done, clients := make(chan struct{}), make(chan net.Conn, 16)
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			clients <- conn
			// One client at a time is all that these tests have.
			fmt.Fprintf(conn, "INFO {\"server_id\":\"FAKE\",\"server_name\":\"fake\",\"version\":%q,\"headers\":true,\"max_payload\":1048576}\r\n", version)
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "PING") {
					fmt.Fprint(conn, "PONG\r\n")
				}
			}
		}
	}()
	stop = func() {
		l.Close()
		for {
			select {
			case conn := <-clients:
				conn.Close()
			case <-done:
				return
			}
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestAnOlderServerIsRefusedByName(t *testing.T) {
	t.Parallel()
	address, _ := fakeServer(t, "2.10.0", "127.0.0.1:0")
	c := connect(t, t.Context(), config.NATS{URL: "nats://" + address}, natsconn.Options{})
	got := <-c.result
	if !errors.Is(got.err, natsconn.ErrServerTooOld) {
		t.Fatalf("got %v", got.err)
	}
	for _, part := range []string{"2.10.0", natsconn.MinServerVersion, address} {
		if !strings.Contains(got.err.Error(), part) {
			t.Errorf("%q does not name %s", got.err, part)
		}
	}
	c.log.Wait(logevent.NATSClosed)
}

func TestAnOlderServerAfterAReconnectMakesItUnready(t *testing.T) {
	t.Parallel()
	host, port := freeAddress(t)
	url, stop := startServer(t, server.Options{Host: host, Port: port})
	told := make(chan error, 1)
	c := connect(t, t.Context(), config.NATS{URL: url}, natsconn.Options{OnServerTooOld: func(err error) { told <- err }})
	nc := c.conn(t)
	stop()
	c.log.Wait(logevent.NATSDisconnected)
	fakeServer(t, "2.13.9", fmt.Sprintf("%s:%d", host, port))
	c.log.Wait(logevent.NATSServerTooOld)
	if err := <-told; !errors.Is(err, natsconn.ErrServerTooOld) {
		t.Errorf("told %v", err)
	}
	if err := natsconn.Ready(nc); !errors.Is(err, natsconn.ErrServerTooOld) {
		t.Errorf("ready says %v", err)
	}
	nc.Close()
}

func TestConnectsInsideTheProcess(t *testing.T) {
	t.Parallel()
	// The opened address and its password are for others; nothing of the settings
	// is looked at.
	s, err := embedded.Start(embedded.Options{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", User: "worker", Password: "of-the-worker",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := connect(t, t.Context(), config.NATS{URL: "nats://nowhere.invalid"}, natsconn.Options{InProcess: s.InProcess()})
	nc := c.conn(t)
	if err := natsconn.Ready(nc); err != nil {
		t.Error(err)
	}
	nc.Close()
}

func TestASlowConsumerIsLogged(t *testing.T) {
	t.Parallel()
	url, _ := startServer(t, server.Options{})
	c := connect(t, t.Context(), config.NATS{URL: url}, natsconn.Options{})
	nc := c.conn(t)
	release := make(chan struct{})
	sub, err := nc.Subscribe("slow", func(*nats.Msg) { <-release })
	if err != nil {
		t.Fatal(err)
	}
	defer close(release)
	if err := sub.SetPendingLimits(1, 1024); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := nc.Publish("slow", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if line := c.log.Wait(logevent.NATSSlowConsumer); line["subject"] != "slow" {
		t.Errorf("logged %v", line)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
