package statuspage

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken = "a token that is long enough"
	jobA      = "8eb648ab-464b-42a0-ba17-eda703657e33"
	jobB      = "0b6f5b9e-27a2-4cc4-8b0f-1d1c0a2f7f10"
)

// scripted is a source that says what a test wants.
type scripted struct {
	mu      sync.Mutex
	reading Reading
	err     error
	reads   int
	takes   time.Duration
	steered []string
	refusal error
}

func (s *scripted) Read(ctx context.Context) (Reading, error) {
	s.mu.Lock()
	s.reads++
	reading, err, takes := s.reading, s.err, s.takes
	s.mu.Unlock()
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return Reading{}, ctx.Err()
		case <-timer.C:
		}
	}
	return reading, err
}

func (s *scripted) Steer(_ context.Context, job uuid.UUID, action Action) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steered = append(s.steered, string(action)+" "+job.String())
	return "Job " + job.String() + ": done.", s.refusal
}

func (s *scripted) say(r Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = r
}

func (s *scripted) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steered
}

// site is a page that follows a script.
type site struct {
	t      *testing.T
	page   *Page
	source *scripted
	url    string
	log    *logtest.Recorder
	client *http.Client
}

func serve(t *testing.T, token string, r Reading) *site {
	t.Helper()
	s := &site{t: t, source: &scripted{reading: r}, log: logtest.New(t)}
	o := Options{Program: "ledgerline test", Version: "v0", Logger: s.log.Logger()}
	if token != "" {
		o.Token = func() (string, error) { return token, nil }
	}
	s.page = New(o)
	server := httptest.NewServer(s.page)
	s.url = server.URL
	s.client = &http.Client{
		Transport:     server.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	first := s.page.now.replaced
	go func() { done <- s.page.Follow(ctx, s.source) }()
	<-first
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return s
}

// ask sends a request with headers, given as pairs.
func (s *site) ask(method, path, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(content)
}

// session signs in and returns the cookie.
func (s *site) session() string {
	s.t.Helper()
	response, _ := s.ask("POST", "/status/sign-in", "token="+strings.ReplaceAll(testToken, " ", "+"), "Origin", s.url)
	if response.StatusCode != http.StatusSeeOther || len(response.Cookies()) != 1 {
		s.t.Fatalf("signing in: %s, cookies %v", response.Status, response.Cookies())
	}
	c := response.Cookies()[0]
	return c.Name + "=" + c.Value
}

func running(job string) Job {
	return Job{
		ID: job, Company: "5d0e1d3c-5a0c-4a9a-8f15-9d0d6a0d9a11", State: stateActive, Position: 40, Total: 100, Epoch: 1, Worker: "consumer@here-1",
		Created: time.Now().Add(-time.Hour), Deadline: time.Now().Add(30 * time.Hour),
	}
}
