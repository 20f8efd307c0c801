package gateway

import (
	"encoding/json"
	"errors"
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
