package pleo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// Trap 40: 429 and 503 are waited out inside the job's own time. The waits grow
// from half a second to thirty, and do not end after the library's quarter of an
// hour.
func TestWaitsGrowAndDoNotEnd(t *testing.T) {
	const refusals = 60
	var tries []time.Time
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
		tries = append(tries, time.Now())
		if len(tries) <= refusals {
			answer(w, []int{429, 500, 502, 503, 504, 408}[len(tries)%6], `{"type":"BUSY"}`)
			return
		}
		answer(w, 200, jobJSON(""))
	}, func(t *testing.T, u upstream) {
		if _, err := u.Job(t.Context(), jobID); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(tries); i++ {
			within(t, "wait "+strconv.Itoa(i), tries[i].Sub(tries[i-1]), MinRetryWait, MaxRetryWait)
		}
		within(t, "first wait", tries[1].Sub(tries[0]), MinRetryWait, time.Second)
		within(t, "tenth wait", tries[10].Sub(tries[9]), 20*time.Second, MaxRetryWait)
		if total := tries[refusals].Sub(tries[0]); total < 16*time.Minute {
			t.Errorf("all tries took %s: the library's own limit of 15 minutes was not tested", total)
		}
		if tries[11].Sub(tries[10]) == tries[12].Sub(tries[11]) {
			t.Error("two waits are equal: no jitter")
		}
		events := u.logs.events(t, logevent.PleoRequestRetried)
		if len(events) != refusals {
			t.Fatalf("%d retries logged, want %d", len(events), refusals)
		}
		first := events[0]
		for field, want := range map[string]any{
			"level": "warn", "operation": "get_job", "job_id": jobID, "attempt": 1.0, "status": 500.0, "request_id": "req-1",
		} {
			if first[field] != want {
				t.Errorf("log field %s is %v, want %v", field, first[field], want)
			}
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header    func() string
		low, high time.Duration
	}{
		"seconds":           {func() string { return "90" }, 90 * time.Second, 99 * time.Second},
		"date":              {func() string { return time.Now().Add(2 * time.Minute).UTC().Format(http.TimeFormat) }, 119 * time.Second, 133 * time.Second},
		"zero":              {func() string { return "0" }, MinRetryWait, time.Second},
		"date in the past":  {func() string { return "Tue, 02 Jan 1996 15:04:05 GMT" }, MinRetryWait, time.Second},
		"nonsense":          {func() string { return "soon" }, MinRetryWait, time.Second},
		"a day is cut":      {func() string { return "86400" }, MaxRetryAfter, MaxRetryAfter * 11 / 10},
		"overflow is cut":   {func() string { return "99999999999999999999" }, MaxRetryAfter, MaxRetryAfter * 11 / 10},
		"a far date is cut": {func() string { return "Mon, 02 Jan 2096 15:04:05 GMT" }, MaxRetryAfter, MaxRetryAfter * 11 / 10},
	} {
		t.Run(name, func(t *testing.T) {
			var tries []time.Time
			onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
				if tries = append(tries, time.Now()); len(tries) == 1 {
					w.Header().Set("Retry-After", c.header())
					answer(w, 429, "")
					return
				}
				answer(w, 200, jobJSON(""))
			}, func(t *testing.T, u upstream) {
				if _, err := u.Job(t.Context(), jobID); err != nil {
					t.Fatal(err)
				}
				within(t, "wait", tries[1].Sub(tries[0]), c.low, c.high)
			})
		})
	}
}

// A Retry-After date is read by the clock that wrote it.
func TestRetryAfterDateIsComparedWithTheAnswersDate(t *testing.T) {
	t.Parallel()
	sent := time.Date(2026, 4, 22, 10, 0, 0, 0, time.UTC)
	h := http.Header{}
	h.Set("Date", sent.Format(http.TimeFormat))
	h.Set("Retry-After", sent.Add(7*time.Second).Format(http.TimeFormat))
	if got := retryAfter(h, sent.Add(-time.Hour)); got != 7*time.Second {
		t.Errorf("an hour's difference of the clocks gives %s, want 7s", got)
	}
	h.Del("Date")
	if got := retryAfter(h, sent.Add(3*time.Second)); got != 4*time.Second {
		t.Errorf("without Date: %s, want 4s", got)
	}
}

