package parked

import (
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
)

type stored struct {
	jetstream.Msg
	data []byte
}

func (stored) Subject() string { return "ledgerline.parked.test" }
func (s stored) Data() []byte  { return s.data }

func FuzzDecode(f *testing.F) {
	for _, p := range []*ledgerlinev1.Parked{
		{}, {Kind: ledgerlinev1.ParkedKind_PARKED_KIND_EVENT, Reason: "r", Event: []byte("{"), EventSize: 1}, {MinReader: ledger.Version + 1},
	} {
		data, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(stored{data: data})
		if (p == nil) == (err == nil) || p.GetMinReader() > ledger.Version {
			t.Errorf("%v and %v", p, err)
		}
	})
}

// A reason quotes what strangers wrote: it must be text that can be stored and
// shown on one screen.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain", "\xff\x00", "line\nline", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if out := clean(text); !utf8.ValidString(out) || len(out) > maxReason+len("…") {
			t.Errorf("%q becomes %q", text, out)
		}
	})
}
