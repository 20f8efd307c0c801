package sinktest

import (
	"context"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/sink"
)

// testTimeout is the sinks' time limit: some tests let it pass.
const testTimeout = 2 * time.Second

// asked is what a test asks of the suite besides the sink.
type asked struct{ count, restart bool }

func overHTTP(t *testing.T, b *box, a asked) *Report {
	t.Helper()
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Name: server.URL, Company: TestCompany, Timeout: testTimeout, RetryWait: 10 * time.Millisecond,
		Open: func() (sink.Sink, error) {
			return sink.Open(server.URL, sink.Options{Timeout: testTimeout, MaxConcurrent: jobsTogether})
		},
		Raw: &RawHTTP{URL: address, Timeout: testTimeout},
	}
	if a.count {
		o.Count = func(_ context.Context, key string) (int, error) { return b.count(key), nil }
	}
	if a.restart {
		o.Restart = func(context.Context) error { b.restart(); return nil }
	}
	return run(t, o)
}

func run(t *testing.T, o Options) *Report {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAGoodSinkPassesEveryCheck(t *testing.T) {
	t.Parallel()
	report := overHTTP(t, newBox(habits{}), asked{count: true, restart: true})
	for _, c := range report.Checks {
		if c.Result != Pass {
			t.Errorf("%s: %s: %s", c.Name, c.Result, c.Found)
		}
	}
	if !report.OK || report.Passed != len(checks) {
		t.Errorf("%+v", report)
	}
}

// Each bad habit shows in the checks named, and in no other.
func TestEachBadHabitIsFound(t *testing.T) {
	t.Parallel()
	plain, books, again := asked{}, asked{count: true}, asked{restart: true}
	for name, c := range map[string]struct {
		habits habits
		asked  asked
		want   map[string]Result
	}{
		"HEAD is refused": {habits{headRefused: true}, plain, map[string]Result{"ready": Fail}},
		"forgets keys": {habits{forgetsKeys: true}, plain, map[string]Result{
			"twice": Fail, "at-once": Fail, "late": Fail, "later-job": Fail, "dropped": Fail,
		}},
		"recognises an entry in its own job only": {habits{keyWithJob: true}, plain, map[string]Result{"later-job": Fail}},
		"no fence":                                         {habits{noFence: true}, plain, map[string]Result{"stale-epoch": Warning}},
		"one fence for all jobs":                           {habits{oneFence: true}, plain, map[string]Result{"live-epoch": Fail}},
		"remembers a stale epoch with the key":             {habits{keepsStale: true}, plain, map[string]Result{"live-epoch": Fail}},
		"books half a body":                                {habits{booksHalf: true}, plain, map[string]Result{"cut-off": Fail}},
		"books half a body, seen in the books":             {habits{booksHalf: true}, books, map[string]Result{"cut-off": Fail}},
		"remembers failures":                               {habits{keepsFailures: true}, plain, map[string]Result{"failed-again": Fail}},
		"crashes on nonsense":                              {habits{crashesOnBad: true}, plain, map[string]Result{"nonsense": Fail}},
		"books anything":                                   {habits{booksAnything: true}, plain, map[string]Result{"nonsense": Warning}},
		"crashes on a null item":                           {habits{crashesOnNull: true}, plain, map[string]Result{"null-item": Fail}},
		"needs a date":                                     {habits{needsDate: true}, plain, map[string]Result{"null-date": Warning}},
		"refuses unknown fields":                           {habits{strict: true}, plain, map[string]Result{"unknown-fields": Fail}},
		"reads one script":                                 {habits{latinOnly: true}, plain, map[string]Result{"unicode": Fail}},
		"reads floats":                                     {habits{floats: true}, plain, map[string]Result{"numbers": Fail}},
		"one externalId for all":                           {habits{sameID: true}, plain, map[string]Result{"jobs-at-once": Fail}},
		"forgets a key whose client has gone":              {habits{forgetsDropped: true}, books, map[string]Result{"dropped": Fail}},
		"forgets its bookings at a restart":                {habits{forgetsAtRestart: true}, again, map[string]Result{"restart": Fail}},
		"forgets its epochs at a restart":                  {habits{forgetsEpochs: true}, again, map[string]Result{"restart": Warning}},
		"answers in more than half of the time":            {habits{slowOnce: testTimeout * 6 / 10}, plain, map[string]Result{"in-time": Warning}},
		"works on one item at a time and refuses the rest": {habits{oneAtATime: true}, plain, map[string]Result{"jobs-at-once": Warning}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := overHTTP(t, newBox(c.habits), c.asked)
			got := results(t, report)
			want := map[string]Result{}
			if c.habits.booksAnything || c.habits.crashesOnBad {
				want["failed-again"] = Skipped
			}
			if !c.asked.restart {
				want["restart"] = Skipped
			}
			maps.Copy(want, c.want)
			for _, check := range report.Checks {
				expected := Pass
				if r, named := want[check.Name]; named {
					expected = r
				}
				if got[check.Name] != expected {
					t.Errorf("%s: %s, %s expected: %s", check.Name, check.Result, expected, check.Found)
				}
			}
			if fails := report.Failed > 0; report.OK == fails {
				t.Errorf("ok is %t with %d failed checks", report.OK, report.Failed)
			}
		})
	}
}