// What can pass is asked again: each row answers wrongly once.
func TestPassingTroubleIsTriedAgain(t *testing.T) {
	t.Parallel()
	good := jobJSON("")
	for name, c := range map[string]struct {
		first http.HandlerFunc
		code  string
	}{
		"no answer in time": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, CodeTimeout},
		"slow body": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, good[:20])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, CodeTimeout},
		"reset before the answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, CodeConnection},
		"reset within the body": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, good[:20])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, CodeConnection},
		"cut JSON":     {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, good[:len(good)/2]) }, CodeInvalid},
		"empty body":   {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "") }, CodeInvalid},
		"a login page": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "<html>") }, CodeInvalid},
		"not HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0 "+token+"\r\n\r\n")
				_ = conn.Close()
			}
		}, CodeConnection},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			onFakeClock(t, func(w http.ResponseWriter, r *http.Request) {
				if tries.Add(1) == 1 {
					c.first(w, r)
					return
				}
				answer(w, 200, good)
			}, func(t *testing.T, u upstream) {
				job, err := u.Job(t.Context(), jobID)
				if err != nil || job.ID != jobID {
					t.Fatalf("job %q, %v", job.ID, err)
				}
				if got, want := u.calls.codes(), c.code+" 200"; got != want {
					t.Errorf("calls %q, want %q", got, want)
				}
				if len(u.logs.events(t, logevent.PleoRequestRetried)) != 1 {
					t.Errorf("retry not logged once:\n%s", u.logs)
				}
				if strings.Contains(u.logs.String(), token) {
					t.Errorf("secret in the log:\n%s", u.logs)
				}
			})
		})
	}
}

func TestOtherRefusalsComeBackAtOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 302, 307, 400, 402, 403, 404, 409, 410, 413, 418, 422} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				tries.Add(1)
				w.Header().Set("Location", "http://user:"+token+"@elsewhere.example/")
				if status == 204 {
					w.WriteHeader(status)
					return
				}
				answer(w, status, `{"type":"export_not_found","message":"Export job not found."}`)
			})
			_, err := u.Job(t.Context(), jobID)
			refusal, ok := errors.AsType[*APIError](err)
			if !ok || refusal.Status != status || refusal.Operation != OpGetJob || refusal.Attempt != 1 {
				t.Fatalf("error %#v", err)
			}
			// Trap 29: the type comes in upper and in lower case.
			if status != 204 && (!refusal.HasType(TypeExportNotFound) || refusal.RequestID != "req-1" || refusal.Message != "Export job not found.") {
				t.Errorf("refusal %#v", refusal)
			}
			if tries.Load() != 1 || IsPageFault(err) {
				t.Errorf("%d tries, page fault %t", tries.Load(), IsPageFault(err))
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("secret in %q", err)
			}
		})
	}
}

func TestErrorBodiesMayBeAnything(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, want string }{
		"not JSON":            {"<h1>Forbidden</h1>", "pleo answered 403"},
		"wrong shape":         {`{"type":5}`, "pleo answered 403"},
		"longer than is read": {`{"type":"T","message":"` + strings.Repeat("x", MaxErrorBytes) + `"}`, "pleo answered 403"},
		"long":                {`{"type":"T","message":"` + strings.Repeat("é", MaxMessageBytes) + `"}`, "pleo answered 403 T: " + strings.Repeat("é", MaxMessageBytes/2) + "…"},
		"control characters":  {`{"type":"T","message":"a\u001b[31m\nb"}`, "pleo answered 403 T: a [31m b"},
		"echoed secret":       {`{"type":"T","message":"Bearer ` + token + ` lacks scope"}`, "pleo answered 403 T: Bearer [redacted] lacks scope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(403)
				_, _ = io.WriteString(w, c.body)
			})
			_, err := u.Job(t.Context(), jobID)
			if want := "read job " + jobID + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestEndOfContextTellsTheLastTrouble(t *testing.T) {
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 503, `{"type":"MAINTENANCE","message":"back soon"}`)
	}, func(t *testing.T, u upstream) {
		expired := errors.New("job expired at Pleo")
		began := time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, expired)
		defer cancel()
		_, err := u.Job(ctx, jobID)
		if !errors.Is(err, expired) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error wraps neither cause nor deadline: %v", err)
		}
		if refusal, ok := errors.AsType[*APIError](err); !ok || refusal.Status != 503 {
			t.Errorf("error does not wrap the last trouble: %v", err)
		}
		for _, part := range []string{"read job " + jobID, "job expired at Pleo", "503 MAINTENANCE: back soon", "request-Id req-1"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in %q", part, err)
			}
		}
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("ended after %s, want the whole 10 minutes", took)
		}
	})
}

