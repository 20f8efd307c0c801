package statuspage

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html/atom"

	parser "golang.org/x/net/html"
)

// What others wrote is text, wherever it stands.
func TestHostileTextStaysText(t *testing.T) {
	t.Parallel()
	const hostile = "</p></li>'\"><script>alert(1)</script><img src=x onerror=alert(2)> javascript:alert(3) {{.}} \r\r\n\ndata: <b>x</b>\u202e"
	job := running(jobA)
	job.Reason, job.Worker, job.Company, job.State = hostile, hostile, hostile, hostile
	parked := running(jobB)
	parked.State, parked.Reason = stateParked, hostile
	s := serve(t, testToken, Reading{
		Jobs:   []Job{job, parked, {ID: hostile, State: stateSealed, Total: 3, Reason: hostile}},
		Parked: []Parked{{JobID: hostile, Reason: hostile, Event: true}, {JobID: jobB, Reason: hostile}},
	})
	bearer := []string{"Authorization", "Bearer " + testToken}
	stream := s.live(bearer...)
	update := stream.next()
	_, page := s.ask("GET", "/?done="+hostileQuery+"&job="+hostileQuery, "", bearer...)
	_, refused := s.ask("POST", "/status/jobs/"+hostileQuery+"/"+hostileQuery, "", append(bearer, "Accept", html)...)
	for name, text := range map[string]string{"page": page, "update": update, "refusal": refused} {
		checkMarkup(t, name, text)
	}
	if n := strings.Count(update, "alert(1)"); n < 5 {
		t.Errorf("the update shows the text %d times: %s", n, update)
	}
	for _, place := range []string{`<code class="id">` + jobA, "&lt;script&gt;alert(1)"} {
		if !strings.Contains(page, place) {
			t.Errorf("the page has no %s", place)
		}
	}
}

const hostileQuery = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"

// checkMarkup insists that there are only elements and attributes of ours.
func checkMarkup(t *testing.T, name, text string) {
	t.Helper()
	root, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for node := range root.Descendants() {
		if node.Type != parser.ElementNode {
			continue
		}
		switch node.DataAtom {
		case atom.Img, atom.B, atom.Iframe, atom.Style, atom.Object:
			if node.DataAtom != atom.B || node.Parent.DataAtom != atom.Figcaption && node.Parent.DataAtom != atom.Li {
				t.Errorf("%s: an element %s", name, node.Data)
			}
		case atom.Script:
			if node.FirstChild != nil || len(node.Attr) == 0 || !strings.HasPrefix(node.Attr[0].Val, "/status/page.js?v=") {
				t.Errorf("%s: a script of somebody else's", name)
			}
		}
		for _, a := range node.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("%s: %s has %s=%q", name, node.Data, a.Key, a.Val)
			}
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, Reading{})
	for _, path := range []string{"/", "/status/sign-in", "/status/page.css", "/status/page.js", "/status/icon-bad.svg", "/status/jobs/x/cancel", "/elsewhere"} {
		response, _ := s.ask("GET", path, "")
		for name, value := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
		} {
			if got := response.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	for _, c := range []struct{ method, path string }{{"POST", "/"}, {"PUT", "/status/jobs/" + jobA + "/pause"}, {"DELETE", "/"}, {"POST", "/status/live"}} {
		if response, _ := s.ask(c.method, c.path, "", "Authorization", "Bearer "+testToken); response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %s", c.method, c.path, response.Status)
		}
	}
	response, _ := s.ask("GET", "/status/page.css?v="+assetVersion, "")
	if got := response.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Errorf("the style may be kept %q", got)
	}
	if response, _ := s.ask("GET", "/", ""); response.Header.Get("Cache-Control") != "no-store" {
		t.Error("the page may be kept")
	}
}

// A thousand jobs make a page of two hundred that says how many more there are.
func TestAThousandJobs(t *testing.T) {
	t.Parallel()
	s := serve(t, testToken, thousandJobs())
	_, page := s.ask("GET", "/", "", "Authorization", "Bearer "+testToken)
	if n := strings.Count(page, `<li class="job`); n != maxRows {
		t.Errorf("%d rows, want %d", n, maxRows)
	}
	for _, more := range []string{"and 170 more", "and 160 more", "and 230 more", "and 240 more"} {
		if !strings.Contains(page, more) {
			t.Errorf("the page does not say %q", more)
		}
	}
	if len(page) > 400<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
	// All who ask get one render.
	one, err := s.page.now.render(true)
	if err != nil {
		t.Fatal(err)
	}
	if two, _ := s.page.now.render(true); &one[0] != &two[0] {
		t.Error("it was rendered twice")
	}
}

