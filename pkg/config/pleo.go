package config

import (
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// MaxPageSize is the largest `limit` that the export API takes.
const MaxPageSize = 1000

// Pleo is how to reach Pleo and as whom.
type Pleo struct {
	URL          string        `name:"pleo-url" env:"LEDGERLINE_PLEO_URL" default:"https://external.pleo.io" kind:"url" help:"Base URL of the export API."`
	Token        Secret        `name:"pleo-token" env:"LEDGERLINE_PLEO_TOKEN" placeholder:"TOKEN" help:"Bearer token."`
	APIKey       Secret        `name:"pleo-api-key" env:"LEDGERLINE_PLEO_API_KEY" placeholder:"KEY" help:"API key, sent as basic-auth user."`
	ClientID     string        `name:"pleo-client-id" env:"LEDGERLINE_PLEO_CLIENT_ID" placeholder:"ID" help:"OAuth client; wants the next three as well."`
	ClientSecret Secret        `name:"pleo-client-secret" env:"LEDGERLINE_PLEO_CLIENT_SECRET" placeholder:"SECRET" help:"OAuth client's secret."`
	RefreshToken Secret        `name:"pleo-refresh-token" env:"LEDGERLINE_PLEO_REFRESH_TOKEN" placeholder:"TOKEN" help:"First OAuth refresh token; later ones are kept in NATS."`
	TokenURL     string        `name:"pleo-token-url" env:"LEDGERLINE_PLEO_TOKEN_URL" placeholder:"URL" kind:"url" help:"OAuth token endpoint."`
	Rate         float64       `name:"pleo-rate" env:"LEDGERLINE_PLEO_RATE" default:"10" help:"Requests per second of this process, with a burst of one second's worth; 0 is no limit."`
	Timeout      time.Duration `name:"pleo-timeout" env:"LEDGERLINE_PLEO_TIMEOUT" default:"30s" help:"Time for one request."`
	PageSize     int           `name:"page-size" env:"LEDGERLINE_PAGE_SIZE" default:"100" help:"Rows asked for in one page, 1 to 1000."`

	// Credentials are those of companies that have one of their own; they come from
	// the list pleo-credentials of the file. One without a company is the default
	// credential, where the settings above give none.
	Credentials []Credential `kong:"-"`
}

func (c *Pleo) settle() { c.URL = strings.TrimSuffix(c.URL, "/") }

// Default is the credential that the settings give, for every company that has
// none of its own.
func (c Pleo) Default() Credential {
	return Credential{
		Token: c.Token, APIKey: c.APIKey,
		ClientID: c.ClientID, ClientSecret: c.ClientSecret, RefreshToken: c.RefreshToken, TokenURL: c.TokenURL,
	}
}

// AllCredentials are all that there are, the default one first if there is one.
func (c Pleo) AllCredentials() []Credential {
	var all []Credential
	if c.Default().isGiven() {
		all = append(all, c.Default())
	}
	for _, credential := range c.Credentials {
		if credential.CompanyID == "" {
			all = slices.Insert(all, 0, credential)
		} else {
			all = append(all, credential)
		}
	}
	return all
}

// Validate returns every fault of the group. No credential at all is none of
// them; see RequireCredentials.
func (c Pleo) Validate() (faults Faults) {
	checkHTTPURL("LEDGERLINE_PLEO_URL", c.URL, &faults)
	if math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) || c.Rate < 0 {
		faults.Add("LEDGERLINE_PLEO_RATE", "is not a rate", "give requests per second, or 0 for no limit")
	}
	checkTimeout("LEDGERLINE_PLEO_TIMEOUT", c.Timeout, &faults)
	if c.PageSize < 1 || c.PageSize > MaxPageSize {
		faults.Add("LEDGERLINE_PAGE_SIZE", "is not between 1 and 1000", "give 1 to 1000")
	}
	c.Default().check(func(p part) (string, string) { return p.variable, "" }, &faults)
	c.checkCredentials(&faults)
	return faults
}

// HasCredentials tells whether any way to sign in is set.
func (c Pleo) HasCredentials() bool { return c.Default().isGiven() || len(c.Credentials) > 0 }

// RequireCredentials is a fault where no way to sign in is set; why completes
// "is missing: ". Programs that cannot work without call it in their Validate.
func (c Pleo) RequireCredentials(why string) (faults Faults) {
	if !c.HasCredentials() {
		faults.Add("LEDGERLINE_PLEO_TOKEN", "is missing: "+why,
			"set it, or LEDGERLINE_PLEO_API_KEY, or the four of OAuth: LEDGERLINE_PLEO_CLIENT_ID, LEDGERLINE_PLEO_CLIENT_SECRET, LEDGERLINE_PLEO_REFRESH_TOKEN and LEDGERLINE_PLEO_TOKEN_URL")
	}
	return faults
}

// checkHTTPURL wants a plain base to which a path can be added. The parser's own
// messages are not shown: they may quote a password.
func checkHTTPURL(setting, text string, faults *Faults) {
	const wayOut = "give http://host or https://host, with a plain path after it if need be"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || !validPort(u.Port()):
		faults.Add(setting, "is not a URL with a host", wayOut)
	case u.Scheme != "http" && u.Scheme != "https":
		faults.Add(setting, "is neither http nor https", wayOut)
	case u.User != nil:
		faults.Add(setting, "has a user in it", "take it out; credentials have settings of their own")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		faults.Add(setting, "has a query or a fragment", wayOut)
	case u.RawPath != "" || u.Path != "" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") && u.Path != "/":
		faults.Add(setting, "has a path that is not plain", wayOut)
	}
}