// A time-out of ours must not pass for the job's deadline when the process is
// shut down meanwhile.
func TestCancelIsNotADeadline(t *testing.T) {
	onFakeClock(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(t *testing.T, u upstream) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Minute, cancel)
		_, err := u.Job(ctx, jobID)
		if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if !strings.Contains(err.Error(), "no whole answer within 30s") {
			t.Errorf("last trouble is not told: %v", err)
		}
	})
}

func TestDoneContextSendsNothing(t *testing.T) {
	t.Parallel()
	u := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("request was sent") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.Job(ctx, jobID); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Trap 40: our own request rate is capped, with a burst of one second's worth.
func TestRateLimit(t *testing.T) {
	onFakeClock(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, jobJSON("")) }, func(t *testing.T, u upstream) {
		began := time.Now()
		var all sync.WaitGroup
		for range 35 {
			all.Go(func() {
				if _, err := u.Job(t.Context(), jobID); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		within(t, "35 requests at 10 a second", time.Since(began), 2490*time.Millisecond, 2510*time.Millisecond)

		// The wait for a token ends with the context, and not before.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began = time.Now()
		_, err := u.Job(ctx, jobID)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 50*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}

		// The token that was not waited for is there for the next request.
		began = time.Now()
		if _, err := u.Job(t.Context(), jobID); err != nil {
			t.Error(err)
		}
		within(t, "the next token", time.Since(began), 45*time.Millisecond, 55*time.Millisecond)
	}, func(cfg *Config) { cfg.Rate = 10 })
}

// deadOnReuse is a kept-alive connection that the peer has dropped: from the
// second request on, nothing can be written.
type deadOnReuse struct {
	net.Conn
	requests int
}

func (c *deadOnReuse) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("POST ")) || bytes.HasPrefix(p, []byte("PUT ")) {
		if c.requests++; c.requests > 1 {
			return 0, io.ErrClosedPipe
		}
	}
	return c.Conn.Write(p)
}

// The transport repeats no POST and no PUT by itself: each transmission is a try
// that Observe saw. (Fails when newRequest leaves GetBody set.)
func TestTransportRepeatsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{dialed: func(c net.Conn) net.Conn { return &deadOnReuse{Conn: c} }}
		u, stop := bubbleUpstream(t, p, func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength <= 0 {
				t.Errorf("%s came without a length", r.Method)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Method == http.MethodPost {
				w.WriteHeader(202)
				return
			}
			answer(w, 200, `{"data":[],"errors":[]}`)
		})
		defer stop()
		for range 2 {
			if err := u.PostJobEvent(t.Context(), JobEvent{JobID: jobID, Event: EventStarted}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if _, err := u.UpdateJobItems(t.Context(), jobID, []ItemUpdate{{AccountingEntryID: entryA, Status: ItemSuccessful}}); err != nil {
				t.Fatal(err)
			}
		}
		want := "202 connection 202 connection 200 connection 200"
		if got := u.calls.codes(); got != want {
			t.Errorf("tries seen: %s, want %s", got, want)
		}
	})
}

// Redirects are not followed: the credential stays with the host it is for.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("redirect was followed") })
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.base.String(), http.StatusTemporaryRedirect)
	})
	_, err := u.Job(t.Context(), jobID)
	if err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Error(err)
	}
}
