package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// ServerName is the embedded server's: it tells that every write is synced.
	ServerName = "ledgerline-embedded"

	// MaxPayloadBytes bounds one message. The server's own 1 MiB is too little for
	// a `nats:` sink, whose request carries a whole export item.
	MaxPayloadBytes = 8 << 20

	// maxPendingBytes is what the server buffers for one slow client before it
	// cuts it off. The server wants at least one MaxPayloadBytes; eight keep a
	// worker that fetches a batch of the largest items.
	maxPendingBytes = 8 * MaxPayloadBytes

	// maxBatchMessages and batchTimeout are what staging a job in chained atomic
	// batches rests on: a thousand messages each, and long enough between two
	// messages of one batch for a publisher that waits for the disk.
	maxBatchMessages = 1000
	batchTimeout     = 10 * time.Second

	// maxOpenBatches is how many jobs may be staged at the same time.
	maxOpenBatches = 50

	// startTimeout is the wait for the listener after the store was recovered;
	// recovery itself takes as long as it takes.
	startTimeout = 10 * time.Second

	// randomPort is what the server calls port 0.
	randomPort = -1
)

// Options say where the store lies and what is opened.
type Options struct {
	DataDir  string // made, with permissions 0700, where it is missing
	Listen   string // host:port for NATS clients; port 0 picks a free one; empty opens none
	Monitor  string // host:port for the server's monitoring; empty opens none
	User     string // asked of every client when set, together with Password
	Password string
	Logger   zerolog.Logger
}

// Server is a running server. Its methods may be called from several goroutines.
type Server struct {
	srv      *server.Server
	lock     *flock.Flock
	log      zerolog.Logger
	dataDir  string
	listens  bool
	user     string
	password string
	said     *bridge
	limits   server.JetStreamConfig // as found at the start
	stopMend func()
	// marks are how far the streams had come at the last look, which mend takes, and
	// files their message files, but the last of each.
	marks map[string]highWater
	files map[string]os.FileInfo

	mu       sync.Mutex
	unusable error // why the store cannot be used; nil while it can

	closeOnce sync.Once
	closeErr  error
}

// Start opens the store in o.DataDir, recovers it and returns when clients can
// connect. Errors: ErrDataDir, ErrDataDirInUse, ErrAddress, ErrStore, ErrServer.
// Nothing is deleted on any of them.
func Start(o Options) (*Server, error) {
	opts, err := serverOptions(o)
	if err != nil {
		return nil, err
	}
	lock, err := openDataDir(o.DataDir)
	if err != nil {
		return nil, err
	}
	s, err := start(o, opts, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.log.Info().Str("data_dir", s.dataDir).Str("addr", s.Addr()).Str("monitor", s.MonitorAddr()).
		Str("server_version", server.VERSION).Msg(logevent.NATSServerStarted)
	return s, nil
}

func start(o Options, opts *server.Options, lock *flock.Flock) (*Server, error) {
	stored, err := streamsOnDisk(o.DataDir)
	if err != nil {
		return nil, err
	}
	before, err := readHighWater(o.DataDir)
	if err != nil {
		return nil, err
	}
	accepted, err := hasAccepted(o.DataDir)
	if err != nil {
		return nil, err
	}
	if err := checkBlocks(o.DataDir, stored, before, accepted, o.Logger); err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	said := &bridge{log: o.Logger}
	srv.SetLoggerV2(said, false, false, false)
	srv.Start()

	s := &Server{
		srv: srv, lock: lock, log: o.Logger, dataDir: o.DataDir, listens: o.Listen != "",
		user: o.User, password: o.Password, said: said,
	}
	err = s.checkStarted(said, o)
	if err == nil {
		err = s.checkRecovered(said, stored, before, accepted)
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, err
	}
	s.limits = *srv.JetStreamConfig()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.mend(ctx)
	}()
	s.stopMend = func() {
		cancel()
		<-done
	}
	return s, nil
}

// checkStarted finds out what the server tells its log only.
func (s *Server) checkStarted(said *bridge, o Options) error {
	if said.failed() || !s.srv.ReadyForConnections(startTimeout) {
		if o.Monitor != "" && s.srv.MonitorAddr() == nil {
			return fmt.Errorf("%w: %s: %s", ErrAddress, o.Monitor, said.said())
		}
		if !s.srv.JetStreamEnabled() {
			return fmt.Errorf("%w: %s: %s", ErrStore, o.DataDir, said.said())
		}
		if o.Listen != "" {
			return fmt.Errorf("%w: %s: %s", ErrAddress, o.Listen, said.said())
		}
		return fmt.Errorf("%w: %s", ErrServer, said.said())
	}
	if !s.srv.JetStreamEnabled() {
		return fmt.Errorf("%w: %s: JetStream did not come up; %s", ErrStore, o.DataDir, said.said())
	}
	return nil
}

