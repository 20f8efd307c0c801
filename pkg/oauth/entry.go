package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerline/ledgerline/pkg/cas"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// maxSeeds bounds how many refresh tokens of the settings are remembered by their
// hash: one each time a person authorised anew.
const maxSeeds = 64

// entry is what the bucket holds of one credential: the pair, and who renews it.
type entry struct {
	Access  string    `json:"access,omitempty"`
	Refresh string    `json:"refresh"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"`

	// Seeds are the hashes of the settings' refresh tokens, the one that this pair
	// comes from last.
	Seeds []string `json:"seeds"`

	// RefreshingBy names the refresh under way, RefreshingUntil when it is given up
	// for dead.
	RefreshingBy    string    `json:"refreshingBy,omitempty"`
	RefreshingUntil time.Time `json:"refreshingUntil,omitzero"`

	// Tries were made in vain since the pair was issued; the next may begin at
	// RetryAt.
	Tries   int       `json:"tries,omitempty"`
	RetryAt time.Time `json:"retryAt,omitzero"`

	// Refused is the hash of the endpoint that has refused Refresh for good, Reason
	// its word.
	Refused string `json:"refused,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// seeded is the entry after a look at the refresh token of the settings; replaced
// tells that it is a new one, which takes the place of the pair.
func (e entry) seeded(seed string) (after entry, replaced bool) {
	hash := hashOf(seed)
	if slices.Contains(e.Seeds, hash) {
		return e, false
	}
	seeds := append(slices.Clone(e.Seeds), hash)
	if extra := len(seeds) - maxSeeds; extra > 0 {
		seeds = seeds[extra:]
	}
	return entry{Refresh: seed, Seeds: seeds}, len(e.Seeds) > 0
}

// live tells whether the access token can be used for the margin to come.
func (e entry) live(now time.Time, margin time.Duration) bool {
	return e.Access != "" && now.Add(margin).Before(e.Expires)
}

// margin is how long before its expiry the pair is renewed.
func (e entry) margin() time.Duration { return min(refreshMargin, e.Expires.Sub(e.Issued)/marginShare) }

// read gives the entry and its revision, both zero where there is none.
func (a *Authorizer) read(ctx context.Context) (e entry, revision uint64, err error) {
	kv, err := a.bucket(ctx)
	if err != nil {
		return entry{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, kvTimeout)
	defer cancel()
	stored, err := kv.Get(ctx, a.options.Key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return entry{}, 0, nil
	}
	if err != nil {
		return entry{}, 0, fmt.Errorf("read the token of %s: %w", a.options.Key, err)
	}
	if json.Unmarshal(stored.Value(), &e) != nil || e.Refresh == "" {
		// Its text is not shown: it holds tokens.
		return entry{}, 0, fmt.Errorf("read the token of %s: the entry in bucket %s is unreadable; delete it, and authorise again if Pleo then refuses", a.options.Key, subject.BucketTokens)
	}
	return e, stored.Revision(), nil
}

// write replaces the entry at a revision; errOvertaken when another stands there.
// After any other error it may have been written.
func (a *Authorizer) write(ctx context.Context, e entry, revision uint64) (uint64, error) {
	value, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("encode the token of %s: %w", a.options.Key, err)
	}
	kv, err := a.bucket(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, kvTimeout)
	defer cancel()
	if revision == 0 {
		revision, err = kv.Create(ctx, a.options.Key, value)
	} else {
		revision, err = kv.Update(ctx, a.options.Key, value, revision)
	}
	switch {
	case err == nil:
		return revision, nil
	case cas.IsConflict(err), errors.Is(err, jetstream.ErrKeyExists):
		return 0, errOvertaken
	}
	return 0, fmt.Errorf("store the token of %s: %w", a.options.Key, err)
}

// bucket opens the bucket at the first call that succeeds; the workers make it.
func (a *Authorizer) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	a.mu.Lock()
	kv := a.kv
	a.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	ctx, cancel := context.WithTimeout(ctx, kvTimeout)
	defer cancel()
	kv, err := a.options.JetStream.KeyValue(ctx, subject.BucketTokens)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", subject.BucketTokens, err)
	}
	a.mu.Lock()
	a.kv = kv
	a.mu.Unlock()
	return kv, nil
}
