package statuspage

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// stream is an open live page.
type stream struct {
	t    *testing.T
	body io.ReadCloser
	scan *bufio.Scanner
}

func (s *site) live(headers ...string) *stream {
	s.t.Helper()
	response := s.openLive(headers...)
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("a live page: %s", response.Status)
	}
	scan := bufio.NewScanner(response.Body)
	scan.Buffer(nil, 16<<20)
	return &stream{s.t, response.Body, scan}
}

func (s *site) openLive(headers ...string) *http.Response {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+"/status/live", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { response.Body.Close() })
	return response
}

// next is the next update, as a browser puts it together: any other line than data,
// retry and a comment would be a break out of the frame.
func (s *stream) next() string {
	s.t.Helper()
	var lines []string
	for s.scan.Scan() {
		line := s.scan.Text()
		data, isData := strings.CutPrefix(line, "data: ")
		switch {
		case isData && !strings.Contains(line, "\r"):
			lines = append(lines, data)
		case line == "" && len(lines) > 0:
			return strings.Join(lines, "\n")
		case line != "" && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "retry: "):
			s.t.Fatalf("a line %q", line)
		}
	}
	s.t.Fatalf("the stream ended: %v", s.scan.Err())
	return ""
}

func TestALivePageFollows(t *testing.T) {
	t.Parallel()
	job := running(jobA)
	s := serve(t, testToken, Reading{Jobs: []Job{job}})
	read, steer := s.live(), s.live("Authorization", "Bearer "+testToken)
	if text := read.next(); !strings.Contains(text, "40 of 100") || strings.Contains(text, "<form") {
		t.Errorf("a reader sees %s", text)
	}
	if text := steer.next(); !strings.Contains(text, "40 of 100") || !strings.Contains(text, "/pause") {
		t.Errorf("who is signed in sees %s", text)
	}
	job.Position = 70
	s.source.say(Reading{Jobs: []Job{job}})
	for _, page := range []*stream{read, steer} {
		for !strings.Contains(page.next(), "70 of 100") {
		}
	}
}

// Who takes gzip and who does not see the same, update after update.
func TestALivePageIsPacked(t *testing.T) {
	t.Parallel()
	s := serve(t, "", thousandJobs())
	packed := s.openLive("Accept-Encoding", "br, GZIP;q=0.8")
	if coding := packed.Header.Get("Content-Encoding"); coding != "gzip" {
		t.Fatalf("coded as %q", coding)
	}
	counted := &counter{from: packed.Body}
	unpacked, err := gzip.NewReader(counted)
	if err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(unpacked)
	scan.Buffer(nil, 16<<20)
	one := &stream{t, packed.Body, scan}
	plain := s.openLive("Accept-Encoding", "gzip; q=0, identity")
	if coding := plain.Header.Get("Content-Encoding"); coding != "" {
		t.Fatalf("coded as %q", coding)
	}
	scan = bufio.NewScanner(plain.Body)
	scan.Buffer(nil, 16<<20)
	other := &stream{t, plain.Body, scan}
	if a, b := one.next(), other.next(); a != b || len(a) < 10*counted.bytes {
		t.Errorf("%d bytes became %d, or others", len(a), counted.bytes)
	}
	job := running(jobA)
	for position := range uint32(3) {
		job.Position = 50 + position
		s.source.say(Reading{Jobs: []Job{job}})
		wanted := strconv.Itoa(int(job.Position)) + " of 100"
		for _, page := range []*stream{one, other} {
			for !strings.Contains(page.next(), wanted) {
			}
		}
	}
}

// counter counts what was read.
type counter struct {
	from  io.Reader
	bytes int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes += n
	return n, err
}

func TestLivePagesAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, "", Reading{Jobs: []Job{running(jobA)}})
	var pages []*stream
	for range maxLive {
		page := s.live()
		page.next()
		pages = append(pages, page)
	}
	for range 3 {
		response := s.openLive()
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Fatalf("one too many: %s", response.Status)
		}
		response.Body.Close()
	}
	if response, _ := s.ask("GET", "/", ""); response.StatusCode != http.StatusOK {
		t.Errorf("the page itself: %s", response.Status)
	}
	if err := pages[0].body.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		response := s.openLive()
		if response.StatusCode == http.StatusOK {
			return
		}
		response.Body.Close()
	}
}

// A page that does not read is let go, and costs one update of memory until then.
func TestASlowLivePageIsLetGo(t *testing.T) {
	t.Parallel()
	s := serve(t, "", thousandJobs())
	s.page.live.mu.Lock()
	s.page.live.writeTimeout = 100 * time.Millisecond
	s.page.live.mu.Unlock()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /status/live HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(s.url, "http://")); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.log.Wait(logevent.StatusViewerGone)
	}()
	for n := 0; ; n++ {
		select {
		case <-gone:
			return
		case <-time.After(time.Millisecond):
			s.page.live.publish(false, []byte(strings.Repeat(fmt.Sprint("state ", n, " "), 20_000)))
		}
	}
}

// A page that has not taken the last update gets the newest one in its place.
func TestUpdatesThatWaitAreReplaced(t *testing.T) {
	t.Parallel()
	l := newLive()
	c := l.join(kind{})
	for _, state := range []string{"one", "two", "two", "three"} {
		l.publish(false, []byte(state))
	}
	l.publish(true, []byte("for others"))
	if got := string(<-c.updates); got != "data: three\n\n" {
		t.Errorf("got %q", got)
	}
	l.publish(false, []byte("three")) // nothing new
	select {
	case got := <-c.updates:
		t.Errorf("got %q", got)
	default:
	}
	l.close()
	if _, open := <-c.updates; open || l.join(kind{}) != nil {
		t.Error("it goes on after the end")
	}
	l.close()
}

// However many look and however long a reading takes, reading stays a share of
// one processor's time.
func TestReadingIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		watched   bool
		takes     time.Duration
		least, at int
	}{
		{"nobody looks", false, 0, 30, 31},
		{"somebody looks", true, 0, 300, 301},
		{"a slow reading", true, 2 * time.Second, 30, 31},
		{"a slow reading for nobody", false, 2 * time.Second, 7, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				page, source := New(Options{}), &scripted{takes: c.takes}
				if c.watched {
					for range 5 {
						page.live.join(kind{})
					}
				}
				ctx, stop := context.WithTimeout(t.Context(), 300*time.Second)
				defer stop()
				if err := page.Follow(ctx, source); err != nil {
					t.Fatal(err)
				}
				if source.reads < c.least || source.reads > c.at {
					t.Errorf("%d readings in five minutes, want %d to %d", source.reads, c.least, c.at)
				}
				if n := page.now.view.Chart; n.Line == "" {
					t.Error("no chart")
				}
			})
		})
	}
}
