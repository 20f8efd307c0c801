package statuspage

import (
	"bytes"
	"compress/flate"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// maxLive bounds the live pages: an operations team and its screens. One more
	// is told to come again and is not live meanwhile.
	maxLive = 32
	// liveWriteTimeout is how long one update may take to a live page. It is let
	// go then: its browser comes again and gets the newest state.
	liveWriteTimeout = 5 * time.Second
	// keepAlive is how often something is sent when nothing changes, so that a
	// connection that is gone is found out, by either side and by proxies.
	keepAlive = 15 * time.Second
	// comeAgain is when the browser comes again after its connection was cut, in
	// milliseconds.
	comeAgain = "retry: 2000\n\n"
)

// live sends each new state to the pages that are open. A page holds one update at
// most: a newer one replaces it, so that a slow page costs no memory and skips
// what it would be late for.
type live struct {
	mu      sync.Mutex
	closed  bool
	clients map[*client]struct{}
	// writeTimeout is liveWriteTimeout but in tests.
	writeTimeout time.Duration
	// last is what each kind of page was sent last; an unchanged state is not sent.
	last map[bool][]byte
}

// client is one open page.
type client struct {
	kind
	// updates holds the newest one that was not written yet; closed at the end.
	updates chan []byte
}

// kind is what makes pages get the same bytes.
type kind struct {
	steers bool
	// packed is true where the browser takes gzip.
	packed bool
}

func newLive() *live {
	return &live{clients: map[*client]struct{}{}, last: map[bool][]byte{}, writeTimeout: liveWriteTimeout}
}

// join adds a page, or returns nil where there are too many or it is the end.
func (l *live) join(k kind) *client {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.clients) >= maxLive {
		return nil
	}
	c := &client{kind: k, updates: make(chan []byte, 1)}
	l.clients[c] = struct{}{}
	return c
}

func (l *live) leave(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clients, c)
}

// wants tells whether any page of this kind is open.
func (l *live) wants(steers bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.clients {
		if c.steers == steers {
			return true
		}
	}
	return false
}

// publish gives a state to the pages of one kind.
func (l *live) publish(steers bool, html []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Equal(l.last[steers], html) {
		return
	}
	l.last[steers] = html
	plain := frame(html)
	var packed []byte // made once, and only where somebody takes it
	for c := range l.clients {
		if c.steers != steers {
			continue
		}
		update := plain
		if c.packed {
			if packed == nil {
				packed = pack(plain)
			}
			update = packed
		}
		select {
		case <-c.updates: // not written yet, and old now
		default:
		}
		c.updates <- update
	}
}

// close ends every page's connection.
func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	for c := range l.clients {
		close(c.updates)
		delete(l.clients, c)
	}
}

// frame is one server-sent event: each line of the text is a line of data. A
// carriage return ends a line too, and means nothing in our text.
func frame(html []byte) []byte {
	html = bytes.ReplaceAll(html, []byte("\r"), nil)
	return append(append([]byte("data: "), bytes.ReplaceAll(html, []byte("\n"), []byte("\ndata: "))...), "\n\n"...)
}

// gzipHead begins a gzip stream (RFC 1952): deflated, without a name or a time.
// The stream is cut when its page goes, so it never has an end.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// pack deflates a part of a stream so that it stands alone, whatever was before it:
// one part, made once, fits into the stream of every page. A list of jobs shrinks
// to a tenth.
func pack(part []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	// A buffer takes everything.
	_, _ = w.Write(part)
	_ = w.Flush() // ends at a whole byte, with everything in it
	return out.Bytes()
}

// takesGzip reads what the browser says of itself; a refusal of gzip by name is
// rarer than its lack.
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.ReplaceAll(quality, " ", "") != "q=0"
		}
	}
	return false
}

// serveLive sends the state now, and each new one until the browser goes, is too
// slow, or the program ends.
func (p *Page) serveLive(w http.ResponseWriter, r *http.Request) {
	k := kind{steers: p.signedIn(r), packed: takesGzip(r)}
	c := p.live.join(k)
	if c == nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many live pages are open; this one shows what was when it was loaded", http.StatusServiceUnavailable)
		return
	}
	defer p.live.leave(c)
	html, err := p.fresh(r.Context().Done()).render(k.steers)
	if err != nil {
		p.renderFailed(err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that gathers would hold updates back
	w.Header().Set("Vary", "Accept-Encoding")
	first, stillHere := append([]byte(comeAgain), frame(html)...), []byte(": still here\n\n")
	if k.packed {
		w.Header().Set("Content-Encoding", "gzip")
		first, stillHere = slices.Concat(gzipHead, pack(first)), pack(stillHere)
	}
	if !p.send(w, first) {
		return
	}
	p.wake()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case update, open := <-c.updates:
			if !open || !p.send(w, update) {
				return
			}
		case <-alive.C:
			// A session that has ended must not go on showing buttons.
			if p.signedIn(r) != k.steers || !p.send(w, stillHere) {
				return
			}
		}
	}
}

// send writes within its time; false when the page is gone or too slow.
func (p *Page) send(w http.ResponseWriter, update []byte) bool {
	control := http.NewResponseController(w)
	// The server's own limits are for whole answers.
	err := control.SetReadDeadline(time.Time{})
	if err == nil {
		err = control.SetWriteDeadline(time.Now().Add(p.live.writeTimeout))
	}
	if err == nil {
		_, err = w.Write(update)
	}
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		p.log.Debug().Err(err).Msg(logevent.StatusViewerGone)
	}
	return err == nil
}
