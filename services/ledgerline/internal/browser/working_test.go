//go:build !race

package browser

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/logtest"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// bench is an installation at work: `ledgerline up` on a simulated Pleo, with a
// sink that books an item at each tick.
type bench struct {
	url      string
	upstream *simulator.Simulator
	log      *logtest.Recorder
	booked   atomic.Int64
	pace     *time.Ticker
	// broken makes Pleo refuse what is asked about this job's items.
	broken atomic.Pointer[uuid.UUID]
}

const (
	// slow is the pace at which a job outlasts whatever a test does meanwhile, on
	// however busy a machine.
	slow = 40 * time.Millisecond
	// fast is the pace at which it is over soon.
	fast = 500 * time.Microsecond
	// many items at the slow pace are minutes.
	many = 6_000
)

func work(t *testing.T, jobs, items int, status config.Status) *bench {
	t.Helper()
	b := &bench{log: logtest.New(t)}
	sim, err := simulator.New(simulator.Config{Seed: 7, Jobs: jobs, ItemsPerJob: items})
	if err != nil {
		t.Fatal(err)
	}
	b.upstream = sim
	pleo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if job := b.broken.Load(); job != nil && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, job.String()+"/items") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"type": "FORBIDDEN", "message": "the <b>export</b> is not allowed"})
			return
		}
		sim.Handler().ServeHTTP(w, r)
	}))
	b.pace = time.NewTicker(slow)
	books := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			select {
			case <-b.pace.C:
				b.booked.Add(1)
			case <-r.Context().Done():
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	ctx, stop := context.WithCancel(context.Background())
	listening, done, dir := make(chan string, 1), make(chan error, 1), t.TempDir()
	go func() {
		done <- installation.Run(ctx, installation.Settings{
			Name:     "ledgerline up",
			Embedded: config.Embedded{DataDir: dir},
			Streams:  config.Streams{Replicas: 1, Lease: 4 * time.Second},
			HTTP:     config.HTTP{Listen: "127.0.0.1:0"},
			Pleo:     config.Pleo{URL: pleo.URL, Token: config.NewSecret(simulator.DefaultToken), Timeout: 10 * time.Second, PageSize: 100},
			Fetcher:  config.Fetcher{Order: config.OrderDate},
			Sink:     config.Sink{Spec: books.URL, Timeout: 30 * time.Second},
			Consumer: config.Consumer{Payload: config.PayloadFull, OnFailure: config.OnFailureContinue, Report: true, ConcurrentJobs: 8},
			Gateway:  config.Gateway{PollInterval: 2 * time.Second},
			Status:   status,
		}, b.log.Logger().Level(zerolog.InfoLevel), installation.Started{HTTP: func(addr string) { listening <- addr }})
	}()
	t.Cleanup(sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		b.pace.Stop()
		books.Close()
		pleo.Close()
		sim.Close()
		if t.Failed() {
			t.Log(b.log.Text())
		}
	}))
	select {
	case addr := <-listening:
		b.url = "http://" + addr
	case err := <-done:
		t.Fatal("the installation did not start:", err)
	}
	return b
}

// row is the selector of a job's row.
func row(job uuid.UUID) string { return "#job-" + job.String() }

// label is what a job's row says of its state, as an expression of the page.
func label(selector string) string {
	return `(document.querySelector("` + selector + ` .pill")?.innerText ?? "")`
}

// While a job runs its bar moves on the open page, which is never loaded anew, and
// whoever stands on a button goes on standing there.
func TestThePageIsLive(t *testing.T) {
	t.Parallel()
	b := work(t, 1, many, config.Status{Token: config.NewSecret(token)})
	job := b.upstream.Snapshot().Jobs[0].ID
	p := open(t, b.url, desk)
	p.signIn()
	p.do("mark the page", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[int]("window.mark = 1"))
		return err
	}))
	bar := `(document.querySelector("` + row(job) + ` progress")?.value ?? 0)`
	p.until("the job runs", bar+" > 0")
	ask[bool](p, `document.querySelector("`+row(job)+` .acts button").focus() === undefined`)
	first := ask[float64](p, bar)
	p.until("the bar moves", bar+" > "+json64(first))
	second := ask[float64](p, bar)
	p.until("the bar moves on", bar+" > "+json64(second))
	if !ask[bool](p, "window.mark === 1") {
		t.Error("the page was loaded anew")
	}
	if at := ask[string](p, `document.activeElement.getAttribute("aria-label") ?? ""`); at != "Pause job "+job.String() {
		t.Errorf("who stood on the button stands on %q now", at)
	}
	p.until("it says so", `document.getElementById("headline").innerText === "Jobs flow" && document.title === "Jobs flow · Ledgerline"`)
	p.until("its pace shows", `/\/s, .* left/.test(document.querySelector("`+row(job)+` .pace")?.innerText ?? "")`)
}

