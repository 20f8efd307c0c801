package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Credential is one way to sign in at Pleo, and for whom.
type Credential struct {
	// CompanyID is the company that it serves, in lower case; empty for the default
	// one, which serves every company that has none of its own.
	CompanyID string

	// One of these three ways; the last one takes four settings.
	Token        Secret
	APIKey       Secret
	ClientID     string
	ClientSecret Secret
	RefreshToken Secret
	TokenURL     string

	// at is where the file has it, "config.yaml:12"; empty where it was not in the
	// list.
	at string
	// unsound is one that could not be read; it is not judged as well.
	unsound bool
}

// IsOAuth tells whether the credential is an OAuth client with a refresh token.
func (c Credential) IsOAuth() bool {
	return slices.ContainsFunc(c.parts()[2:], func(p part) bool { return p.isSet })
}

// RefreshSetting is what a person sets to give a new refresh token.
func (c Credential) RefreshSetting() string {
	switch {
	case c.at == "":
		return "LEDGERLINE_PLEO_REFRESH_TOKEN"
	case c.CompanyID == "":
		return "refresh-token of the default credential in " + credentialsKey
	}
	return "refresh-token of company " + c.CompanyID + " in " + credentialsKey
}

// String says who signs in how, without secrets.
func (c Credential) String() string {
	who := "default"
	if c.CompanyID != "" {
		who = c.CompanyID
	}
	switch {
	case c.Token.IsSet():
		return who + ": token"
	case c.APIKey.IsSet():
		return who + ": api-key"
	}
	return who + ": oauth client " + c.ClientID
}

// part is one setting of a credential: how it is called in the list, what of it,
// and whether it is given.
type part struct {
	key      string // in the list of the file
	variable string // of the default credential
	isSet    bool
}

// parts are a credential's settings: a token, a key, and the four of OAuth.
func (c Credential) parts() []part {
	return []part{
		{"token", "LEDGERLINE_PLEO_TOKEN", c.Token.IsSet()},
		{"api-key", "LEDGERLINE_PLEO_API_KEY", c.APIKey.IsSet()},
		{"client-id", "LEDGERLINE_PLEO_CLIENT_ID", c.ClientID != ""},
		{"client-secret", "LEDGERLINE_PLEO_CLIENT_SECRET", c.ClientSecret.IsSet()},
		{"refresh-token", "LEDGERLINE_PLEO_REFRESH_TOKEN", c.RefreshToken.IsSet()},
		{"token-url", "LEDGERLINE_PLEO_TOKEN_URL", c.TokenURL != ""},
	}
}

// isGiven tells whether any of its settings is.
func (c Credential) isGiven() bool {
	return slices.ContainsFunc(c.parts(), func(p part) bool { return p.isSet })
}

// check wants at most one way to sign in, and all of it. say makes the setting and
// the subject of a fault's sentence from a part.
func (c Credential) check(say func(p part) (setting, of string), faults *Faults) {
	name := func(p part) string {
		if c.at == "" {
			return p.variable
		}
		return p.key
	}
	add := func(p part, problem, wayOut string) {
		setting, of := say(p)
		faults.Add(setting, of+problem, wayOut)
	}
	parts := c.parts()
	var ways []part // by the setting that shows each
	for _, p := range parts[:2] {
		if p.isSet {
			ways = append(ways, p)
		}
	}
	var missing []part
	var oauth *part
	for _, p := range parts[2:] {
		switch {
		case !p.isSet:
			missing = append(missing, p)
		case oauth == nil:
			oauth = &p
		}
	}
	if oauth != nil {
		ways = append(ways, *oauth)
		for _, p := range missing {
			add(p, "is missing: "+name(*oauth)+" is set, and OAuth needs all four", "set it, or none of the four")
		}
	}
	for _, p := range ways[min(1, len(ways)):] {
		add(p, "is set besides "+name(ways[0])+": two ways to sign in", "keep one of them")
	}
	if c.TokenURL != "" {
		setting, of := say(parts[5])
		var found Faults
		checkHTTPURL(setting, c.TokenURL, &found)
		for _, f := range found {
			faults.Add(setting, of+f.Problem, f.WayOut)
		}
	}
}

// checkCredentials checks the list, alone and beside the default credential.
func (c Pleo) checkCredentials(faults *Faults) {
	first := map[string]string{} // where a company, or "" for the default, stands
	if c.Default().isGiven() {
		first[""] = "the LEDGERLINE_PLEO_ settings"
	}
	// The values of refresh tokens, each of which only one credential may rotate.
	rotating := map[string]string{}
	remember := func(credential Credential, where string) (other string) {
		if !credential.RefreshToken.IsSet() {
			return ""
		}
		value, err := credential.RefreshToken.Value()
		if err != nil {
			return "" // told elsewhere
		}
		other = rotating[value]
		rotating[value] = where
		return other
	}
	remember(c.Default(), "LEDGERLINE_PLEO_REFRESH_TOKEN")
	for _, credential := range c.Credentials {
		if credential.unsound {
			continue
		}
		say := func(p part) (string, string) {
			return credential.at, fmt.Sprintf("%s of %s ", p.key, credential.who())
		}
		credential.check(say, faults)
		if !credential.isGiven() {
			faults.Add(credential.at, credential.who()+" has no way to sign in",
				"give token-file, api-key-file, or client-id, client-secret-file, refresh-token-file and token-url")
		}
		if earlier, twice := first[credential.CompanyID]; twice {
			faults.Add(credential.at, fmt.Sprintf("%s is given here and in %s", credential.who(), earlier), "keep one of them")
		} else {
			first[credential.CompanyID] = credential.at
		}
		for _, s := range []struct {
			key    string
			secret Secret
		}{
			{"token", credential.Token}, {"api-key", credential.APIKey},
			{"client-secret", credential.ClientSecret}, {"refresh-token", credential.RefreshToken},
		} {
			if _, err := s.secret.Value(); err != nil {
				faults.Add(credential.at, fmt.Sprintf("%s%s of %s: %v", s.key, fileFlag, credential.who(), err),
					"give a readable file that holds the secret and nothing else")
			}
		}
		if other := remember(credential, credential.at); other != "" {
			faults.Add(credential.at, fmt.Sprintf("%s has the refresh token of %s, which only one of them can rotate", credential.who(), other),
				"authorise each company by itself")
		}
	}
}

// who is the subject of a fault's sentence.
func (c Credential) who() string {
	if c.CompanyID == "" {
		return "the default credential"
	}
	return "company " + c.CompanyID
}

// companyID reads a company's id as a key of the list has it.
func companyID(text string) (id string, ok bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	if _, err := uuid.Parse(text); err != nil || len(text) != uuidLength {
		return "", false
	}
	return text, true
}
