package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/synadia-io/orbit.go/natscontext"
)

// DefaultNATSURL is where a NATS server listens when nobody said otherwise.
const DefaultNATSURL = nats.DefaultURL

// maxCredsBytes bounds a credentials file: a signed token and a seed.
const maxCredsBytes = 256 << 10

// NATS is how to reach the NATS server and as whom, by the names that the nats
// command line reads. With a context, what is set here besides it goes before
// what the context says. The context that the nats command line has selected is
// not used unless it is named.
type NATS struct {
	URL      string `name:"nats-url" env:"NATS_URL" placeholder:"nats://127.0.0.1:4222" kind:"url" help:"Servers to connect to, with commas between them."`
	Creds    string `name:"nats-creds" env:"NATS_CREDS" placeholder:"FILE" help:"Credentials file of the user."`
	User     Secret `name:"nats-user" env:"NATS_USER" placeholder:"USER" help:"User name; without a password it is taken as a token."`
	Password Secret `name:"nats-password" env:"NATS_PASSWORD" placeholder:"PASSWORD" help:"Password of the user."`
	NKey     string `name:"nats-nkey" env:"NATS_NKEY" placeholder:"FILE" help:"File with the user's nkey seed."`
	Cert     string `name:"nats-cert" env:"NATS_CERT" placeholder:"FILE" help:"TLS certificate to show."`
	Key      string `name:"nats-key" env:"NATS_KEY" placeholder:"FILE" help:"Private key of the certificate."`
	CA       string `name:"nats-ca" env:"NATS_CA" placeholder:"FILE" help:"Certificate authorities to trust."`
	Context  string `name:"nats-context" env:"NATS_CONTEXT" placeholder:"NAME" help:"Context of the nats command line to use."`
}

func (c *NATS) settle() {
	if c.URL == "" && c.Context == "" {
		c.URL = DefaultNATSURL
	}
}

// Validate reads every file that is named: a file that cannot be used is found
// here, not at the first connection.
func (c NATS) Validate() Faults {
	_, faults := c.Options()
	return faults
}

// Options are the client options that these settings make: servers, identity
// and TLS, over the client's own defaults. How to wait, to reconnect and to log
// is left to the caller.
func (c NATS) Options() (nats.Options, Faults) {
	var faults Faults
	o := nats.GetDefaultOptions()
	if c.Context != "" {
		fromContext, err := contextOptions(c.Context)
		if err != nil {
			faults.Add("NATS_CONTEXT", "cannot be used: "+err.Error(), "name a context that `nats context ls` lists, or a context file by its full path")
		} else {
			o = fromContext
		}
	}
	c.addServers(&o, &faults)
	c.addIdentity(&o, &faults)
	c.addTLS(&o, &faults)
	return o, faults
}

