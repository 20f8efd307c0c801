package upstream

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/governor"
	"github.com/ledgerline/ledgerline/pkg/oauth"
	"github.com/ledgerline/ledgerline/pkg/pleo"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Options are what clients are made from.
type Options struct {
	Settings config.Pleo
	// Conn reaches the buckets that the replicas share.
	Conn *nats.Conn
	// Replicas of the bucket that the governor makes.
	Replicas  int
	UserAgent string
	Logger    zerolog.Logger
	// Observe, if set, is called after each request of any of the clients.
	Observe func(pleo.Call)
	// Impatient as in pleo.Config.
	Impatient bool
	// Limits, if set, are the process's own, which has more clients than these.
	Limits *governor.Governor
}

// NewLimits makes the rate limits of a process, nil where none are set; nobody is
// contacted.
func NewLimits(conn *nats.Conn, settings config.Pleo, replicas int, logger zerolog.Logger) (*governor.Governor, error) {
	if settings.Rate <= 0 {
		return nil, nil //nolint:nilnil // no limits
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return governor.New(governor.Options{JetStream: js, Replicas: replicas, Rate: settings.Rate, Logger: logger})
}

// Clients are the clients of all credentials. Safe for concurrent use.
type Clients struct {
	byCompany map[uuid.UUID]*pleo.Client // uuid.Nil: the default one
	listed    []uuid.UUID                // in the order of the settings
	rotating  []*oauth.Authorizer
}

// New makes the clients and contacts nobody. Close them.
func New(o Options) (*Clients, error) {
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	limits := o.Limits
	if limits == nil {
		if limits, err = NewLimits(o.Conn, o.Settings, o.Replicas, o.Logger); err != nil {
			return nil, err
		}
	}
	c := &Clients{byCompany: map[uuid.UUID]*pleo.Client{}}
	for _, credential := range o.Settings.AllCredentials() {
		company := uuid.Nil
		if credential.CompanyID != "" {
			if company, err = subject.ParseID(credential.CompanyID); err != nil {
				return nil, fmt.Errorf("credential of company: %w", err)
			}
		}
		client, err := c.client(o, js, limits, credential, company)
		if err != nil {
			return nil, fmt.Errorf("credential %s: %w", subject.CredentialKey(company), err)
		}
		c.byCompany[company] = client
		c.listed = append(c.listed, company)
	}
	if len(c.listed) == 0 {
		return nil, errors.New("no credential for Pleo is set")
	}
	return c, nil
}

func (c *Clients) client(o Options, js jetstream.JetStream, limits *governor.Governor, credential config.Credential, company uuid.UUID) (*pleo.Client, error) {
	cfg := pleo.Config{
		BaseURL: o.Settings.URL, Timeout: o.Settings.Timeout, PageSize: o.Settings.PageSize,
		UserAgent: o.UserAgent, Logger: o.Logger, Observe: o.Observe, Impatient: o.Impatient,
	}
	if limits != nil {
		// The governor keeps the process's own rate as well: behind the line in
		// which the companies take turns, and over all credentials.
		cfg.Limiter = limits.Limiter(subject.CredentialKey(company))
	}
	switch {
	case credential.Token.IsSet():
		cfg.Auth = pleo.BearerToken(credential.Token.Value)
	case credential.APIKey.IsSet():
		cfg.Auth = pleo.APIKey(credential.APIKey.Value)
	default:
		rotating, err := oauth.New(oauth.Options{
			JetStream: js, Key: subject.TokenKey(company, credential.ClientID),
			ClientID: credential.ClientID, ClientSecret: credential.ClientSecret.Value,
			RefreshToken: credential.RefreshToken.Value, TokenURL: credential.TokenURL,
			Setting: credential.RefreshSetting(), UserAgent: o.UserAgent, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		c.rotating = append(c.rotating, rotating)
		cfg.Auth = rotating
	}
	return pleo.New(cfg)
}

// For is the client for a company, or with uuid.Nil the default one. Its requests
// stand in line as the company's. Errors: ErrNoCredential.
func (c *Clients) For(company uuid.UUID) (*pleo.Client, error) {
	client := c.byCompany[company]
	if client == nil {
		client = c.byCompany[uuid.Nil]
	}
	if client == nil {
		if company == uuid.Nil {
			return nil, fmt.Errorf("%w: there is no default one, and no company is named", ErrNoCredential)
		}
		return nil, fmt.Errorf("%w: list company %s in pleo-credentials, or set a default one", ErrNoCredential, company)
	}
	return client.For(company)
}

// Listed are the companies with a credential of their own, and uuid.Nil for the
// default one where there is one: what a listing of all jobs has to go through. A
// listing by the default credential may show jobs of companies that are listed;
// they are those credentials' to work on.
func (c *Clients) Listed() []uuid.UUID { return c.listed }

// Close ends waits for tokens, waits for a refresh that is under way, and closes
// idle connections.
func (c *Clients) Close() {
	for _, rotating := range c.rotating {
		rotating.Close()
	}
	for _, client := range c.byCompany {
		client.CloseIdleConnections()
	}
}