func serverOptions(o Options) (*server.Options, error) {
	if (o.User == "") != (o.Password == "") {
		return nil, fmt.Errorf("%w: a user and a password belong together", ErrServer)
	}
	opts := &server.Options{
		ServerName: ServerName,

		// Every acknowledged message is on the disk. The server's own default
		// syncs every two minutes, and a power cut in between would lose bookings
		// that were acknowledged.
		JetStream:  true,
		StoreDir:   o.DataDir,
		SyncAlways: true,
		// An API request with a field this server does not know is refused, not
		// half understood.
		NoJetStreamStrict: false,

		JetStreamLimits: server.JSLimitOpts{
			MaxBatchSize:              maxBatchMessages,
			MaxBatchTimeout:           batchTimeout,
			MaxBatchInflightPerStream: maxOpenBatches,
			MaxBatchInflightTotal:     maxOpenBatches,
			// Consumers per stream are limited where the stream is created.
		},

		MaxPayload: MaxPayloadBytes,
		MaxPending: maxPendingBytes,

		// No port of any kind unless asked for below.
		DontListen: true,

		// The server shares the process: signals, log files and the banner are
		// the program's own affair.
		NoSigs:                 true,
		DisableJetStreamBanner: true,

		Username: o.User,
		Password: o.Password,
	}
	if o.Listen != "" {
		host, port, err := splitAddress(o.Listen)
		if err != nil {
			return nil, err
		}
		opts.DontListen, opts.Host, opts.Port = false, host, port
	}
	if o.Monitor != "" {
		host, port, err := splitAddress(o.Monitor)
		if err != nil {
			return nil, err
		}
		opts.HTTPHost, opts.HTTPPort = host, port
	}
	return opts, nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %s: port %q is not a number up to 65535", ErrAddress, address, text)
	}
	if number == 0 {
		return host, randomPort, nil
	}
	return host, int(number), nil
}

// InProcess connects a client to the server without a port, with the password
// where one is set.
func (s *Server) InProcess() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer = s.srv
		if s.user != "" {
			o.User, o.Password = s.user, s.password
		}
		return nil
	}
}

// Addr is the address that NATS clients can connect to, or empty where the
// server listens on none.
func (s *Server) Addr() string {
	if !s.listens {
		return ""
	}
	if addr := s.srv.Addr(); addr != nil {
		return addr.String()
	}
	return ""
}

// MonitorAddr is the address of the monitoring port, or empty.
func (s *Server) MonitorAddr() string {
	if addr := s.srv.MonitorAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// Ready is nil while the server takes and stores messages, else ErrNotReady.
func (s *Server) Ready() error {
	if !s.srv.Running() {
		return fmt.Errorf("%w: it was shut down", ErrNotReady)
	}
	s.mu.Lock()
	unusable := s.unusable
	s.mu.Unlock()
	if unusable != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, unusable)
	}
	if !s.srv.JetStreamEnabled() {
		return fmt.Errorf("%w: its storage in %s is switched off; see its log", ErrNotReady, s.dataDir)
	}
	return nil
}

// Close ends every connection, waits until the store is closed and lets the data
// directory go. A second call returns what the first did.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		s.stopMend()
		// The marks are taken before the end: what is stored after them only makes
		// the next check weaker. With the storage switched off there are none.
		if s.srv.JetStreamEnabled() {
			_, err := s.look()
			if err == nil {
				for name, mark := range s.marks {
					mark.Closed = mark.CutOff == ""
					s.marks[name] = mark
				}
				err = writeHighWater(s.dataDir, s.marks)
			}
			errs = append(errs, err)
		}
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
		if err := s.lock.Close(); err != nil {
			errs = append(errs, fmt.Errorf("unlock %s: %w", s.lock.Path(), err))
		}
		s.closeErr = errors.Join(errs...)
		s.log.Info().Str("data_dir", s.dataDir).Msg(logevent.NATSServerStopped)
	})
	return s.closeErr
}