func (c NATS) addServers(o *nats.Options, faults *Faults) {
	text := c.URL
	if text == "" {
		if len(o.Servers) > 0 {
			return
		}
		text = DefaultNATSURL
	}
	var servers []string
	var websockets int
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSuffix(strings.TrimSpace(part), "/")
		if part == "" {
			continue
		}
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		u, err := url.Parse(part)
		// The parser's own message may quote the password.
		if err != nil || u.Hostname() == "" || !validPort(u.Port()) {
			faults.Add("NATS_URL", "is not a server's URL", "give nats://host:port, several with commas between them")
			return
		}
		switch u.Scheme {
		case "nats", "tls":
		case "ws", "wss":
			websockets++
		default:
			faults.Add("NATS_URL", fmt.Sprintf("has the scheme %q", u.Scheme), "give nats://, tls://, ws:// or wss://")
			return
		}
		servers = append(servers, part)
	}
	if len(servers) == 0 {
		faults.Add("NATS_URL", "names no server", "give nats://host:port")
		return
	}
	if websockets != 0 && websockets != len(servers) {
		faults.Add("NATS_URL", "mixes websocket servers with others", "give one kind")
		return
	}
	o.Url, o.Servers = "", servers
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func (c NATS) addIdentity(o *nats.Options, faults *Faults) {
	var ways []string
	if c.Creds != "" {
		ways = append(ways, "NATS_CREDS")
	}
	if c.User.IsSet() {
		ways = append(ways, "NATS_USER")
	}
	if c.NKey != "" {
		ways = append(ways, "NATS_NKEY")
	}
	if c.Password.IsSet() && !c.User.IsSet() {
		faults.Add("NATS_PASSWORD", "is set without NATS_USER", "set both, or neither")
	}
	if len(ways) > 1 {
		faults.Add(ways[1], "is set besides "+ways[0], "give one identity: NATS_CREDS, NATS_USER or NATS_NKEY")
	}
	if len(ways) > 0 {
		// An identity that is given goes before the whole of the context's.
		o.User, o.Password, o.UserInfo = "", "", nil
		o.Token, o.TokenHandler = "", nil
		o.Nkey, o.UserJWT, o.SignatureCB = "", nil, nil
	}
	if c.Creds != "" {
		if err := checkCreds(c.Creds); err != nil {
			faults.Add("NATS_CREDS", "cannot be used: "+err.Error(), "give a readable credentials file, as `nsc generate creds` writes it")
		} else {
			apply(o, nats.UserCredentials(c.Creds), "NATS_CREDS", faults)
		}
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			faults.Add("NATS_NKEY", "cannot be used: "+err.Error(), "give a readable file with a user's nkey seed (SU…)")
		} else {
			apply(o, option, "NATS_NKEY", faults)
		}
	}
	if c.User.IsSet() {
		c.addUser(o)
	}
}

// addUser reads user and password again at every attempt to connect: a
// password that was rotated in its file is the one that is sent. A file that
// cannot be read at that moment gives an empty one; the server refuses it, and
// the next attempt reads again.
func (c NATS) addUser(o *nats.Options) {
	value := func(s Secret) string {
		text, err := s.Value()
		if err != nil {
			return ""
		}
		return text
	}
	if !c.Password.IsSet() {
		o.TokenHandler = func() string { return value(c.User) }
		return
	}
	o.UserInfo = func() (string, string) { return value(c.User), value(c.Password) }
}

func (c NATS) addTLS(o *nats.Options, faults *Faults) {
	switch {
	case c.Cert != "" && c.Key == "":
		faults.Add("NATS_CERT", "is set without NATS_KEY", "set both, or neither")
	case c.Cert == "" && c.Key != "":
		faults.Add("NATS_KEY", "is set without NATS_CERT", "set both, or neither")
	case c.Cert != "":
		apply(o, nats.ClientCert(c.Cert, c.Key), "NATS_CERT", faults)
	}
	if c.CA != "" {
		apply(o, nats.RootCAs(c.CA), "NATS_CA", faults)
	}
}

func apply(o *nats.Options, option nats.Option, setting string, faults *Faults) {
	if err := option(o); err != nil {
		faults.Add(setting, "cannot be used: "+err.Error(), "give a readable file of the right kind")
	}
}

// checkCreds reads the file as the client will at each connection.
func checkCreds(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxCredsBytes {
		return fmt.Errorf("%s is larger than %d bytes", path, maxCredsBytes)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := nkeys.ParseDecoratedJWT(content); err != nil {
		return fmt.Errorf("%s holds no user token", path)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return fmt.Errorf("%s holds no user seed", path)
	}
	pair.Wipe()
	return nil
}

// contextOptions loads a context without connecting: the library offers the
// two together only, so the last option takes the options and stops it.
func contextOptions(name string) (nats.Options, error) {
	var taken nats.Options
	stop := fmt.Errorf("context %s was read", name)
	take := func(o *nats.Options) error {
		taken = *o
		return stop
	}
	conn, _, err := natscontext.Connect(name, take)
	if conn != nil {
		conn.Close()
	}
	if !errors.Is(err, stop) {
		return nats.Options{}, err
	}
	return taken, nil
}
