package statuspage

import (
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// freshWait is how long a page that is asked for waits for a reading, where the
// last one is old because nobody looked.
const freshWait = 1500 * time.Millisecond

// Options say whose page it is.
type Options struct {
	// Program is named at the top of the page.
	Program string
	Version string
	// Token is asked for what steers; nil makes the page read-only. It is called
	// at each request, so that a rotated token holds at once.
	Token  func() (string, error)
	Logger zerolog.Logger
}

// Page is the handler. It answers from New on, and tells of jobs once Follow runs.
// Its methods may be called from several goroutines.
type Page struct {
	program, version string
	token            func() (string, error)
	log              zerolog.Logger
	handler          http.Handler
	live             *live
	// wanted wakes Follow up: somebody came to look.
	wanted chan struct{}

	mu     sync.Mutex
	source Source
	asked  time.Time // when a page was asked for last
	now    *shown
}

// shown is one state of the page, rendered once for all who want it.
type shown struct {
	at      time.Time
	view    *view
	renders [2]struct {
		once sync.Once
		html []byte
		err  error
	}
	// replaced is closed when a newer state is there.
	replaced chan struct{}
}

// New makes the page.
func New(o Options) *Page {
	p := &Page{
		program: o.Program, version: o.Version, token: o.Token, log: o.Logger,
		live: newLive(), wanted: make(chan struct{}, 1),
	}
	p.now = &shown{view: viewOf(newMemory(), time.Now()), replaced: make(chan struct{})}
	p.handler = p.routes()
	return p
}

// ServeHTTP answers for /, and for what the page needs below /status/.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// show puts a new state in place and tells the live pages.
func (p *Page) show(v *view, at time.Time) {
	next := &shown{at: at, view: v, replaced: make(chan struct{})}
	p.mu.Lock()
	before := p.now
	p.now = next
	p.mu.Unlock()
	close(before.replaced)
	for _, steers := range []bool{false, true} {
		if !p.live.wants(steers) {
			continue
		}
		html, err := next.render(steers)
		if err != nil {
			p.renderFailed(err)
			continue
		}
		p.live.publish(steers, html)
	}
}

// fresh is the newest state; an old one is waited for, for a while.
func (p *Page) fresh(done <-chan struct{}) *shown {
	p.mu.Lock()
	now, following := p.now, p.source != nil
	p.asked = time.Now()
	p.mu.Unlock()
	if !following || time.Since(now.at) < 2*watchedInterval {
		return now
	}
	p.wake()
	timer := time.NewTimer(freshWait)
	defer timer.Stop()
	select {
	case <-now.replaced:
	case <-timer.C:
	case <-done:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// look has Follow read soon, because something was changed.
func (p *Page) look() {
	p.mu.Lock()
	p.asked = time.Now()
	p.mu.Unlock()
	p.wake()
}

// wake has Follow look whether it is watched.
func (p *Page) wake() {
	select {
	case p.wanted <- struct{}{}:
	default: // awake already
	}
}

func (p *Page) watched(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.asked) < watchedFor || p.live.wants(true) || p.live.wants(false)
}