func thousandJobs() (r Reading) {
	for i, state := range []string{stateParked, stateActive, stateSealed, stateCompleted} {
		for n := range 250 {
			job := running(fmt.Sprintf("00000000-0000-4000-%04d-%012d", i, n))
			job.State = state
			r.Jobs = append(r.Jobs, job)
		}
	}
	return r
}

func BenchmarkAThousandJobs(b *testing.B) {
	reading := thousandJobs()
	m := newMemory()
	for b.Loop() {
		m.take(reading, nil, time.Now())
		s := &shown{view: viewOf(m, time.Now())}
		if _, err := s.render(true); err != nil {
			b.Fatal(err)
		}
	}
}

// The answer to "do jobs flow?" in each state.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	job := func(state string, change ...func(*Job)) Job {
		j := running(jobA)
		j.State = state
		for _, c := range change {
			c(&j)
		}
		return j
	}
	other := func(j *Job) { j.ID = jobB }
	near := func(j *Job) { j.Deadline = time.Now().Add(5 * time.Minute) }
	moved := func(by uint32) func(*Job) { return func(j *Job) { j.Position += by } }
	for _, c := range []struct {
		name          string
		first, second []Job
		parked        []Parked
		err           error
		after         time.Duration
		tone          tone
		headline      string
	}{
		{"nothing", nil, nil, nil, nil, time.Second, toneQuiet, "No jobs yet"},
		{"flowing", []Job{job(stateActive)}, []Job{job(stateActive, moved(5))}, nil, nil, time.Second, toneBusy, "Jobs flow"},
		{"fetching", []Job{job(stateDraining)}, []Job{job(stateDraining)}, nil, nil, time.Second, toneBusy, "Jobs flow"},
		{"still", []Job{job(stateActive)}, []Job{job(stateActive)}, nil, nil, 2 * time.Minute, toneBad, "Nothing has moved for 2 min"},
		{"one still", []Job{job(stateActive), job(stateActive, other)}, []Job{job(stateActive), job(stateActive, other, moved(1))}, nil, nil, 2 * time.Minute, toneBad, "1 job stands still"},
		{"late", []Job{job(stateActive, near)}, []Job{job(stateActive, near, moved(1))}, nil, nil, time.Second, toneWarn, "1 job may miss its deadline"},
		{"slow", []Job{job(stateActive)}, []Job{job(stateActive, moved(1), func(j *Job) { j.Total = 1e9 })}, nil, nil, time.Second, toneWarn, "1 job may miss its deadline"},
		{"parked", nil, []Job{job(stateActive)}, []Parked{{Event: true, Reason: "x"}, {JobID: jobB}}, nil, time.Second, toneBad, "2 things need you"},
		{"parked, and not listed", nil, []Job{job(stateParked)}, nil, nil, time.Second, toneBad, "1 thing needs you"},
		{"paused", nil, []Job{job(statePaused)}, nil, nil, time.Second, toneWarn, "1 job is paused"},
		{"no worker", nil, []Job{job(stateSealed), job(stateSealed, other)}, nil, nil, time.Second, toneWarn, "2 jobs wait for a worker"},
		{"done", nil, []Job{job(stateCompleted)}, nil, nil, time.Second, toneGood, "All done"},
		{"away", []Job{job(stateActive)}, nil, nil, errors.New("no answer"), time.Second, toneBad, "No news since "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, now := newMemory(), time.Now()
			m.take(Reading{Jobs: c.first, Parked: c.parked}, nil, now)
			now = now.Add(c.after)
			m.take(Reading{Jobs: c.second, Parked: c.parked}, c.err, now)
			v := viewOf(m, now)
			if v.Verdict.Tone != c.tone || !strings.HasPrefix(v.Verdict.Headline, c.headline) {
				t.Errorf("%s: %q: %s", v.Verdict.Tone, v.Verdict.Headline, v.Verdict.Text)
			}
		})
	}
	t.Run("not connected", func(t *testing.T) {
		t.Parallel()
		m := newMemory()
		if v := viewOf(m, time.Now()); v.Verdict.Tone != toneQuiet || !strings.Contains(v.Verdict.Text, "NATS_URL") {
			t.Errorf("%+v", v.Verdict)
		}
		m.take(Reading{}, errors.New("no answer"), time.Now())
		if v := viewOf(m, time.Now()); v.Verdict.Tone != toneBad || !strings.Contains(v.Verdict.Text, "no answer") {
			t.Errorf("%+v", v.Verdict)
		}
	})
}
