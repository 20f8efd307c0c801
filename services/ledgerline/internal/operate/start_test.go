package operate

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/jobstate"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/topology"
)

// The event that an operator has published names the job's company where it is known:
// a fetcher without a default credential could not read the job else.
func TestAStartedJobsCompanyIsNamed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := natstest.Start(t).JetStream(t)
	if err := topology.Ensure(ctx, js, topology.Options{Replicas: 1, Lease: time.Second}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	store, err := jobstate.Open(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	job, company := uuid.New(), uuid.NewString()
	if got, err := knownCompany(ctx, js, job); got != "" || err != nil {
		t.Errorf("of a job that nobody knows: %q, %v", got, err)
	}
	state := &ledgerlinev1.JobState{CompanyId: company, Run: 1, Phase: ledgerlinev1.JobPhase_JOB_PHASE_DRAINING}
	if err := store.Replace(ctx, job, state, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := knownCompany(ctx, js, job); got != company || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What a gateway answers is told in words, with the reason where there is one; JSON
// is for programs.
func TestAGatewaysAnswerIsToldInWords(t *testing.T) {
	t.Parallel()
	const company, job = "3b1f9f52-9f7e-4b57-8d1e-2a2f4dd1c6aa", "8eb648ab-464b-42a0-ba17-eda703657e33"
	for answer, want := range map[string][]string{
		`{"companyId":"` + company + `","jobId":"` + job + `","action":"started"}`:                      {job, company, "is started", "`ledgerline job " + job + "`"},
		`{"companyId":"` + company + `","jobId":"` + job + `","action":"resumed"}`:                      {job, "taken up", "`ledgerline job " + job + "`"},
		`{"companyId":"` + company + `","jobId":"` + job + `","action":"busy","reason":"it is active"}`: {job, "(it is active)"},
		`{"companyId":"` + company + `","action":"nothing"}`:                                            {"No job", company},
		`{"companyId":"` + company + `","action":"waiting","reason":"not ready: the sink"}`:             {"tried again", "not ready: the sink"},
		`{"companyId":"` + company + `","jobId":"` + job + `","action":"not_eligible","reason":"over"}`: {job, "cannot be started: over"},
	} {
		told := lookTold([]byte(answer))
		for _, part := range want {
			if !strings.Contains(told, part) {
				t.Errorf("%s is told as %q, without %q", answer, told, part)
			}
		}
		if strings.Contains(told, "{") {
			t.Errorf("%s is told as %q", answer, told)
		}
	}
	for _, answer := range []string{`{"action":"of a newer version"}`, `no json`, ``} {
		if told := lookTold([]byte(answer)); told != answer {
			t.Errorf("%q is told as %q", answer, told)
		}
	}
}