// Two bad habits that break more than one thing.
func TestRacesAndEarlyKeysAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		habits habits
		failed string
	}{
		"look-up and booking in two steps": {habits{racy: true}, "at-once"},
		"key noted before the body":        {habits{keyBeforeBody: true}, "cut-off"},
		"answers too late":                 {habits{slow: testTimeout + 100*time.Millisecond}, "new-item"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := overHTTP(t, newBox(c.habits), asked{})
			if got := results(t, report)[c.failed]; got != Fail || report.OK {
				t.Errorf("%s: %s", c.failed, got)
			}
		})
	}
}

// Without an externalId the answers tell nothing; the books do.
func TestWithoutExternalIDsTheBooksDecide(t *testing.T) {
	t.Parallel()
	b := newBox(habits{noID: true})
	if got := results(t, overHTTP(t, b, asked{})); got["new-item"] != Warning || got["twice"] != Warning {
		t.Errorf("got %v", got)
	}
	if got := results(t, overHTTP(t, b, asked{count: true})); got["new-item"] != Warning || got["twice"] != Pass {
		t.Errorf("got %v", got)
	}
	double := newBox(habits{noID: true, forgetsKeys: true})
	if got := results(t, overHTTP(t, double, asked{count: true})); got["twice"] != Fail {
		t.Errorf("got %v", got)
	}
}

// A sink that is not there fails two checks and is asked nothing else.
func TestAnAbsentSink(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newBox(habits{}))
	server.Close()
	report := run(t, Options{
		Name: server.URL, Company: TestCompany, Timeout: testTimeout, RetryWait: time.Millisecond,
		Open: func() (sink.Sink, error) { return sink.Open(server.URL, sink.Options{Timeout: testTimeout}) },
	})
	if report.OK || report.Failed != 2 || report.Skipped != len(checks)-2 {
		t.Errorf("%+v", report)
	}
}

func TestAGoodSinkOverExec(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := fmt.Sprintf("exec:%s='%s' exec '%s'", childFile, filepath.Join(t.TempDir(), "box"), self)
	wantGood(t, Options{
		Name: "exec:", Company: TestCompany, Timeout: 10 * time.Second, RetryWait: 10 * time.Millisecond, Reopen: true,
		Open: func() (sink.Sink, error) {
			return sink.Open(command, sink.Options{Timeout: 10 * time.Second, MaxConcurrent: jobsTogether})
		},
	}, "cut-off")
}

func TestAGoodSinkOverNATS(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	b := newBox(habits{})
	responder := connectTo(t, server.URL())
	if _, err := responder.QueueSubscribe("erp.book", "sinks", func(m *nats.Msg) { _ = m.Respond(b.line(m.Data)) }); err != nil {
		t.Fatal(err)
	}
	if err := responder.Flush(); err != nil {
		t.Fatal(err)
	}
	conn := connectTo(t, server.URL())
	wantGood(t, Options{
		Name: "nats:erp.book", Company: TestCompany, Timeout: 10 * time.Second, RetryWait: 10 * time.Millisecond,
		Open: func() (sink.Sink, error) {
			return sink.Open("nats:erp.book", sink.Options{Timeout: 10 * time.Second, NATS: conn, MaxConcurrent: jobsTogether})
		},
	}, "cut-off", "restart")
}

func connectTo(t *testing.T, url string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// wantGood wants every check passed but those that cannot be made.
func wantGood(t *testing.T, o Options, unasked ...string) {
	t.Helper()
	want := map[string]Result{}
	for _, name := range unasked {
		want[name] = Skipped
	}
	for _, c := range run(t, o).Checks {
		expected := Pass
		if r, named := want[c.Name]; named {
			expected = r
		}
		if c.Result != expected {
			t.Errorf("%s: %s: %s", c.Name, c.Result, c.Found)
		}
	}
}
