package gateway

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func FuzzReadRequest(f *testing.F) {
	id := uuid.UUID{1}.String()
	for _, s := range []string{`{"companyId":"` + id + `"}`, `{"jobId":"` + id + `","companyId":"` + id + `"}`, `{}`, `{"jobId":"x"}`, `null`, ``, `{"more":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readRequest(data)
		switch {
		case err != nil && !errors.Is(err, errRequest):
			t.Errorf("an error of no kind: %v", err)
		case err == nil && idOf(r.CompanyID) == uuid.Nil && idOf(r.JobID) == uuid.Nil &&
			r.CompanyID != uuid.Nil.String() && r.JobID != uuid.Nil.String():
			t.Errorf("a request about nothing: %+v", r)
		}
	})
}

// What one gateway has queued, another one, and one of a later version, reads as
// it was.
func FuzzDetection(f *testing.F) {
	for _, s := range []string{`{}`, `{"companyId":"c"}`, `{"ask":{"jobId":"j"},"reply":"_INBOX.a"}`, `{"later":1}`, `[]`, `null`, `{"ask":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d, again detection
		if json.Unmarshal(data, &d) != nil {
			return
		}
		text, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil || again != d {
			t.Errorf("%+v is read again as %+v: %v", d, again, err)
		}
	})
}

func FuzzReadCreated(f *testing.F) {
	job, company := uuid.New(), uuid.New()
	good := `{"data":{"id":"` + job.String() + `","companyId":"` + company.String() + `","status":"pending"},"eventType":"v1.export-job.created","eventId":"` + uuid.NewString() + `"}`
	for _, seed := range []string{
		good, `{"payload":` + good + `}`, `{"payload":[]}`, `{"payload":"text"}`, `{"payload":null,"eventType":"export-job.created"}`,
		`{"eventType":"export.job-created","data":{"companyId":"` + strings.ToUpper(company.String()) + `"}}`,
		`{"eventType":"export-job.created","data":[]}`, `{"eventType":"export-job.created","data":null}`,
		`{"eventType":7}`, `[]`, `""`, `null`, `{`, ``, "\xff", `{"eventType":"\ud800export-job.created","data":{"id":" "}}`,
		strings.Repeat("[", 20_000), good + good, `{"eventType":"export-job.created","data":{"id":"{` + job.String() + `}"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		event, err := readCreated(body)
		switch {
		case err != nil && !errors.Is(err, errBody) && !errors.Is(err, errNotEvent):
			t.Errorf("an error of no kind: %v", err)
		case err == nil && event.job == uuid.Nil && event.company == uuid.Nil:
			t.Error("an event about nothing")
		case err == nil && !ours(event.name) && len(event.name) <= maxLogged:
			t.Errorf("%q is not ours", event.name)
		}
	})
}
