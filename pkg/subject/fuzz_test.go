package subject_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

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
