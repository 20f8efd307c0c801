package subject_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

const id = "0b9d0c4e-6f0a-4c39-9a54-1f1b7b3c2d1e"

var hostile = []string{
	"", " ", "*", ">", "a.b.>", ".", id[:35], id + "a", id + " ", " " + id, id + "\n", id + ".>",
	"{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""),
	strings.Repeat("x", 36), strings.Repeat(".", 36), strings.Repeat("-", 36), strings.Repeat("\x00", 36),
	"0b9d0c4e.6f0a.4c39.9a54.1f1b7b3c2d1e", "0b9d0c4e-6f0a-4c39-9a54-1f1b7b3c2d>>", "0b9d0c4e-6f0a-4c39-9a54-1f1b7b3c2d *",
	strings.Repeat("\xff", 36), strings.Repeat("é", 18), strings.Repeat("a.", 1<<20),
}

// Whatever stands as a subject, what is read of it makes that subject again: no
// two spellings of one job, no token too many.
func FuzzParseSubject(f *testing.F) {
	one := uuid.UUID{1}
	for _, s := range []string{
		subject.Items(one, "AbC"), subject.Ledger(one, one), subject.Booked(one, one),
		subject.Detected(subject.DetectedCompany, one), subject.DetectedIn(subject.DetectedPoll, uuid.Nil), subject.DetectedAt("nuid"),
		"ledgerline.items..", "ledgerline.items." + one.String() + ".", "ledgerline.detected.check.", "", ".",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if job, attempt, ok := subject.ItemsAttempt(s); ok && !strings.EqualFold(subject.Items(job, attempt), s) {
			t.Errorf("%q is read as the items %q", s, subject.Items(job, attempt))
		}
		if company, job, ok := subject.LedgerJob(s); ok && !strings.EqualFold(subject.Ledger(company, job), s) {
			t.Errorf("%q is read as the records %q", s, subject.Ledger(company, job))
		}
		if kind, of, ok := subject.ParseDetected(s); ok && (of == "" || "ledgerline.detected."+string(kind)+"."+of != s) {
			t.Errorf("%q is read as %q of %q", s, kind, of)
		}
	})
}

// A client id of any form names one entry of the bucket, and no other one's.
func FuzzTokenKey(f *testing.F) {
	f.Add("client", "other")
	f.Add("", ".")
	f.Fuzz(func(t *testing.T, a, b string) {
		key := subject.TokenKey(uuid.Nil, a)
		if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Count(key, ".") != 1 {
			t.Errorf("%q becomes the key %q", a, key)
		}
		if (key == subject.TokenKey(uuid.Nil, b)) != (a == b) {
			t.Errorf("%q and %q share the key %q", a, b, key)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(id)
	f.Add(strings.ToUpper(id))
	for _, s := range hostile[:len(hostile)-1] {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := subject.ParseID(s)
		if err != nil {
			return
		}
		if parsed.String() != strings.ToLower(s) {
			t.Errorf("%q is read as %s", s, parsed)
		}
		if n := strings.Count(subject.Items(parsed, "a"), "."); n != 3 || strings.ContainsAny(subject.Ready(parsed), " *>") {
			t.Errorf("%q smuggles a token into %s", s, subject.Items(parsed, "a"))
		}
	})
}
