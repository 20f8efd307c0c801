package subject_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/subject"
)

func TestParsesAnIDInAnyCase(t *testing.T) {
	t.Parallel()
	for _, s := range []string{id, strings.ToUpper(id), "0B9d0c4e-6F0a-4c39-9a54-1f1b7b3c2d1E"} {
		parsed, err := subject.ParseID(s)
		if err != nil || parsed.String() != id {
			t.Errorf("%q is %s: %v", s, parsed, err)
		}
	}
}

func TestRefusesHostileIDs(t *testing.T) {
	t.Parallel()
	for _, s := range hostile {
		_, err := subject.ParseID(s)
		if err == nil {
			t.Errorf("%q is taken for an id", s)
		} else if len(err.Error()) > 512 || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q is told of as %q", s, err)
		}
	}
}

func TestSubjectsTellWhatTheyWereBuiltOf(t *testing.T) {
	t.Parallel()
	company, job := uuid.New(), uuid.New()
	if j, attempt, ok := subject.ItemsAttempt(subject.Items(job, "ATTEMPT")); j != job || attempt != "ATTEMPT" || !ok {
		t.Errorf("items of %s, %q, %v", j, attempt, ok)
	}
	if c, j, ok := subject.LedgerJob(subject.Ledger(company, job)); c != company || j != job || !ok {
		t.Errorf("ledger of %s, %s, %v", c, j, ok)
	}
	for _, s := range []string{"", "ledgerline.items", subject.ItemsOf(job), subject.Ready(job), subject.LedgerOfJob(job), subject.Booked(company, job), subject.Items(job, "a") + ".b", "x" + subject.Ledger(company, job)} {
		if _, _, ok := subject.LedgerJob(s); ok {
			t.Errorf("%q is taken for a ledger subject", s)
		}
	}
	for _, s := range []string{"", "ledgerline.items.a.b", subject.Ready(job), subject.Ledger(company, job), subject.Items(job, "a") + ".b"} {
		if _, _, ok := subject.ItemsAttempt(s); ok {
			t.Errorf("%q is taken for an items subject", s)
		}
	}
}

// Each subject is caught by its stream's filter and by no other.
func TestSubjectsMeetTheirFilters(t *testing.T) {
	t.Parallel()
	company, job := uuid.New(), uuid.New()
	filters := []string{
		subject.JobStarted, subject.AllItems, subject.AllReady, subject.AllLedger, subject.AllBooked, subject.AllTurns, subject.AllParked,
	}
	for s, want := range map[string]string{
		subject.Items(job, "a"):      subject.AllItems,
		subject.Ready(job):           subject.AllReady,
		subject.Ledger(company, job): subject.AllLedger,
		subject.Booked(company, job): subject.AllBooked,
		subject.Turn(company):        subject.AllTurns,
		subject.ParkedJob(job):       subject.AllParked,
		subject.ParkedEvent("00ff"):  subject.AllParked,
		subject.JobStarted:           subject.JobStarted,
	} {
		for _, filter := range filters {
			if matches(filter, s) != (filter == want) {
				t.Errorf("%s on %s: %v", s, filter, filter != want)
			}
		}
	}
	for s, filter := range map[string]string{
		subject.Items(job, "a"):      subject.ItemsOf(job),
		subject.Ledger(company, job): subject.LedgerOfJob(job),
		subject.Booked(company, job): subject.BookedOf(company),
	} {
		if !matches(filter, s) || matches(filter, strings.NewReplacer(job.String(), uuid.NewString(), company.String(), uuid.NewString()).Replace(s)) {
			t.Errorf("%s does not match just its own", filter)
		}
	}
	if durable := subject.DurableJob(job); durable != "job-"+job.String() || strings.ContainsAny(durable, ". *>") {
		t.Errorf("durable %q", durable)
	}
}

func matches(filter, s string) bool {
	want, have := strings.Split(filter, "."), strings.Split(s, ".")
	for i, token := range want {
		if token == ">" {
			return len(have) > i
		}
		if i >= len(have) || (token != "*" && token != have[i]) {
			return false
		}
	}
	return len(want) == len(have)
}
