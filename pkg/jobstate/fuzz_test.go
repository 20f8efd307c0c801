package jobstate

import (
	"testing"

	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
)

func FuzzDecode(f *testing.F) {
	for _, s := range []*ledgerlinev1.JobState{
		{}, {JobId: "a", Phase: ledgerlinev1.JobPhase_JOB_PHASE_ACTIVE, Run: 1, Epoch: 2}, {MinReader: ledger.Version + 1}, {Phase: 99},
	} {
		data, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("job", data)
	}
	f.Fuzz(func(t *testing.T, job string, data []byte) {
		state, err := decode(job, data)
		if (state == nil) == (err == nil) || state.GetMinReader() > ledger.Version {
			t.Fatalf("%v and %v", state, err)
		}
		if err != nil {
			return
		}
		if state.GetJobId() == "" && job != "" || PhaseName(state.GetPhase()) == "" {
			t.Errorf("a state about nothing: %v", state)
		}
		_ = Starting(state)
	})
}
