package fetcher

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/parked"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// Whatever an event holds, it is a job or it is parked as an event, with a reason;
// it is never handed back to come again for ever.
func FuzzReadEvent(f *testing.F) {
	const id = "0b9d2b7e-6a3c-4c1c-9d3e-0a3d7a4f5b6c"
	for _, seed := range []string{
		`{"jobId":"` + id + `","companyId":"` + id + `"}`, `{"jobId":"` + strings.ToUpper(id) + `"}`,
		`{"jobId":7}`, `{"jobId":"` + id + `"}{}`, `[]`, `null`, "", "\xff", `{"JOBID":"` + id + `"}`,
		`{"jobId":"` + id + `","companyId":"x"}`,
	} {
		f.Add("application/json", []byte(seed))
	}
	wire, err := proto.Marshal(&ledgerlinev1.JobStarted{JobId: id, CompanyId: id})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(subject.ContentTypeProtobuf, wire)
	f.Add("Application/X-Protobuf; a=b", wire[:7])
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		job, _, err := readEvent(contentType, body)
		if err == nil {
			if n := len(strings.Split(subject.Ready(job), ".")); n != 3 || len(body) > parked.MaxEvent {
				t.Errorf("%q with %d bytes is job %s", contentType, len(body), job)
			}
			return
		}
		var park *parkError
		if !errors.As(err, &park) || !park.event || park.reason == "" {
			t.Errorf("an event that cannot be understood ends in %v, and must be parked as an event", err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, m := range []*ledgerlinev1.Manifest{{}, {JobId: uuid.Nil.String(), Run: 1, Count: 2, Attempt: "a"}, {MinReader: ledger.Version + 1}} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(uuid.Nil, data)
		if (m == nil) == (err == nil) || m.GetMinReader() > ledger.Version {
			t.Errorf("%v and %v", m, err)
		}
	})
}
