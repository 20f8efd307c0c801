package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natstest"
)

// Guards "one refresh at a time over all replicas" (trap 37): however many want a
// token in the same moment, the endpoint is asked once, and one that voids
// everything at the second use of a token never gets cause to.
func TestReplicasRefreshOnce(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 2, 3} {
		b := newBench(t)
		b.at.strict = true
		// Long enough for the others to come upon the lock.
		b.at.hold = func() { <-time.After(3 * lookInterval / 2) }
		var replicas []*replica
		for range count {
			replicas = append(replicas, b.replica())
		}
		const rounds, callers = 4, 3
		for round := 1; round <= rounds; round++ {
			var all sync.WaitGroup
			for _, r := range replicas {
				for range callers {
					all.Go(func() {
						if token, err := r.authorize(); err != nil || token != b.at.present() {
							t.Errorf("%d replicas, round %d: token %d long: %v", count, round, len(token), err)
						}
					})
				}
			}
			all.Wait()
			b.expect(round, round)
			for _, r := range replicas {
				r.later(15 * time.Minute)
			}
		}
		if b.at.together > 1 || b.at.killed {
			t.Errorf("%d replicas: %d refreshes at a time; killed: %t", count, b.at.together, b.at.killed)
		}
	}
}

// A pair is renewed before it expires, and not long before.
func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	first := r.mustAuthorize()
	r.later(13 * time.Minute)
	if r.mustAuthorize() != first {
		t.Error("renewed two minutes before its expiry")
	}
	r.later(70 * time.Second)
	if r.mustAuthorize() == first {
		t.Error("not renewed fifty seconds before its expiry")
	}
	b.expect(2, 2)
}

// After a 401 the stored pair is looked at first: another replica may have renewed
// it already.
func TestRefusedTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.replica(), b.replica()
	old := one.mustAuthorize()
	two.mustAuthorize()
	for _, r := range []*replica{one, two} {
		r.later(time.Minute)
	}
	for _, r := range []*replica{one, two, one} {
		if renewed, err := r.refused(old); err != nil || !renewed {
			t.Errorf("renewed %t: %v", renewed, err)
		}
		if r.mustAuthorize() != b.at.present() {
			t.Error("the new token is not used")
		}
	}
	b.expect(2, 2)
}

// A token that is refused as soon as it is issued is not renewed at each 401.
func TestFreshTokenIsNotRenewed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	token := r.mustAuthorize()
	for range 5 {
		if renewed, err := r.refused(token); renewed || !errors.Is(err, errYoung) {
			t.Errorf("renewed %t: %v", renewed, err)
		}
	}
	b.expect(1, 1)
	r.later(minAge)
	if renewed, err := r.refused(token); err != nil || !renewed {
		t.Errorf("renewed %t: %v", renewed, err)
	}
}

// Guards "stored before it is used": NATS goes away while the endpoint answers.
// Nothing is sent, and once NATS is back the pair is stored without a second
// refresh. Trap 37.
func TestPairIsStoredBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	network := natstest.StartNetwork(t, b.nats.URL())
	r := b.replica(func(o *Options) { o.JetStream = natstest.JetStream(t, network.URL()) })
	var once sync.Once
	b.at.hold = func() { once.Do(network.Cut) }
	got := make(chan error, 1)
	go func() {
		_, err := r.authorize()
		got <- err
	}()
	b.log.Wait(logevent.PleoTokenNotStored)
	if e := b.stored(); e.Access != "" || e.RefreshingBy == "" {
		t.Error("the entry is not the locked one")
	}
	select {
	case err := <-got:
		t.Errorf("the token was to be had before it was stored: %v", err)
	default:
	}
	network.Mend()
	<-got //nolint:errcheck // the first caller may have lost patience; the next one must succeed
	if token := r.mustAuthorize(); token != b.at.present() || b.stored().Access != token {
		t.Error("the token in use is not the stored one")
	}
	b.expect(1, 1)
}

// A reply that is lost: the old refresh token is sent again. An endpoint that
// takes it once more mends it; one that does not is told of.
func TestLostReply(t *testing.T) {
	t.Parallel()
	t.Run("taken again", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.at.lost, b.at.lenient = 1, true
		if token := b.replica().mustAuthorize(); token != b.at.present() {
			t.Error("another token")
		}
		b.expect(2, 2)
		b.log.Wait(logevent.PleoTokenNotRefreshed)
	})
	t.Run("void", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.at.lost, b.at.strict = 1, true
		_, err := b.replica().authorize()
		if !isAuthorise(err) || !strings.Contains(err.Error(), "the answer to an earlier refresh was lost") {
			t.Errorf("error %v", err)
		}
		b.expect(2, 1)
	})
}

