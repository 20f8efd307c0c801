package statuspage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/steer"
)

const (
	// maxForm bounds what is posted: a token at most.
	maxForm = 16 << 10
	// steerTimeout bounds one action; a person waits.
	steerTimeout = 10 * time.Second
)

var actionLabels = map[Action]string{Retry: "Retry", Pause: "Pause", Resume: "Resume", Cancel: "Cancel"}

// done says what was asked for, to whoever comes back to the page.
var done = map[Action]string{
	Retry:  "is drained again: what Pleo has not taken is reported, and what is open is worked.",
	Pause:  "is paused as soon as the item in hand is settled.",
	Resume: "goes on.",
	Cancel: "is cancelled as soon as the item in hand is settled; what was booked stays booked.",
}

// guarded lets through whoever is signed in and comes from this page: another
// site's page in the same browser must not press our buttons. The cookie is
// SameSite=Strict besides; a program that brings the token itself has no browser
// to be abused.
func (p *Page) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.secret() == "":
			p.refuse(w, r, http.StatusForbidden, errReadOnly)
		case !p.signedIn(r):
			p.refuse(w, r, http.StatusUnauthorized, errNotSignedIn)
		case r.Method != http.MethodGet && !fromOurPage(r):
			p.refuse(w, r, http.StatusForbidden, errNoOrigin)
		default:
			next(w, r)
		}
	}
}

// fromOurPage holds for what brings the token itself, and for what a browser says
// comes from this page; what says something else did not come this far. Every
// browser of today says one of the two with a POST.
func fromOurPage(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// act carries a button to the job's worker.
func (p *Page) act(w http.ResponseWriter, r *http.Request) {
	action, known := parseAction(r.PathValue("action"))
	job, err := uuid.Parse(r.PathValue("job"))
	if !known || err != nil {
		p.refuse(w, r, http.StatusNotFound, errors.New("there is no such action or job"))
		return
	}
	p.mu.Lock()
	source := p.source
	p.mu.Unlock()
	if source == nil {
		p.refuse(w, r, http.StatusServiceUnavailable, errors.New("not connected to NATS yet; try again in a moment"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), steerTimeout)
	defer cancel()
	logger := p.log.With().Str("action", string(action)).Stringer("job_id", job).Logger()
	text, err := source.Steer(ctx, job, action)
	switch {
	case errors.Is(err, jobstate.ErrNotFound):
		p.refuse(w, r, http.StatusNotFound, err)
	case errors.Is(err, steer.ErrRefused):
		p.refuse(w, r, http.StatusConflict, err)
	case err != nil:
		logger.Error().Err(err).Msg(logevent.StatusActionFailed)
		p.refuse(w, r, http.StatusServiceUnavailable, fmt.Errorf("%s job %s: %w", action, job, err))
	default:
		logger.Info().Str("from", r.RemoteAddr).Msg(logevent.StatusActionAsked)
		p.look()
		if wantsText(r) {
			answer(w, http.StatusOK, text)
			return
		}
		back := url.Values{"done": {string(action)}, "job": {job.String()}}
		http.Redirect(w, r, "/?"+back.Encode(), http.StatusSeeOther)
	}
}

// said is the sentence for whoever comes back after an action. It is made here
// from known words, so that nobody's link can put words into our mouth.
func said(r *http.Request) string {
	action, known := parseAction(r.URL.Query().Get("done"))
	job, err := uuid.Parse(r.URL.Query().Get("job"))
	if !known || err != nil {
		return ""
	}
	return "Job " + job.String() + " " + done[action]
}

// confirm asks once more before what cannot be taken back. A page of its own works
// without a script too.
func (p *Page) confirm(w http.ResponseWriter, r *http.Request) {
	job, err := uuid.Parse(r.PathValue("job"))
	if err != nil {
		p.refuse(w, r, http.StatusNotFound, errors.New("there is no such job"))
		return
	}
	p.page(w, http.StatusOK, "confirm", confirmPage{Job: job.String()})
}

// refuse answers in the form that was asked for.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	if wantsText(r) {
		answer(w, status, err.Error())
		return
	}
	p.page(w, status, "refused", refusedPage{Reason: clip(err.Error()), SignIn: status == http.StatusUnauthorized})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// wantsText tells a program, or our own script, from a browser.
func wantsText(r *http.Request) bool { return !strings.Contains(r.Header.Get("Accept"), "text/html") }