func json64(v float64) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// Every button is carried out by the worker that has the job.
func TestTheButtonsWork(t *testing.T) {
	t.Parallel()
	b := work(t, 2, many, config.Status{Token: config.NewSecret(token)})
	jobs := b.upstream.Snapshot().Jobs
	broken, good := jobs[0].ID, jobs[1].ID
	b.broken.Store(&broken)
	p := open(t, b.url, phone)
	p.signIn()

	p.until("the job runs", label(row(good))+` === "Running"`)
	p.do("pause", chromedp.Click(row(good)+` form[action$="/pause"] button`))
	p.until("it is paused", label(row(good))+` === "Paused"`)
	p.until("it says so", `document.getElementById("said").innerText.includes("`+good.String()+`")`)
	// The other job is parked by now, so nothing is booked any more.
	p.until("the other one is parked", label("#parked-"+broken.String())+` === "Parked"`)
	before := b.booked.Load()
	p.until("resume is offered", `!!document.querySelector('`+row(good)+` form[action$="/resume"]')`)
	if now := b.booked.Load(); now != before {
		t.Errorf("%d items were booked while paused", now-before)
	}

	p.do("resume", chromedp.Click(row(good)+` form[action$="/resume"] button`))
	p.until("it runs again", label(row(good))+` === "Running"`)

	p.do("cancel", chromedp.Click(row(good)+` a[href$="/cancel"]`), chromedp.Click(`form[action$="/cancel"] button`), chromedp.WaitVisible("#said"))
	p.until("it is cancelled", label(row(good))+` === "Cancelled"`)
	if job, err := b.upstream.Job(good); err != nil || job.Status != "failed" {
		t.Errorf("at Pleo the job is %s, %v", job.Status, err)
	}

	reason := ask[string](p, `document.querySelector("#parked-`+broken.String()+` .reason").innerText`)
	if !strings.Contains(reason, "the <b>export</b> is not allowed") {
		t.Errorf("the reason is %q", reason)
	}
	b.broken.Store(nil)
	p.do("retry", chromedp.Click("#parked-"+broken.String()+` form[action$="/retry"] button`))
	p.until("it runs", label(row(broken))+` === "Running"`)
	p.until("it is parked no more", `!document.querySelector("#parked-`+broken.String()+`")`)
	b.pace.Reset(fast)
	p.until("it is done", label(row(broken))+` === "Completed"`)
	if job, err := b.upstream.Job(broken); err != nil || job.Status != "completed" {
		t.Errorf("at Pleo the job is %s, %v", job.Status, err)
	}
}

func TestWithoutATokenThereIsNothingToPress(t *testing.T) {
	t.Parallel()
	b := work(t, 1, many, config.Status{})
	job := b.upstream.Snapshot().Jobs[0].ID
	p := open(t, b.url, phone)
	p.until("the job runs", label(row(job))+` === "Running"`)
	if left := ask[int](p, `document.querySelectorAll("button, form, .acts").length`); left != 0 {
		t.Errorf("%d things can be pressed", left)
	}
	for _, action := range []string{"pause", "resume", "cancel", "retry"} {
		if status := ask[int](p, `fetch("/status/jobs/`+job.String()+`/`+action+`", { method: "POST" }).then((a) => a.status)`); status != http.StatusForbidden {
			t.Errorf("%s is answered %d", action, status)
		}
	}
	b.pace.Reset(fast)
	p.until("the job ends as ever", label(row(job))+` === "Completed"`)
}