// Guards "stop and tell": a refresh token that Pleo refuses is sent once, by one
// replica; each of them says so once, at level error and with the way out.
func TestRefusedRefreshTokenIsNotSentAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.at.good = nil
	replicas := []*replica{b.replica(), b.replica(), b.replica()}
	var all sync.WaitGroup
	for _, r := range replicas {
		for range 5 {
			all.Go(func() {
				if _, err := r.authorize(); !isAuthorise(err) {
					t.Errorf("error %v", err)
				}
				if renewed, err := r.refused("hush-access-0"); renewed || !isAuthorise(err) {
					t.Errorf("renewed %t: %v", renewed, err)
				}
			})
		}
	}
	all.Wait()
	b.expect(1, 0)
	events := b.log.Lines(logevent.PleoAuthorisationLost)
	if len(events) != len(replicas) {
		t.Errorf("%d events of %d replicas", len(events), len(replicas))
	}
	for _, e := range events {
		if e["level"] != "error" || e["credential"] != key || e["client_id"] != clientID ||
			e["way_out"] != "authorise again and set LEDGERLINE_PLEO_REFRESH_TOKEN anew" {
			t.Errorf("event %v", e)
		}
	}
	// A restart does not begin anew.
	if _, err := b.replica().authorize(); !isAuthorise(err) {
		t.Errorf("after a restart: %v", err)
	}
	b.expect(1, 0)
}

// While the access token lives, a refused refresh token stops nothing.
func TestAccessTokenIsUsedToItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	token := r.mustAuthorize()
	b.at.good = nil
	r.later(14*time.Minute + 30*time.Second)
	for range 3 {
		if r.mustAuthorize() != token {
			t.Error("another token")
		}
	}
	b.expect(2, 1)
	if len(b.log.Lines(logevent.PleoAuthorisationLost)) != 1 {
		t.Error("nothing was said")
	}
	r.later(31 * time.Second)
	if _, err := r.authorize(); !isAuthorise(err) {
		t.Errorf("error %v", err)
	}
	b.expect(2, 1)
}

// The operator's new refresh token takes the place of the pair; the one before it,
// which a replica still has in its settings, does not come back.
func TestOperatorsNewTokenIsTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.replica(), b.replica()
	old := one.mustAuthorize()
	two.mustAuthorize()
	// The pair is lost, and everybody has said so.
	b.at.mu.Lock()
	b.at.good = map[string]bool{secondSeed: true}
	b.at.mu.Unlock()
	one.later(time.Minute)
	two.later(time.Minute)
	if _, err := one.refused(old); !isAuthorise(err) {
		t.Fatalf("error %v", err)
	}
	b.expect(2, 1)

	one.seed.Store(secondSeed)
	fresh := one.mustAuthorize()
	if fresh == old || fresh != b.at.present() {
		t.Error("the operator's token was not taken")
	}
	b.expect(3, 2)
	b.log.Wait(logevent.PleoTokenReplaced)
	// The other one still has the old settings, and only the old access token.
	if renewed, err := two.refused(old); err != nil || !renewed {
		t.Errorf("renewed %t: %v", renewed, err)
	}
	if two.mustAuthorize() != fresh {
		t.Error("the old settings were brought back")
	}
	two.later(15 * time.Minute)
	if two.mustAuthorize() != b.at.present() {
		t.Error("not renewed")
	}
	b.expect(4, 3)
	// Nor does one that starts now with the old ones.
	if b.replica().mustAuthorize() != b.at.present() {
		t.Error("another token")
	}
	b.expect(4, 3)
	if e := b.stored(); len(e.Seeds) != 2 {
		t.Errorf("%d seeds", len(e.Seeds))
	}
}

// A new token is taken at once, also while the access token lives.
func TestOperatorsNewTokenIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	r.mustAuthorize()
	r.seed.Store(secondSeed)
	if r.mustAuthorize() != b.at.present() {
		t.Error("another token")
	}
	b.expect(2, 2)
}

// A replica that dies with the lock holds the others up for as long as the lock
// says, and no longer.
func TestLockOfADeadReplica(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	r.mustAuthorize()
	e := b.stored()
	e.RefreshingBy, e.RefreshingUntil = "dead", time.Now().Add(20*time.Minute)
	value, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket(t, b.nats.JetStream(t)).Put(within(t), key, value); err != nil {
		t.Fatal(err)
	}
	r.later(15 * time.Minute)
	got := make(chan string, 1)
	go func() {
		token, _ := r.authorize()
		got <- token
	}()
	select {
	case <-got:
		t.Error("the lock was not respected")
	case <-time.After(5 * lookInterval):
	}
	b.expect(1, 1)
	r.later(6 * time.Minute)
	if token := <-got; token != b.at.present() {
		t.Error("another token")
	}
	b.expect(2, 2)
}

// What the endpoint may get over is waited for, by all replicas together.
func TestTroubleOfTheEndpointPasses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.at.answers = []http.HandlerFunc{status(http.StatusServiceUnavailable), func(w http.ResponseWriter, _ *http.Request) {
		// Too long, and else as it should be.
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(strings.Repeat(" ", maxAnswerBytes) + `{"access_token":"hush-long","refresh_token":"hush-longer"}`))
	}}
	replicas := []*replica{b.replica(), b.replica(), b.replica()}
	var all sync.WaitGroup
	for _, r := range replicas {
		all.Go(func() {
			if token, err := r.authorize(); err != nil || token != b.at.present() {
				t.Errorf("another token: %v", err)
			}
		})
	}
	all.Wait()
	b.expect(3, 1)
	if lines := b.log.Lines(logevent.PleoTokenNotRefreshed); len(lines) != 2 || lines[0]["level"] != "warn" || lines[1]["try"] != 2.0 {
		t.Errorf("events %v", lines)
	}
}

