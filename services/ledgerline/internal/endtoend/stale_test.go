package endtoend

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/ledgerline/ledgerline/services/simulator"
)

// staleReads shows the job as it was before its end, a few times.
type staleReads struct {
	expires func(*http.Request) bool // the job expires right before such a request
	expire  func()
	path    string

	mu     sync.Mutex
	ended  bool
	before *httptest.ResponseRecorder // the last reading of the living job
	left   int                        // stale readings to come
}

func (s *staleReads) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expires(r) && !s.ended {
		s.ended = true
		s.expire()
	}
	if r.Method != http.MethodGet || !strings.EqualFold(r.URL.Path, s.path) {
		next.ServeHTTP(w, r)
		return
	}
	answer := recorded(next, r)
	switch {
	case !s.ended:
		s.before = answer
	case s.left > 0:
		s.left--
		answer = s.before
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	if _, err := w.Write(answer.Body.Bytes()); err != nil {
		return // the asker has gone
	}
}

// Pleo refuses a call because the job has expired, and the next readings still show
// it in progress: the reason says why all the same. Traps 4 and 5.
func TestAStaleReadingDoesNotHideWhyPleoRefuses(t *testing.T) {
	t.Parallel()
	for name, expires := range map[string]func(*http.Request) bool{
		"the drain": readsPayload, // ordered by date, the fetcher reads it
		"a report":  reportsItems,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, simulator.Config{Seed: 191})
			job := in.add(simulator.JobSpec{Entries: entries(4)})
			stale := &staleReads{
				expires: expires, path: "/v3/export-jobs/" + job.String(), left: 3,
				expire: func() {
					if err := in.upstream.Expire(job); err != nil {
						t.Error(err)
					}
				},
			}
			in.intercept(stale.serve)
			in.fetcher()
			in.consumer(&book{}, payloadNone)
			in.publish(job)
			in.parks(job, "job_expired")
			stale.mu.Lock()
			defer stale.mu.Unlock()
			if stale.left != 0 {
				t.Errorf("%d stale readings were not made", stale.left)
			}
			if at := in.job(job); at.Status != simulator.JobFailed {
				t.Errorf("at Pleo the job is %s", at.Status)
			}
		})
	}
}
