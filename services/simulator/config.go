package simulator

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// Defaults of Config, each with its reason.
const (
	// DefaultItemsPerJob is a month of a middling company.
	DefaultItemsPerJob = 100
	// DefaultExpiresIn is the sample value of the reference, in seconds.
	DefaultExpiresIn = 3600
	// DefaultPageLimit is the page size when the caller sends no limit; the
	// reference publishes none.
	DefaultPageLimit = 50
	// DefaultMaxPageLimit is what a larger limit is silently cut to. It is below
	// what eager callers ask for, so that a page shorter than asked for is normal.
	DefaultMaxPageLimit = 1000
	// DefaultToken is the bearer token that is accepted when no credential at all
	// is configured.
	DefaultToken = "simulated-token"
	// DefaultSlowBody is how long a slow body takes: felt, and far below the
	// time-out of a sane client.
	DefaultSlowBody = 400 * time.Millisecond
	// DefaultOversizedBytes is the size of an oversized page: more than a client
	// should be willing to hold.
	DefaultOversizedBytes = 64 << 20
)

// Bounds. Each is far above what a test needs and far below what hurts the host.
const (
	maxJobs             = 100_000
	maxItemsPerJob      = 10_000_000
	maxPageLimit        = 10_000
	maxCreatedEntries   = 100_000
	maxRequestBytes     = 8 << 20
	maxItemsPerUpdate   = 100 // documented: more is 413
	maxLoggedUpdates    = 4_000_000
	maxLoggedJobEvents  = 1_000
	maxOverrides        = 10_000
	maxOverrideBytes    = 64 << 20
	maxOAuthTokens      = 10_000
	maxQueuedWebhooks   = 200_000
	maxConsecutiveFails = 3 // transient faults in a row for one and the same request
	maxEmptyPagesInARow = 3
	maxErrorsPerEntry   = 2       // partial errors for one and the same entry
	maxStreaks          = 100_000 // requests that failed last time and were not sent again yet
)

// Config says what is simulated. The zero value is an API without jobs that
// accepts DefaultToken.
type Config struct {
	// Seed decides all generated data and all faults. Same seed and same calls,
	// same answers.
	Seed uint64
	// Jobs is the number of jobs, all pending, that exist at the start.
	Jobs int
	// ItemsPerJob is their size; 0 is DefaultItemsPerJob.
	ItemsPerJob int
	// Companies own the jobs in turn; 0 is one company per job, at least one.
	Companies int
	// VendorBasedBookkeeping of the seeded jobs: items carry vendor and bookkeeping.
	VendorBasedBookkeeping bool
	// ExpiresIn is every job's expiry in seconds since its last action; 0 is
	// DefaultExpiresIn.
	ExpiresIn int
	// UpdatesDoNotRenew makes only job events renew lastUpdatedAt. The reference
	// does not say whether item updates do; the default is that they do.
	UpdatesDoNotRenew bool

	// PageLimit is the page size without a limit parameter, MaxPageLimit what any
	// limit is cut to; 0 is the default of each.
	PageLimit, MaxPageLimit int

	// Token is a bearer token and APIKey a basic-auth user that may see every
	// company. With neither, and no Credentials and OAuthClients, DefaultToken is
	// accepted.
	Token, APIKey string
	// Credentials are further ones, for one company or with fewer scopes.
	Credentials []Credential
	// OAuthClients may refresh tokens at POST /oauth/token.
	OAuthClients []OAuthClient

	// RateLimit is in requests per second over all callers, with a burst of one
	// second's worth; 0 is no limit. Calls above it are answered 429.
	RateLimit float64
	// Faults to inject; see ParseFaults.
	Faults FaultPlan
	// SlowBody is how long the fault slow-body takes; 0 is DefaultSlowBody.
	SlowBody time.Duration
	// OversizedBytes is how large the fault oversized-page is; 0 is
	// DefaultOversizedBytes.
	OversizedBytes int64

	// Webhook is where created jobs are announced; no URL, no webhooks.
	Webhook WebhookConfig
	// FileBaseURL is put before the path of file links, without a trailing slash.
	// When it is this simulator's own address, the links work for 24 hours.
	FileBaseURL string
	// Control opens the endpoints under /_simulator/, without authentication:
	// only for tests.
	Control bool
	// Clock is the API's time; nil is the wall clock.
	Clock Clock
	// Logger receives the events listed in events.go; the zero value is silent.
	Logger zerolog.Logger
}

