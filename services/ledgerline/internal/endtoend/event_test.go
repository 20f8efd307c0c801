package endtoend

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/simulator"
)

// An event that cannot be understood is parked with the reason and as it came,
// and nothing waits behind it.
func TestBadEventIsParked(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 20})
	in.fetcher()
	to := &book{}
	in.consumer(to)
	id := uuid.NewString()
	for _, c := range []struct{ contentType, body, says string }{
		{"", `no json`, "not JSON"},
		{"", ``, "not JSON"},
		{"", `{"jobId":"` + id + `"} {}`, "not JSON"},
		{"", `{"companyId":"` + id + `"}`, "no jobId"},
		{"", `null`, "no jobId"},
		{"", `{"jobId":null}`, "no jobId"},
		{"", `["` + id + `"]`, "body is a JSON array, must be an object"},
		{"", `"` + id + `"`, "body is a JSON string, must be an object"},
		{"", `{"jobId":17}`, "must be a string"},
		{"", `{"jobId":"a.b.>"}`, `"a.b.>" is not a UUID`},
		{"", `{"jobId":"*"}`, "is not a UUID"},
		{"", `{"jobId":"` + strings.ReplaceAll(id, "-", "") + `"}`, "is not a UUID"},
		{"", `{"jobId":"{` + id + `}"}`, "is not a UUID"},
		{"", `{"jobId":"` + strings.Replace(id, "-", ".", 1) + `"}`, "is not a UUID"},
		{"", `{"jobId":"` + id + `","companyId":"everybody.>"}`, "companyId"},
		{"", `{"jobId":"` + id + `","pad":"` + strings.Repeat("x", 64<<10) + `"}`, "65"},
		{subject.ContentTypeProtobuf, "\xff\xff\xff", "no ledgerline.v1.JobStarted"},
		{subject.ContentTypeProtobuf, "", "no jobId"},
		{subject.ContentTypeProtobuf + "; proto=x", encoded(t, "a.b.>"), "is not a UUID"},
		{"", encoded(t, id), "not JSON"},
	} {
		in.publishRaw(c.contentType, []byte(c.body))
		p := in.parkedThing(func(p *ledgerlinev1.Parked) bool {
			return p.GetEventSize() == uint64(len(c.body)) && strings.HasPrefix(c.body, string(p.GetEvent())) && p.GetContentType() == c.contentType
		})
		if !strings.Contains(p.GetReason(), c.says) || p.GetKind() != ledgerlinev1.ParkedKind_PARKED_KIND_EVENT {
			t.Errorf("%.60q is parked as %s for %q, want %q", c.body, p.GetKind(), p.GetReason(), c.says)
		}
	}
	// Behind a heap of them all at once, a good one is worked at once.
	for n := range 50 {
		in.publishRaw("", fmt.Appendf(nil, "no json %d", n))
	}
	job := in.add(simulator.JobSpec{Items: items(3)})
	in.publish(job)
	in.completes(job)
	to.once(in, job, 3)
}

func encoded(t *testing.T, job string) string {
	t.Helper()
	data, err := proto.Marshal(&ledgerlinev1.JobStarted{JobId: job})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Ids come in any letter case and are used in lower case; both encodings work,
// and the job's own company wins over the event's. Trap 20.
func TestGoodEventsInEverySpelling(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 21})
	in.fetcher()
	to := &book{}
	in.consumer(to)
	var jobs []uuid.UUID
	for n := range 6 {
		jobs = append(jobs, in.add(simulator.JobSpec{CompanyID: in.upstream.Company(n), Items: items(2)}))
	}
	upper := func(n int) string { return strings.ToUpper(jobs[n].String()) }
	in.publishRaw("", fmt.Appendf(nil, `{"jobId":%q}`, upper(0)))
	in.publishRaw("application/json", fmt.Appendf(nil, `{"jobId":%q,"companyId":%q,"more":[1]}`, jobs[1], uuid.NewString()))
	in.publishRaw(subject.ContentTypeProtobuf, []byte(encoded(t, upper(2))))
	in.publishRaw("Application/X-Protobuf; charset=none", []byte(encoded(t, jobs[3].String())))
	in.publishRaw("", fmt.Appendf(nil, ` {"companyId":"","jobId":%q} `+"\n", jobs[4]))
	header := nats.NewMsg(subject.JobStarted)
	header.Header["content-type"] = []string{subject.ContentTypeProtobuf}
	header.Data = []byte(encoded(t, jobs[5].String()))
	if _, err := in.js.PublishMsg(in.bounded("an event was not stored"), header); err != nil {
		t.Fatal(err)
	}
	in.completes(jobs...)
	for n, job := range jobs {
		to.once(in, job, 2)
		for _, d := range to.deliveries() {
			if d.JobID == job.String() && d.CompanyID != in.upstream.Company(n).String() {
				t.Errorf("job %s was sent for company %s", job, d.CompanyID)
			}
		}
	}
}

// What cannot be worked and is not known here is parked as an event.
func TestUnusableJobParksEvent(t *testing.T) {
	t.Parallel()
	in := install(t, simulator.Config{Seed: 22})
	in.fetcher(func(c *fetcher.Config) { c.StartJobs = false })
	unknown := uuid.New()
	pending := in.add(simulator.JobSpec{Items: items(2), Status: simulator.JobPending})
	cancelled := in.add(simulator.JobSpec{Items: items(2)})
	if err := in.upstream.Cancel(cancelled); err != nil {
		t.Fatal(err)
	}
	for job, says := range map[uuid.UUID]string{unknown: "EXPORT_NOT_FOUND", pending: "pending", cancelled: "canceled_by_user"} {
		in.publish(job)
		p := in.parkedThing(func(p *ledgerlinev1.Parked) bool { return p.GetJobId() == job.String() })
		if p.GetKind() != ledgerlinev1.ParkedKind_PARKED_KIND_EVENT || !strings.Contains(p.GetReason(), says) {
			t.Errorf("job %s is parked as %s for %q, want %q", job, p.GetKind(), p.GetReason(), says)
		}
	}
	if got := eventsOf(in.job(pending)); len(got) != 0 {
		t.Errorf("the pending job got %v", got)
	}
}

// A job that is pending is started where the fetcher may, also when the reply to
// "started" is lost and what it did does not show at once, and once only.
func TestPendingJobIsStarted(t *testing.T) {
	t.Parallel()
	for _, faults := range []string{"lost-reply:once", "lost-reply:once,stale-read"} {
		plan, err := simulator.ParseFaults(faults)
		if err != nil {
			t.Fatal(err)
		}
		in := install(t, simulator.Config{Seed: 23, Faults: plan})
		in.fetcher()
		to := &book{}
		in.consumer(to)
		job := in.add(simulator.JobSpec{Items: items(2), Status: simulator.JobPending})
		in.publish(job)
		in.completes(job)
		if got := eventsOf(in.job(job)); !slices.Equal(got, []string{"started", "completed"}) {
			t.Errorf("%s: events at Pleo: %v", faults, got)
		}
		to.once(in, job, 2)
	}
}
