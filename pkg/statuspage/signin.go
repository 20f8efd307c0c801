package statuspage

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// sessionLength is how long a browser stays signed in: a shift.
	sessionLength = 12 * time.Hour
	sessionCookie = "ledgerline_status"
	// sessionPurpose keeps a session's seal from being anything else.
	sessionPurpose = "ledgerline status page session 1 until "
	bearerPrefix   = "Bearer "
)

// secret is the token, empty where nobody can steer: none is configured, its file
// cannot be read, or it became too short. One that is long enough cannot be found
// by trying, so wrong tries need not be counted.
func (p *Page) secret() string {
	if p.token == nil {
		return ""
	}
	token, err := p.token()
	if err != nil {
		p.log.Error().Err(err).Msg(logevent.StatusTokenUnread)
		return ""
	}
	if len(token) < config.MinStatusToken {
		return ""
	}
	return token
}

// sameSecret compares in a time that tells nothing of where they differ, nor how
// long the right one is.
func sameSecret(given, right string) bool {
	g, r := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(right))
	return right != "" && subtle.ConstantTimeCompare(g[:], r[:]) == 1
}

// signedIn tells whether a request brings the token, or the cookie of a session.
func (p *Page) signedIn(r *http.Request) bool {
	token := p.secret()
	if token == "" {
		return false
	}
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearerPrefix); ok {
		return sameSecret(given, token)
	}
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	until, seal, _ := strings.Cut(cookie.Value, ".")
	if !sameSecret(seal, sessionSeal(token, until)) {
		return false
	}
	seconds, err := strconv.ParseInt(until, 10, 64)
	return err == nil && time.Now().Before(time.Unix(seconds, 0))
}

// sessionSeal shows that somebody who knew the token was signed in until then. It
// holds in every process that has the token, and no longer than the token does.
func sessionSeal(token, until string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(sessionPurpose + until))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// signIn gives the cookie for the token.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request) {
	token := p.secret()
	if token == "" {
		p.refuse(w, r, http.StatusForbidden, errReadOnly)
		return
	}
	if !sameSecret(r.PostFormValue("token"), token) {
		p.log.Warn().Str("from", r.RemoteAddr).Msg(logevent.StatusSignInRefused)
		p.page(w, http.StatusUnauthorized, "signin", signInPage{Wrong: true})
		return
	}
	until := time.Now().Add(sessionLength)
	text := strconv.FormatInt(until.Unix(), 10)
	http.SetCookie(w, p.cookie(r, text+"."+sessionSeal(token, text), int(sessionLength/time.Second)))
	p.log.Info().Str("from", r.RemoteAddr).Msg(logevent.StatusSignedIn)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) signOut(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, p.cookie(r, "", -1))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // secure wherever it can be
		Name: sessionCookie, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// On a plain connection a secure cookie would be dropped; behind a proxy
		// that ends TLS it is kept to that.
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}
