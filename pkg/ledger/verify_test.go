package ledger_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/ledger"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// A chain is the stored records of a job, as a ledger would hold them.
type chain struct {
	company, job uuid.UUID
	records      [][]byte
}

// goodChain is a job of n items: a claim, a record an item, an end.
func goodChain(t *testing.T, n int) *chain {
	t.Helper()
	c := &chain{company: uuid.New(), job: uuid.New()}
	digest := sha256.New()
	for i := range n {
		digest.Write(entryOf(i + 1))
	}
	c.add(t, &ledgerlinev1.LedgerRecord{Claim: &ledgerlinev1.Claim{Total: uint32(n), Digest: digest.Sum(nil)}})
	for i := range n {
		position := uint32(i + 1)
		r := &ledgerlinev1.LedgerRecord{Position: position, Settled: []*ledgerlinev1.Settlement{
			{Position: position, EntryId: entryOf(i + 1), Outcome: ledgerlinev1.Outcome_OUTCOME_BOOKED},
		}}
		if i+1 < n {
			r.Send = &ledgerlinev1.Send{Position: position + 1, EntryId: entryOf(i + 2), Attempt: 1}
		}
		c.add(t, r)
	}
	c.add(t, &ledgerlinev1.LedgerRecord{Position: uint32(n), End: &ledgerlinev1.End{Phase: completed}})
	return c
}

func entryOf(n int) []byte {
	id := uuid.MustParse("00000000-0000-4000-8000-000000000000")
	id[0] = byte(n)
	return id[:]
}

func (c *chain) add(t *testing.T, r *ledgerlinev1.LedgerRecord) {
	t.Helper()
	r.Run, r.Epoch = max(r.GetRun(), 1), max(r.GetEpoch(), 1)
	if n := len(c.records); n > 0 {
		sum := sha256.Sum256(c.records[n-1])
		r.PreviousHash = sum[:]
	}
	data, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	c.records = append(c.records, data)
}

// change rewrites one record, as somebody would who does not mend the rest.
func (c *chain) change(t *testing.T, at int, change func(*ledgerlinev1.LedgerRecord)) {
	t.Helper()
	r := new(ledgerlinev1.LedgerRecord)
	if err := proto.Unmarshal(c.records[at], r); err != nil {
		t.Fatal(err)
	}
	change(r)
	data, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	c.records[at] = data
}

func (c *chain) prove(t *testing.T) ledger.Proof {
	t.Helper()
	prover := ledger.NewProver(c.company, c.job)
	for i, data := range c.records {
		e, err := ledger.Decode(subject.Ledger(c.company, c.job), data, uint64(10+i))
		if err != nil {
			t.Fatal(err)
		}
		prover.Add(e)
	}
	return prover.Proof()
}

func TestAGoodLedgerProvesTheJob(t *testing.T) {
	t.Parallel()
	p := goodChain(t, 5).prove(t)
	if !p.OK() || p.Items != 5 || p.Booked != 5 || p.Failed != 0 || len(p.Problems) != 0 {
		t.Errorf("%+v", p)
	}
}

// A record that was changed, is missing, was added or stands elsewhere is named.
func TestATamperedLedgerNamesTheRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tamper func(t *testing.T, c *chain)
		says   string
	}{
		"an outcome changed": {func(t *testing.T, c *chain) {
			c.change(t, 2, func(r *ledgerlinev1.LedgerRecord) { r.Settled[0].Outcome = ledgerlinev1.Outcome_OUTCOME_FAILED })
		}, "record 13 does not carry the hash of record 12: one was changed or is missing"},
		"an external id changed": {func(t *testing.T, c *chain) {
			c.change(t, 3, func(r *ledgerlinev1.LedgerRecord) { r.Settled[0].ExternalId = "forged" })
		}, "record 14 does not carry the hash of record 13"},
		"a record removed": {func(_ *testing.T, c *chain) { c.records = slices.Delete(c.records, 3, 4) },
			"record 13 does not carry the hash of record 12"},
		"the first record removed": {func(_ *testing.T, c *chain) { c.records = c.records[1:] },
			"record 10 names a record before it, and there is none"},
		"two records exchanged": {func(_ *testing.T, c *chain) { c.records[2], c.records[3] = c.records[3], c.records[2] },
			"record 12 does not carry the hash of record 11"},
		"a record repeated": {func(_ *testing.T, c *chain) { c.records = slices.Insert(c.records, 3, c.records[2]) },
			"entry 02000000-0000-4000-8000-000000000000 was booked again by record 13"},
		"an entry exchanged for another": {func(t *testing.T, c *chain) {
			c.change(t, 5, func(r *ledgerlinev1.LedgerRecord) { r.Settled[0].EntryId = entryOf(77) })
			// And all hashes after it mended.
			last := c.records[6:]
			c.records = c.records[:6]
			for _, data := range last {
				r := new(ledgerlinev1.LedgerRecord)
				if err := proto.Unmarshal(data, r); err != nil {
					t.Fatal(err)
				}
				c.add(t, r)
			}
		}, "the settled entries are not the sealed ones"},
		"an epoch that nobody claimed": {func(t *testing.T, c *chain) {
			c.add(t, &ledgerlinev1.LedgerRecord{Position: 5, Epoch: 9})
		}, "record 17 is of epoch 9, which nobody claimed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain := goodChain(t, 5)
			c.tamper(t, chain)
			p := chain.prove(t)
			if p.OK() || !strings.Contains(strings.Join(p.Problems, "\n"), c.says) {
				t.Errorf("it does not say %q: %+v", c.says, p)
			}
		})
	}
}

// A ledger whose end was cut off proves no complete job.
func TestACutLedgerIsNotComplete(t *testing.T) {
	t.Parallel()
	c := goodChain(t, 5)
	c.records = c.records[:4]
	if p := c.prove(t); p.OK() || p.Missing != 2 || p.Items != 5 || p.Booked != 3 {
		t.Errorf("%+v", p)
	}
}
