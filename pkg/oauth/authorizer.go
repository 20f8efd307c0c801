package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/pleo"
)

const (
	// refreshMargin is how long before its expiry a pair is renewed: more than a
	// request and the clocks' differences take. A pair of a short life is renewed
	// in the last part of it, 1/marginShare.
	refreshMargin = time.Minute
	marginShare   = 5

	// minAge is the age below which a refused token is not renewed: what refuses a
	// fresh token refuses the next one too, and each refresh is a chance to lose
	// the pair.
	minAge = 5 * time.Second

	// lockTime is how long a refresh counts as under way: the request, storing its
	// result through a change of NATS leaders, and clocks that differ.
	lockTime = time.Minute
	// storeTimeout bounds storing a new pair in one go.
	storeTimeout = 20 * time.Second
	// kvTimeout bounds one request to NATS.
	kvTimeout = 3 * time.Second
	// flightTimeout bounds how long one attempt to have a token goes on, others'
	// refreshes and growing waits included, before its error is told.
	flightTimeout = 2 * lockTime

	// lookInterval is how often a replica looks whether another's refresh is done.
	lookInterval = 100 * time.Millisecond

	bearerPrefix = "Bearer "
)

// Options are what an authorizer needs. All but Transport, UserAgent and Logger
// are required.
type Options struct {
	JetStream jetstream.JetStream
	// Key names the pair in the bucket (subject.TokenKey).
	Key      string
	ClientID string
	// ClientSecret and RefreshToken are read again at each refresh.
	ClientSecret, RefreshToken pleo.Secret
	TokenURL                   string
	// Setting is what a person sets to give a new RefreshToken, such as
	// LEDGERLINE_PLEO_REFRESH_TOKEN.
	Setting   string
	UserAgent string
	Logger    zerolog.Logger
	Transport http.RoundTripper
}

// Authorizer is a pleo.Authorizer. Safe for concurrent use.
type Authorizer struct {
	options  Options
	endpoint endpoint
	name     string // of this process's refreshes, one at a time
	logger   zerolog.Logger
	now      func() time.Time

	mu      sync.Mutex
	kv      jetstream.KeyValue
	held    entry  // as read or written last
	seed    string // of the settings, when held was read
	flight  *flight
	pending *renewed // a new pair that is not stored yet
	alerted string   // the hash of the refresh token that was told of last
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ pleo.Authorizer = (*Authorizer)(nil)

// flight is one attempt to have a token, for every goroutine that waits for one.
type flight struct {
	done   chan struct{}
	access string
	err    error
}

// New checks the options; nothing is contacted yet.
func New(o Options) (*Authorizer, error) {
	var faults []error
	for name, missing := range map[string]bool{
		"JetStream": o.JetStream == nil, "Key": o.Key == "", "ClientID": o.ClientID == "", "ClientSecret": o.ClientSecret == nil,
		"RefreshToken": o.RefreshToken == nil, "TokenURL": o.TokenURL == "", "Setting": o.Setting == "",
	} {
		if missing {
			faults = append(faults, fmt.Errorf("oauth: %s is missing", name))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Authorizer{
		options: o, endpoint: newEndpoint(o.TokenURL, o.ClientID, o.UserAgent, o.Transport), now: time.Now,
		name:    nuid.Next(),
		logger:  o.Logger.With().Str("credential", o.Key).Str("client_id", o.ClientID).Logger(),
		closing: make(chan struct{}),
	}, nil
}

// Close ends waits, and waits for a refresh that is under way, or whose pair NATS did
// not take before, to be stored.
func (a *Authorizer) Close() {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.closing)
	}
	a.mu.Unlock()
	a.running.Wait()
	if err := a.storePending(context.Background()); err != nil {
		a.logger.Error().Err(err).Msg(logevent.PleoTokenNotStored)
	}
}

// Authorize implements pleo.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, req *http.Request) error {
	seed, err := a.settingsToken()
	if err != nil {
		return err
	}
	a.mu.Lock()
	held, known := a.held, a.seed
	a.mu.Unlock()
	access := held.Access
	if seed != known || !held.live(a.now(), held.margin()) {
		if access, err = a.obtain(ctx, ""); err != nil {
			return err
		}
	}
	req.Header.Set("Authorization", bearerPrefix+access)
	return nil
}

// Refresh implements pleo.Authorizer.
func (a *Authorizer) Refresh(ctx context.Context, refused *http.Request) (bool, error) {
	token := strings.TrimPrefix(refused.Header.Get("Authorization"), bearerPrefix)
	// A flight that was under way already may have been content with this token;
	// one that begins now is not.
	const tries = 2
	for range tries {
		access, err := a.obtain(ctx, token)
		if err != nil {
			return false, err
		}
		if access != token {
			return true, nil
		}
	}
	return false, nil
}

func (a *Authorizer) settingsToken() (string, error) {
	seed, err := a.options.RefreshToken()
	if err != nil {
		return "", fmt.Errorf("read the refresh token of the settings: %w", err)
	}
	if seed = strings.TrimSpace(seed); !isToken(seed) {
		return "", errors.New("the refresh token of the settings is empty or has characters that no token has")
	}
	return seed, nil
}

// obtain waits for a token other than refused, with whoever else waits for one.
func (a *Authorizer) obtain(ctx context.Context, refused string) (string, error) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return "", errClosed
	}
	f := a.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		a.flight = f
		// Not bound to ctx: a refresh that Pleo has carried out must be stored,
		// whoever wanted it.
		a.running.Go(func() { a.fly(f, refused) })
	}
	a.mu.Unlock()
	select {
	case <-f.done:
		return f.access, f.err
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a token: %w", context.Cause(ctx))
	}
}

func (a *Authorizer) fly(f *flight, refused string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), flightTimeout, fmt.Errorf("no token within %s", flightTimeout))
	defer cancel()
	f.access, f.err = a.renew(ctx, refused)
	a.mu.Lock()
	a.flight = nil
	a.mu.Unlock()
	close(f.done)
}

// hold keeps an entry to be used.
func (a *Authorizer) hold(e entry, seed string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held, a.seed = e, seed
}

// pause waits; false when ctx or the authorizer ended meanwhile.
func (a *Authorizer) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-a.closing:
	}
	return false
}
