package consumer

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
)

// stored is a message as it stands in the stream, with nothing to settle.
type stored struct {
	jetstream.Msg
	data []byte
}

func (s stored) Subject() string { return "ledgerline.of.a.test" }
func (s stored) Data() []byte    { return s.data }

func seeds(f *testing.F, messages ...proto.Message) {
	f.Helper()
	for _, m := range messages {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func FuzzReadManifest(f *testing.F) {
	id := uuid.UUID{1}.String()
	seeds(f,
		&ledgerlinev1.Manifest{},
		&ledgerlinev1.Manifest{JobId: id, CompanyId: id, Run: 1, Attempt: "a", Count: 2, FirstSequence: 3, LastSequence: 4, SealedAt: timestamppb.Now()},
		&ledgerlinev1.Manifest{JobId: id, CompanyId: "not one"},
		&ledgerlinev1.Manifest{MinReader: ledger.Version + 1},
	)
	c := &Consumer{logger: zerolog.Nop()}
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := c.readManifest(t.Context(), stored{data: data})
		if (j == nil) == (err == nil) {
			t.Fatalf("%v and %v", j, err)
		}
		if err != nil {
			return
		}
		if j.manifest.GetMinReader() > ledger.Version {
			t.Error("a newer manifest is read")
		}
		if j.id == uuid.Nil && j.manifest.GetJobId() != uuid.Nil.String() || j.company.String() != strings.ToLower(j.manifest.GetCompanyId()) {
			t.Errorf("job %s of company %s is not what stands in %v", j.id, j.company, j.manifest)
		}
	})
}

func FuzzReadItem(f *testing.F) {
	id := uuid.UUID{1}
	seeds(f,
		&ledgerlinev1.Item{},
		&ledgerlinev1.Item{EntryId: id[:], Position: 1, Status: ledgerlinev1.ItemStatus_ITEM_STATUS_PENDING, Date: timestamppb.Now()},
		&ledgerlinev1.Item{EntryId: id[:3], Position: 1},
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := readItem(stored{data: data})
		var end *endError
		if err != nil && (!errors.As(err, &end) || end.phase != ledgerlinev1.JobPhase_JOB_PHASE_PARKED) {
			t.Errorf("an item that cannot be read ends in %v, and must park the job", err)
		}
	})
}