// A client that is refused is told of; the refresh token is not given up for it.
func TestRefusedClientIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.at.answers = []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusUnauthorized, "invalid_client")
	}}
	r := b.replica()
	if _, err := r.authorize(); err == nil || !strings.Contains(err.Error(), "invalid_client; check the client id, the client secret and the token URL") {
		t.Errorf("error %v", err)
	}
	if e := b.log.Wait(logevent.PleoTokenNotRefreshed); e["level"] != "error" {
		t.Errorf("event %v", e)
	}
	b.expect(1, 0)
	r.later(2 * clientRetryWait)
	if r.mustAuthorize() != b.at.present() {
		t.Error("another token")
	}
}

// Close waits for a refresh that is under way, so that its pair is stored.
func TestCloseFinishesARefresh(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	asked, closed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.at.hold = func() {
		once.Do(func() { close(asked) })
		<-closed
	}
	go func() { _, _ = r.authorize() }()
	<-asked
	go func() {
		<-r.closing
		<-time.After(5 * lookInterval) // longer than a Close that does not wait
		close(closed)
	}()
	r.Close()
	if e := b.stored(); e.Access != b.at.present() || e.Access == "" {
		t.Error("the pair is not stored")
	}
	if _, err := r.authorize(); err != nil && !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// Nor is a pair lost that NATS does not take while the process ends: a person would
// have to authorise again.
func TestCloseStoresWhatNATSDidNotTake(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	network := natstest.StartNetwork(t, b.nats.URL())
	r := b.replica(func(o *Options) { o.JetStream = natstest.JetStream(t, network.URL()) })
	var once sync.Once
	b.at.hold = func() { once.Do(network.Cut) }
	go func() { _, _ = r.authorize() }()
	b.log.Wait(logevent.PleoTokenNotStored)
	go func() {
		<-r.closing
		<-time.After(5 * lookInterval) // longer than a Close that does not wait
		network.Mend()
	}()
	r.Close()
	if e := b.stored(); e.Access != b.at.present() || e.Access == "" {
		t.Error("the pair is not stored")
	}
}

func nextPair() pair {
	return pair{access: "hush-next", refresh: "hush-refresh", issued: time.Now(), expires: time.Now().Add(time.Hour)}
}

// Nor one whose flight has ended in vain before.
func TestCloseStoresWhatWasLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	r.mustAuthorize()
	e, revision, err := r.read(within(t))
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.pending = &renewed{pair: nextPair(), locked: e, at: revision}
	r.mu.Unlock()
	r.Close()
	if e := b.stored(); e.Access != "hush-next" {
		t.Error("the pair is not stored")
	}
}

// A replica of the bucket that does not know of this refresh yet, and answers, does
// not make its pair go away.
func TestAPairOutlivesAReplicaThatLags(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	r.mustAuthorize()
	_, revision, err := r.read(within(t))
	if err != nil {
		t.Fatal(err)
	}
	// What is there is an entry before the lock, by its revision, and of another token.
	next := &renewed{pair: nextPair(), locked: entry{Refresh: "hush-other"}, at: revision + 1}
	if done, err := r.store(within(t), next); err != nil || !done {
		t.Fatalf("it is not stored: %v, %v", done, err)
	}
	if e := b.stored(); e.Access != "hush-next" {
		t.Error("the pair went away")
	}
}

// The end of the call that wanted a token does not cut the refresh off: what Pleo
// has carried out is stored.
func TestRefreshOutlivesItsCall(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.replica()
	asked, ended := make(chan struct{}), make(chan struct{})
	b.at.hold = func() {
		close(asked)
		<-ended
	}
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-asked
		cancel()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pleo.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Authorize(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(ended)
	b.log.Wait(logevent.PleoTokenRefreshed)
	b.at.hold = nil
	if r.mustAuthorize() != b.at.present() {
		t.Error("another token")
	}
	b.expect(1, 1)
}

// A token endpoint that redirects would get the client's secret carried elsewhere.
func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	elsewhere := newAuthority(t)
	b.at.answers = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}}
	if _, err := b.replica().authorize(); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("error %v", err)
	}
	if asked, _ := elsewhere.counts(); asked != 0 {
		t.Error("the redirect was followed")
	}
}

// An entry that nobody can read is not written over: it may hold the only pair.
func TestUnreadableEntryIsLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := bucket(t, b.nats.JetStream(t)).Put(within(t), key, []byte("hush")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.replica().authorize(); err == nil || !strings.Contains(err.Error(), "is unreadable") {
		t.Errorf("error %v", err)
	}
	b.expect(0, 0)
}
