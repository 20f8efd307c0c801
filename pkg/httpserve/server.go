package httpserve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// Bounds on what one client, or all of them, can make the program hold.
const (
	maxConnections    = 256 // probes, a scraper, webhooks; more wait in the system's queue
	maxHeaderBytes    = 32 << 10
	MaxBodyBytes      = 1 << 20 // above any webhook; handlers set lower bounds of their own
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	idleTimeout       = 60 * time.Second

	// writeTimeout holds for a whole answer. A handler that streams lifts it for
	// itself with http.ResponseController.
	writeTimeout = 30 * time.Second

	// shutdownTimeout is the time for requests in hand, below the programs' own
	// shutdown timeout.
	shutdownTimeout = 5 * time.Second
)

// Options say where to listen and what to answer.
type Options struct {
	Listen string // host:port; port 0 picks a free one

	// Ready is asked at each /readyz; nil is always ready. Its error's text is
	// shown to whoever asks. It may be called from several goroutines and should
	// answer at once.
	Ready func() error

	// Metrics answers /metrics; nil is not found.
	Metrics http.Handler

	// Handler gets every other path: webhooks, a status page. Nil is not found.
	Handler http.Handler

	Logger zerolog.Logger
}

// Server has its address from New on and answers while Run runs.
type Server struct {
	listener net.Listener
	http     *http.Server
	log      zerolog.Logger
}

// New listens, so that an address in use is found at the start, and logs the
// address it got. Errors: ErrListen. Call Run, or Close where it is not come to.
func New(o Options) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	s := &Server{listener: netutil.LimitListener(listener, maxConnections), log: o.Logger}
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(routes(o), MaxBodyBytes),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(errorLog{o.Logger}, "", 0),
	}
	s.log.Info().Str("addr", s.Addr()).Msg(logevent.HTTPListening)
	return s, nil
}

// Addr is host:port as listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run answers until ctx ends, then lets the requests in hand finish and returns
// nil. It returns an error where the listener breaks, or a request takes longer
// than the time for the end. Call it once.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(limit)
	if err != nil {
		err = fmt.Errorf("end the requests in hand on %s: %w", s.Addr(), errors.Join(err, s.http.Close()))
	}
	<-served //nolint:errcheck // says no more than that it was closed
	s.log.Info().Str("addr", s.Addr()).Msg(logevent.HTTPStopped)
	return err
}

// Close lets the address go without Run.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.Addr(), err)
	}
	return nil
}

func routes(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready != nil {
			if err := o.Ready(); err != nil {
				writeText(w, http.StatusServiceUnavailable, err.Error())
				return
			}
		}
		writeText(w, http.StatusOK, "ready")
	})
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	if o.Handler != nil {
		mux.Handle("/", o.Handler)
	}
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store") // a cached answer would hide a change
	w.WriteHeader(status)
	// The asker may have gone; there is nobody to tell.
	_, _ = fmt.Fprintln(w, text)
}

// errorLog takes what net/http has to say: broken handshakes and handlers that
// panicked.
type errorLog struct{ log zerolog.Logger }

func (e errorLog) Write(text []byte) (int, error) {
	e.log.Warn().Str("text", string(bytes.TrimSpace(text))).Msg(logevent.HTTPErrorReported)
	return len(text), nil
}
