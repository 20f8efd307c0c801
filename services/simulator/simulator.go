package simulator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// Time limits of the server that Run starts.
const (
	readHeaderTimeout = 10 * time.Second // a caller that sends no request is let go
	shutdownTimeout   = 2 * time.Second  // answers in flight; slow bodies are cut short by then
)

// Simulator is one simulated Pleo. All methods are safe for concurrent use.
type Simulator struct {
	cfg         Config
	log         zerolog.Logger
	credentials []Credential
	oauth       *tokenBook
	limiter     *rate.Limiter // nil: no limit
	handler     http.Handler
	webhooks    *announcer

	ctx    context.Context // ends with Close: pauses and webhook waits end with it
	cancel context.CancelFunc

	jumped atomic.Int64 // nanoseconds that Advance added to the clock

	mu         sync.Mutex // guards all below and the state of every job
	nextNumber uint32
	jobs       map[uuid.UUID]*job
	byAge      []*job // ascending key
	faults     *faultPlanner
	requests   uint64
	counts     map[string]map[int]int64
	refused    int64 // by the real rate limit
	accepted   int64
	overrides  map[string]*override
}

// New makes a simulator with its seeded jobs. It starts nothing but the webhooks
// that Config asks for; Close ends those. A wrong Config gives ErrConfig.
func New(cfg Config) (*Simulator, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Simulator{
		cfg: cfg, log: cfg.Logger, jobs: map[uuid.UUID]*job{}, counts: map[string]map[int]int64{},
		overrides: map[string]*override{}, faults: newFaultPlanner(cfg.Seed, cfg.Faults),
		oauth: newTokenBook(cfg.Seed, cfg.OAuthClients, cfg.Clock.Now()),
	}
	s.credentials = append(s.credentials, cfg.Credentials...)
	if cfg.Token != "" || cfg.APIKey != "" {
		s.credentials = append(s.credentials, Credential{Token: cfg.Token, APIKey: cfg.APIKey})
	}
	if cfg.RateLimit > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(cfg.RateLimit), int(math.Ceil(max(1, cfg.RateLimit))))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	webhooks, err := newAnnouncer(s.ctx, cfg)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	s.webhooks = webhooks
	s.handler = s.routes()
	s.mu.Lock()
	err = s.seedJobs()
	s.mu.Unlock()
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Handler is the API, to be served by a test server or any other.
func (s *Simulator) Handler() http.Handler { return s.handler }

// Run serves the API on the listener until ctx ends or Close is called, and
// closes the listener. It returns nil after an orderly end.
func (s *Simulator) Run(ctx context.Context, listener net.Listener) error {
	if s.ctx.Err() != nil {
		return fmt.Errorf("run: %w", errors.Join(ErrClosed, listener.Close()))
	}
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: readHeaderTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.log.Info().Str("addr", listener.Addr().String()).Int("jobs", s.cfg.Jobs).Uint64("seed", s.cfg.Seed).Msg(eventStarted)
	defer s.log.Info().Msg(eventStopped)
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		// Answers that are still under way lose their connection; to a client under
		// test that is one more fault, not a failure of ours.
		if err := server.Close(); err != nil {
			return fmt.Errorf("close server: %w", err)
		}
	}
	<-served //nolint:errcheck // says no more than that it was closed
	return nil
}

// Close ends pauses, webhook deliveries and Run, and waits for the deliveries.
// The state stays readable. Close may be called more than once.
func (s *Simulator) Close() {
	s.cancel()
	s.webhooks.wait()
}

// now is the API's time; it needs no lock.
func (s *Simulator) now() time.Time {
	return s.cfg.Clock.Now().Add(time.Duration(s.jumped.Load())).UTC()
}

// Now is the API's time, jumps by Advance included.
func (s *Simulator) Now() time.Time { return s.now() }

// Advance lets the API's clock jump forward by d: jobs and tokens expire as if
// the time had passed. It does not move Config.Clock.
func (s *Simulator) Advance(d time.Duration) { s.jumped.Add(int64(max(d, 0))) }
