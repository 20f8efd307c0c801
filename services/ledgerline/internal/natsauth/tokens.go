package natsauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

const (
	secretFile = 0o600
	secretDir  = 0o700
	publicFile = 0o644

	// admin may do everything in the account; system is the server's own.
	admin  = "admin"
	system = "system"
)

// Create writes into dir, which must not have keys yet:
//
//	keys/      the seeds that sign: operator, account, system account, and one for
//	           the users of each program
//	creds/     NATS_CREDS of gateway, fetcher, consumer, operator, admin and system
//	auth.conf  what the server includes
func Create(dir, permissionsFile string) error {
	if _, err := os.Stat(filepath.Join(dir, "keys", "operator.nk")); err == nil {
		return fmt.Errorf("%s has keys already: rotate users, or choose another folder", dir)
	}
	for _, sub := range []string{"keys", "creds"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), secretDir); err != nil {
			return fmt.Errorf("make a folder for the keys: %w", err)
		}
	}
	keys := map[string]nkeys.KeyPair{}
	creators := map[string]func() (nkeys.KeyPair, error){"operator": nkeys.CreateOperator, "account": nkeys.CreateAccount, system: nkeys.CreateAccount}
	for _, program := range Programs {
		creators[program+"-users"] = nkeys.CreateAccount
	}
	for name, create := range creators {
		pair, err := create()
		if err != nil {
			return fmt.Errorf("make the key of %s: %w", name, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("make the key of %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "keys", name+".nk"), seed, secretFile); err != nil {
			return fmt.Errorf("keep the key of %s: %w", name, err)
		}
		keys[name] = pair
	}
	account, err := newAccount("LEDGERLINE", keys["account"])
	if err != nil {
		return err
	}
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
		MaxAckPending: jwt.NoLimit, MemoryMaxStreamBytes: jwt.NoLimit, DiskMaxStreamBytes: jwt.NoLimit,
	}
	for _, program := range Programs {
		if err := addScope(account, keys[program+"-users"], permissionsFile, program); err != nil {
			return err
		}
		if err := writeUser(dir, program, account.Subject, keys[program+"-users"]); err != nil {
			return err
		}
	}
	if err := writeUser(dir, admin, "", keys["account"]); err != nil {
		return err
	}
	if err := writeUser(dir, system, "", keys[system]); err != nil {
		return err
	}
	return writeServer(dir, keys, account)
}

// Rotate gives a program a new credentials file and has every earlier one refused,
// from now on by the clock of this machine. It takes effect when the servers have
// loaded auth.conf again.
func Rotate(dir, program string) error {
	keys := map[string]nkeys.KeyPair{}
	signer := "account"
	if slices.Contains(Programs, program) {
		signer = program + "-users"
	}
	for _, name := range []string{"operator", "account", system, signer} {
		seed, err := os.ReadFile(filepath.Join(dir, "keys", name+".nk"))
		if err != nil {
			return fmt.Errorf("read the key of %s: %w", name, err)
		}
		if keys[name], err = nkeys.FromSeed(seed); err != nil {
			return fmt.Errorf("read the key of %s: %w", name, err)
		}
	}
	old, err := os.ReadFile(credsFile(dir, program))
	if err != nil {
		return fmt.Errorf("read the credentials of %s: %w", program, err)
	}
	token, err := jwt.ParseDecoratedJWT(old)
	if err != nil {
		return fmt.Errorf("read the credentials of %s: %w", program, err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return fmt.Errorf("read the credentials of %s: %w", program, err)
	}
	if program == system {
		return errors.New("the system account's user is not rotated: make a new folder")
	}
	stored, err := os.ReadFile(filepath.Join(dir, "keys", "account.jwt"))
	if err != nil {
		return fmt.Errorf("read the account: %w", err)
	}
	account, err := jwt.DecodeAccountClaims(string(stored))
	if err != nil {
		return fmt.Errorf("read the account: %w", err)
	}
	account.RevokeAt(user.Subject, time.Now())
	of := ""
	if signer != "account" {
		of = account.Subject
	}
	if err := writeUser(dir, program, of, keys[signer]); err != nil {
		return err
	}
	return writeServer(dir, keys, account)
}

// addScope lets the account say what users signed by a program's key may do. In the
// users' own tokens the lists would be too long for the server's first line (4 KB),
// and a changed list would need new credentials for everybody.
func addScope(account *jwt.AccountClaims, signer nkeys.KeyPair, permissionsFile, program string) error {
	public, err := signer.PublicKey()
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", program, err)
	}
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = public, program
	if scope.Template.Permissions, err = permissions(permissionsFile, program); err != nil {
		return err
	}
	account.SigningKeys.AddScopedSigner(scope)
	return nil
}