// Credential opens the API for one caller.
type Credential struct {
	// Token is a bearer token, APIKey a basic-auth user with an empty password;
	// either or both.
	Token, APIKey string
	// CompanyID binds the credential to one company; the zero UUID is an
	// organisation credential that sees all of them.
	CompanyID uuid.UUID
	// Scopes such as ScopeJobsRead; none means all.
	Scopes []string
}

// OAuthClient is an installation that obtains access tokens by rotating refresh
// tokens.
type OAuthClient struct {
	ClientID, ClientSecret string
	// RefreshToken is the first one of the family.
	RefreshToken string
	// CompanyID and Scopes bind the issued tokens as in Credential.
	CompanyID uuid.UUID
	Scopes    []string
	// AccessLifetime is expires_in; 0 is 15 minutes. RefreshLifetime: 0 is 60 days.
	AccessLifetime, RefreshLifetime time.Duration
	// ReuseKillsFamily makes the use of a refresh token that was already rotated
	// away invalidate every token of this client, as strict servers do.
	ReuseKillsFamily bool
}

func (c Config) withDefaults() Config {
	if c.ItemsPerJob == 0 {
		c.ItemsPerJob = DefaultItemsPerJob
	}
	if c.Companies == 0 {
		c.Companies = max(1, c.Jobs)
	}
	if c.ExpiresIn == 0 {
		c.ExpiresIn = DefaultExpiresIn
	}
	if c.MaxPageLimit == 0 {
		c.MaxPageLimit = DefaultMaxPageLimit
	}
	if c.PageLimit == 0 {
		c.PageLimit = min(DefaultPageLimit, c.MaxPageLimit)
	}
	if c.Token == "" && c.APIKey == "" && len(c.Credentials) == 0 && len(c.OAuthClients) == 0 {
		c.Token = DefaultToken
	}
	if c.SlowBody == 0 {
		c.SlowBody = DefaultSlowBody
	}
	if c.OversizedBytes == 0 {
		c.OversizedBytes = DefaultOversizedBytes
	}
	if c.FileBaseURL == "" {
		c.FileBaseURL = "https://files.simulator.invalid"
	}
	if c.Clock == nil {
		c.Clock = wallClock{}
	}
	c.Webhook = c.Webhook.withDefaults()
	return c
}

// validate reports every fault at once.
func (c Config) validate() error {
	var faults []error
	between := func(name string, value, low, high int) {
		if value < low || value > high {
			faults = append(faults, fmt.Errorf("%s is %d, want %d to %d", name, value, low, high))
		}
	}
	between("Jobs", c.Jobs, 0, maxJobs)
	between("ItemsPerJob", c.ItemsPerJob, 0, maxItemsPerJob)
	between("Companies", c.Companies, 1, maxJobs)
	between("ExpiresIn", c.ExpiresIn, 1, 1<<31-1)
	between("MaxPageLimit", c.MaxPageLimit, 1, maxPageLimit)
	between("PageLimit", c.PageLimit, 1, c.MaxPageLimit)
	if c.RateLimit < 0 {
		faults = append(faults, fmt.Errorf("RateLimit is %g, want 0 or more", c.RateLimit))
	}
	if c.SlowBody < 0 || c.OversizedBytes < 0 {
		faults = append(faults, errors.New("SlowBody and OversizedBytes may not be negative"))
	}
	for i, client := range c.OAuthClients {
		if client.ClientID == "" || client.RefreshToken == "" {
			faults = append(faults, fmt.Errorf("setting OAuthClients[%d] needs a ClientID and a RefreshToken", i))
		}
	}
	for i, credential := range c.Credentials {
		if credential.Token == "" && credential.APIKey == "" {
			faults = append(faults, fmt.Errorf("setting Credentials[%d] has neither Token nor APIKey", i))
		}
	}
	if c.Webhook.URL != "" {
		if target, err := url.Parse(c.Webhook.URL); err != nil || target.Host == "" {
			faults = append(faults, fmt.Errorf("Webhook.URL %q is no absolute URL", c.Webhook.URL))
		}
		if c.Webhook.Secret == "" {
			faults = append(faults, errors.New("Webhook.Secret is missing"))
		}
	}
	faults = append(faults, c.Faults.validate()...)
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(faults...))
}
