package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second

	clientID     = "client id+1" // what Basic must encode
	clientSecret = "hush/client secret"
	firstSeed    = "hush-seed-1"
	secondSeed   = "hush-seed-2"
	key          = "default.client"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// authority is a token endpoint written by hand: it rotates, and is as strict as a
// test wants.
type authority struct {
	*httptest.Server

	mu       sync.Mutex
	good     map[string]bool // refresh tokens that are taken
	access   string
	issued   int
	asked    int
	underWay int
	together int // most requests at a time
	spent    map[string]bool
	killed   bool
	lifetime int
	// strict voids everything when a spent token comes.
	strict bool
	// lenient takes the token that was spent last once more.
	lenient bool
	// answers replaces the answers of the next requests; nil is the usual one.
	answers []http.HandlerFunc
	// lost does the work of that many requests and drops the answer.
	lost int
	// hold, if set, is called before each answer.
	hold func()
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{good: map[string]bool{firstSeed: true, secondSeed: true}, spent: map[string]bool{}, lifetime: 900}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked++
	a.underWay++
	a.together = max(a.together, a.underWay)
	hold := a.hold
	var instead http.HandlerFunc
	if len(a.answers) > 0 {
		instead, a.answers = a.answers[0], a.answers[1:]
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.underWay--
		a.mu.Unlock()
	}()
	if hold != nil {
		hold()
	}
	if instead != nil {
		instead(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	// As RFC 6749 section 2.3.1 has it: encoded as in a form.
	if id != "client+id%2B1" || secret != "hush%2Fclient+secret" {
		refuse(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	offered := r.PostFormValue("refresh_token")
	if r.PostFormValue("grant_type") != "refresh_token" || !a.good[offered] || a.killed {
		if a.strict && a.spent[offered] {
			a.killed = true
		}
		refuse(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	a.issued++
	next := fmt.Sprintf("hush-refresh-%d", a.issued)
	a.access = fmt.Sprintf("hush-access-%d", a.issued)
	if !a.lenient || a.spent[offered] {
		delete(a.good, offered)
	}
	a.spent[offered], a.good[next] = true, true
	if a.lost > 0 {
		a.lost--
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"bearer","expires_in":%d}`, a.access, next, a.lifetime)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A rude server: it writes what it was sent.
	fmt.Fprintf(w, `{"error":%q,"error_description":"%s %s %s"}`, code, firstSeed, secondSeed, clientSecret)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (a *authority) counts() (asked, issued int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked, a.issued
}

func (a *authority) present() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.access
}

// bench is a NATS with the bucket, a token endpoint, and one log for all replicas.
type bench struct {
	t    *testing.T
	nats *natstest.Server
	at   *authority
	log  *logtest.Recorder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, nats: natstest.Start(t), at: newAuthority(t), log: logtest.New(t)}
	js := b.nats.JetStream(t)
	if err := topology.Ensure(within(t), js, topology.Options{Replicas: 1, Lease: time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.nothingShown(b.log.Text()) })
	return b
}

// nothingShown insists that a text has no secret: each of these tests' begins with
// the same word.
func (b *bench) nothingShown(text string) {
	b.t.Helper()
	for _, secret := range []string{"hush", "aHVzaC"} { // as it is, and as Basic has it
		if strings.Contains(text, secret) {
			b.t.Errorf("a secret is shown: %s", text)
		}
	}
}

// replica is one process.
type replica struct {
	*Authorizer
	b    *bench
	seed atomic.Value // the settings' refresh token
	skew atomic.Int64 // of its clock
}

func (b *bench) replica(change ...func(*Options)) *replica {
	b.t.Helper()
	r := &replica{b: b}
	r.seed.Store(firstSeed)
	o := Options{
		JetStream: b.nats.JetStream(b.t), Key: key, ClientID: clientID,
		ClientSecret: pleo.StaticSecret(clientSecret),
		RefreshToken: func() (string, error) { return r.seed.Load().(string) + "\n", nil },
		TokenURL:     b.at.URL + "/oauth/token", Setting: "LEDGERLINE_PLEO_REFRESH_TOKEN",
		UserAgent: "ledgerline/test", Logger: b.log.Logger(),
	}
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	a.now = func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }
	r.Authorizer = a
	b.t.Cleanup(a.Close)
	return r
}

// later lets a replica's clock jump.
func (r *replica) later(d time.Duration) { r.skew.Add(int64(d)) }

// authorize is the token that the replica would send now.
func (r *replica) authorize() (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://pleo.example", nil)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = r.Authorize(ctx, req)
	if err != nil {
		r.b.nothingShown(err.Error())
		if req.Header.Get("Authorization") != "" {
			r.b.t.Error("a request without a token has the header")
		}
		return "", err
	}
	return strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), nil
}

func (r *replica) mustAuthorize() string {
	r.b.t.Helper()
	token, err := r.authorize()
	if err != nil {
		r.b.t.Fatal(err)
	}
	return token
}

// refused tells the replica that Pleo has answered 401 to a token.
func (r *replica) refused(token string) (bool, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://pleo.example", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	renewed, err := r.Refresh(ctx, req)
	if err != nil {
		r.b.nothingShown(err.Error())
	}
	return renewed, err
}

// stored is the entry as it stands.
func (b *bench) stored() entry {
	b.t.Helper()
	e, _, err := b.replica().read(within(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// expect compares how often the endpoint was asked.
func (b *bench) expect(asked, issued int) {
	b.t.Helper()
	if a, i := b.at.counts(); a != asked || i != issued {
		b.t.Errorf("the endpoint was asked %d times and gave %d pairs, want %d and %d", a, i, asked, issued)
	}
}

func bucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(within(t), subject.BucketTokens)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func isAuthorise(err error) bool {
	return errors.Is(err, ErrAuthorise) && strings.Contains(err.Error(), "authorise again and set LEDGERLINE_PLEO_REFRESH_TOKEN anew")
}