func credsFile(dir, program string) string { return filepath.Join(dir, "creds", program+".creds") }

func newAccount(name string, pair nkeys.KeyPair) (*jwt.AccountClaims, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make the account %s: %w", name, err)
	}
	claims := jwt.NewAccountClaims(public)
	claims.Name = name
	return claims, nil
}

// writeUser signs a user: of an account by a key of a scope, or, of "", by the
// account's own key, for everything.
func writeUser(dir, program, of string, signer nkeys.KeyPair) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("make the user %s: %w", program, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return fmt.Errorf("make the user %s: %w", program, err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = program
	if of != "" {
		claims.IssuerAccount = of
		claims.SetScoped(true)
	}
	token, err := claims.Encode(signer)
	if err != nil {
		return fmt.Errorf("sign the user %s: %w", program, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("make the user %s: %w", program, err)
	}
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		return fmt.Errorf("write the credentials of %s: %w", program, err)
	}
	// Beside and over it: a program that reads it meanwhile finds a whole one.
	file := credsFile(dir, program)
	if err := os.WriteFile(file+".new", text, secretFile); err != nil {
		return fmt.Errorf("write the credentials of %s: %w", program, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write the credentials of %s: %w", program, err)
	}
	return nil
}

// operatorLine begins the line of auth.conf that has the operator's token.
const operatorLine = "operator: "

// writtenOperator is the operator's token as the servers have loaded it, empty where
// there is none yet. A server does not load a configuration again whose operator has
// changed, and a token that is signed again is another one: the time is in it.
func writtenOperator(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "auth.conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read auth.conf: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if token, ok := strings.CutPrefix(line, operatorLine); ok {
			return strings.TrimSpace(token), nil
		}
	}
	return "", fmt.Errorf("%s has no line that begins with %q: restore it, or make a new folder", filepath.Join(dir, "auth.conf"), operatorLine)
}

// writeServer signs operator and accounts and writes what the server reads.
func writeServer(dir string, keys map[string]nkeys.KeyPair, account *jwt.AccountClaims) error {
	operatorID, err := keys["operator"].PublicKey()
	if err != nil {
		return fmt.Errorf("sign the operator: %w", err)
	}
	sys, err := newAccount("SYS", keys[system])
	if err != nil {
		return err
	}
	operator := jwt.NewOperatorClaims(operatorID)
	operator.Name = "ledgerline"
	operator.SystemAccount = sys.Subject
	claims := map[string]jwt.Claims{"account": account, system: sys}
	tokens := map[string]string{}
	if tokens["operator"], err = writtenOperator(dir); err != nil {
		return err
	}
	if tokens["operator"] == "" {
		claims["operator"] = operator
	}
	for name, of := range claims {
		if tokens[name], err = of.Encode(keys["operator"]); err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", "account.jwt"), []byte(tokens["account"]), secretFile); err != nil {
		return fmt.Errorf("keep the account: %w", err)
	}
	text := strings.Join([]string{
		"# Written by scripts/nats-auth. Signed tokens, no secrets.",
		operatorLine + tokens["operator"],
		"system_account: " + sys.Subject,
		"resolver: MEMORY",
		"resolver_preload: {",
		"  " + account.Subject + ": " + tokens["account"],
		"  " + sys.Subject + ": " + tokens[system],
		"}", "",
	}, "\n")
	if err := os.WriteFile(filepath.Join(dir, "auth.conf"), []byte(text), publicFile); err != nil { //nolint:gosec // the server runs as another user, and no secret is in it
		return fmt.Errorf("write auth.conf: %w", err)
	}
	return nil
}
