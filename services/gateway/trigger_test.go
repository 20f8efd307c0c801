package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/subject"
)

// request asks the endpoint once somebody listens there.
func (b *bench) request(subj, body string) *nats.Msg {
	b.t.Helper()
	ctx := b.ctx()
	for {
		answer, err := b.conn.RequestWithContext(ctx, subj, []byte(body))
		if err == nil {
			return answer
		}
		if !errors.Is(err, nats.ErrNoResponders) || !pause(ctx, 10*time.Millisecond) {
			b.t.Fatalf("ask %s: %v", subj, err)
		}
	}
}

func (b *bench) check(format string, args ...any) outcome {
	b.t.Helper()
	answer := b.request(subject.GatewayCheck, fmt.Sprintf(format, args...))
	var o outcome
	if err := json.Unmarshal(answer.Data, &o); err != nil {
		b.t.Fatalf("the answer is %q, %v: %v", answer.Data, answer.Header, err)
	}
	return o
}

// checkAfterEnd is check once whoever answers has seen the end of a job: each gateway
// learns of it from a watch of its own.
func (b *bench) checkAfterEnd(format string, args ...any) outcome {
	b.t.Helper()
	ctx := b.ctx()
	o := b.check(format, args...)
	for o.Action == busy && pause(ctx, 10*time.Millisecond) {
		o = b.check(format, args...)
	}
	return o
}

func TestACheckTellsWhatWasDone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// Each one polls when it starts. They start one after the other, so that no poll
	// is left that could find the jobs before the check asks for them.
	for n := range 2 {
		b.start()
		b.log.WaitCount(logevent.JobsPolled, n+1)
		b.settled()
	}
	company := uuid.New()
	if o := b.check(`{"companyId":%q}`, company); o != (outcome{CompanyID: company.String(), Action: nothing}) {
		t.Errorf("a company without jobs: %+v", o)
	}
	first, second := b.pleo.add(company, "pending"), b.pleo.add(company, "pending")
	// Asked for the younger one: the older one is first.
	if o := b.check(`{"jobId":%q}`, second); o != (outcome{CompanyID: company.String(), JobID: first.String(), Action: started}) {
		t.Errorf("two jobs wait: %+v", o)
	}
	b.wantEvent(first)
	if o := b.check(`{"companyId":%q}`, company); o.Action != busy || o.JobID != first.String() {
		t.Errorf("one is in work: %+v", o)
	}
	b.end(first)
	b.wantEvent(second)
	b.end(second)
	b.settled()
	if o := b.checkAfterEnd(`{"jobId":%q}`, second); o.Action != elsewise || o.Reason != "the job is completed here" {
		t.Errorf("a job that has ended: %+v", o)
	}
	if o := b.check(`{"jobId":%q}`, uuid.New()); o.Action != elsewise {
		t.Errorf("a job that Pleo does not know: %+v", o)
	}
	// Somebody names a job that is in progress at Pleo: it is ours, then (trap 7).
	lost := b.pleo.add(company, "in_progress")
	if o := b.checkAfterEnd(`{"companyId":%q}`, company); o.Action != waiting || o.JobID != lost.String() {
		t.Errorf("a job in progress elsewhere: %+v", o)
	}
	if o := b.check(`{"jobId":%q}`, lost); o != (outcome{CompanyID: company.String(), JobID: lost.String(), Action: resumed}) {
		t.Errorf("the same, by its id: %+v", o)
	}
	b.wantEvent(lost)
	if n := b.pleo.job(lost).refused; n != 0 {
		t.Errorf("started again %d times", n)
	}
}

// What a check could not do now is done later, without being asked again.
func TestACheckThatCannotBeCarriedOutIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sink := &sinkSwitch{err: errors.New("closed for stocktaking")}
	b.start(func(c *Config) { c.Sink = sink })
	b.log.WaitCount(logevent.JobsPolled, 1)
	job := b.pleo.add(uuid.New(), "pending")
	if o := b.check(`{"jobId":%q}`, job); o.Action != waiting || o.Reason != "not ready: the sink: closed for stocktaking" {
		t.Errorf("the answer is %+v", o)
	}
	sink.set(nil)
	b.wantEvent(job)
}

func TestAWrongCheckIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	id := uuid.NewString()
	for _, body := range []string{
		``, `{}`, `[]`, `{"companyId":"7"}`, `{"companyId":""}`, `{"company":"` + id + `"}`,
		`{"companyId":"` + id + `","jobId":"7"}`, `{"jobId":"` + id[:18] + `","companyId":"` + id[18:] + `"}`,
	} {
		if answer := b.request(subject.GatewayCheck, body); answer.Header.Get(micro.ErrorCodeHeader) != "400" {
			t.Errorf("%s: answered %q %v", body, answer.Data, answer.Header)
		}
	}
	if q := b.queued(); len(q) != 0 {
		t.Errorf("queued: %v", q)
	}
}

func TestEveryGatewayAnswersThePing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	names := map[string]bool{}
	for range 2 {
		names[b.start().config.Name] = true
	}
	inbox := b.conn.NewInbox()
	answers, err := b.conn.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	ctx := b.ctx()
	for len(names) > 0 {
		if err := b.conn.PublishRequest("$SRV.PING."+subject.ServiceGateway, inbox, nil); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := answers.NextMsg(100 * time.Millisecond)
			if err != nil {
				break
			}
			var ping micro.Ping
			if err := json.Unmarshal(msg.Data, &ping); err != nil {
				t.Fatal(err)
			}
			delete(names, ping.Metadata["gateway"])
		}
		if ctx.Err() != nil {
			t.Fatalf("no ping from %v", names)
		}
	}
}

// Gateways with different settings on one NATS: each company finds its own. The
// other one hands its detection back.
func TestADetectionFindsTheGatewayOfItsCompany(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	company := uuid.New()
	job := b.pleo.add(company, "pending")
	b.start(func(c *Config) { c.Company = uuid.New() })
	b.announce(createdHook(job, company))
	if line := b.log.Wait(logevent.JobLeftAlone); line["error"] != errForeign.Error() {
		t.Errorf("handed back for %v", line["error"])
	}
	if n := b.pleo.count("POST"); n != 0 {
		t.Errorf("%d posts by a gateway that does not serve the company", n)
	}
	b.start(func(c *Config) { c.Company = company })
	b.wantEvent(job)
}
