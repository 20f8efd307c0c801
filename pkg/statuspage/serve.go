package statuspage

import (
	"net/http"
	"time"
)

// contentPolicy lets the page load its own style, script and icon and talk to its
// own server, and nothing else: text of others that slipped through as markup
// would still load and run nothing.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Prefix is where everything of the page but / is.
const Prefix = "/status/"

func (p *Page) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.servePage)
	mux.HandleFunc("GET /status/live", p.serveLive)
	mux.HandleFunc("GET /status/page.css", asset("text/css; charset=utf-8", styles))
	mux.HandleFunc("GET /status/page.js", asset("text/javascript; charset=utf-8", script))
	for t := range icons {
		mux.HandleFunc("GET /status/icon-"+string(t)+".svg", asset("image/svg+xml", icon(t)))
	}
	mux.HandleFunc("GET /status/sign-in", func(w http.ResponseWriter, r *http.Request) {
		if p.secret() == "" {
			p.refuse(w, r, http.StatusForbidden, errReadOnly)
			return
		}
		if p.signedIn(r) { // a link from elsewhere brought no cookie; this click does
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		p.page(w, http.StatusOK, "signin", signInPage{})
	})
	mux.HandleFunc("POST /status/sign-in", p.signIn)
	mux.HandleFunc("POST /status/sign-out", p.signOut)
	mux.HandleFunc("GET /status/jobs/{job}/cancel", p.guarded(p.confirm))
	mux.HandleFunc("POST /status/jobs/{job}/{action}", p.guarded(p.act))
	// Whatever is posted comes from this page or from no browser at all; the mux
	// refuses the methods that are not here.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusForbidden, "this was sent by a page of another site")
	}))
	return secured(sameOrigin.Handler(http.MaxBytesHandler(mux, maxForm)))
}

func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin") // "no-referrer" would take the Origin off our own forms
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func asset(contentType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		if r.URL.Query().Get("v") == assetVersion {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		// The asker may have gone; there is nobody to tell.
		_, _ = w.Write(content)
	}
}

// frameData is what stands around the page's content.
type frameData struct {
	Program, Version, Assets string
	Title                    string
	Tone                     tone
	// Live is true for the page itself, which changes.
	Live     bool
	CanSteer bool
	Steers   bool
	At       string
	AtTime   string
	Said     string
}

type (
	signInPage  struct{ Wrong bool }
	confirmPage struct{ Job string }
	refusedPage struct {
		Reason string
		SignIn bool
	}
)

// servePage writes the page around the shared render.
func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	steers := p.signedIn(r)
	now := p.fresh(r.Context().Done())
	html, err := now.render(steers)
	at := now.at
	if at.IsZero() {
		at = time.Now()
	}
	p.around(w, http.StatusOK, frameData{
		Title: now.view.Verdict.Headline, Tone: now.view.Verdict.Tone, Live: true, CanSteer: p.secret() != "", Steers: steers,
		At: at.UTC().Format("15:04:05") + " UTC", AtTime: machine(at), Said: said(r),
	}, html, err)
}

// page writes one of the small pages.
func (p *Page) page(w http.ResponseWriter, status int, name string, data any) {
	html, err := execute(name, data)
	titles := map[string]string{"signin": "Sign in", "confirm": "Cancel a job", "refused": "Not done"}
	p.around(w, status, frameData{Title: titles[name], Tone: toneQuiet}, html, err)
}

func (p *Page) around(w http.ResponseWriter, status int, data frameData, content []byte, err error) {
	data.Program, data.Version, data.Assets = p.program, p.version, assetVersion
	var head, foot []byte
	if err == nil {
		head, err = execute("head", data)
	}
	if err == nil {
		foot, err = execute("foot", data)
	}
	if err != nil {
		p.renderFailed(err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	for _, part := range [][]byte{head, content, foot} {
		if _, err := w.Write(part); err != nil {
			return // whoever asked has gone
		}
	}
}
