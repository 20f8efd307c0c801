package sinktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
	"github.com/ledgerline/ledgerline/pkg/program"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
)

// typed runs `ledgerline sink-test` with these words and this environment.
func typed(t *testing.T, environ []string, words ...string) (stdout string, code int, told string) {
	t.Helper()
	cli := &struct {
		Output   operate.Output `name:"output" default:"text" enum:"text,json"`
		SinkTest Command        `cmd:""`
	}{}
	var out, errs bytes.Buffer
	loaded, err := config.Load(config.Program{
		Name: "ledgerline", Args: append([]string{"sink-test"}, words...), Environ: environ, Stdout: &out, Stderr: &errs,
	}, cli)
	if err == nil {
		err = loaded.Command.Run(&operate.Session{
			Context: t.Context(), Output: cli.Output,
			Runtime: &program.Runtime{Name: "ledgerline", Stdout: &out, Stderr: &errs, Log: zerolog.Nop()},
		})
	}
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
	case errors.As(err, &coded):
		code = coded.ExitCode()
		errs.WriteString(err.Error())
	default:
		code = 1
		errs.WriteString(err.Error())
	}
	return out.String(), code, errs.String()
}

// counted is a sink that counts its requests.
func counted(t *testing.T, h habits) (address string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	b := newBox(h)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func TestNothingIsSentWithoutYes(t *testing.T) {
	t.Parallel()
	address, requests := counted(t, habits{})
	out, code, told := typed(t, nil, address)
	if code != 2 || requests.Load() != 0 || !strings.Contains(out, TestCompany.String()) || !strings.Contains(told, "--yes") {
		t.Errorf("exit code %d, %d requests, %s%s", code, requests.Load(), out, told)
	}
}

func TestTheReportForPeople(t *testing.T) {
	t.Parallel()
	address, _ := counted(t, habits{noFence: true})
	secret := strings.Replace(address, "http://", "http://ada:hush@", 1)
	out, code, told := typed(t, []string{"LEDGERLINE_SINK=" + secret}, "--yes")
	if code != 0 {
		t.Errorf("exit code %d: %s", code, told)
	}
	for _, part := range []string{"pass      twice", "warning   stale-epoch", "in production: not fenced", "passed 18, warnings 1, failed 0, skipped 1"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is missing in:\n%s", part, out)
		}
	}
	if strings.Contains(out+told, "hush") {
		t.Errorf("the password shows in:\n%s", out)
	}
}

func TestTheReportForPrograms(t *testing.T) {
	t.Parallel()
	address, _ := counted(t, habits{keyWithJob: true})
	out, code, _ := typed(t, nil, "--output=json", "--yes", address)
	var report Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	if code != 1 || report.OK || report.Failed != 1 || len(report.Checks) != len(checks) {
		t.Errorf("exit code %d, %+v", code, report)
	}
}

// A company and an item of the user's own, the books asked by a command.
func TestOwnCompanyItemAndBooks(t *testing.T) {
	t.Parallel()
	const company = "11111111-2222-4333-8444-555555555555"
	var wrong atomic.Int32
	b := newBox(habits{})
	books := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.Header.Get("Ledgerline-Company-Id") != company {
			wrong.Add(1)
		}
		key := r.Header.Get("Idempotency-Key")
		b.ServeHTTP(w, r)
		if b.count(key) == 1 {
			if err := os.WriteFile(filepath.Join(books, key), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(server.Close)
	item := filepath.Join(t.TempDir(), "item.json")
	if err := os.WriteFile(item, []byte(`{"accountingEntryId":"x","amount":{"own":true}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code, told := typed(t, nil, "--yes", "--company", company, "--item", item,
		"--restart", "true", "--count", `ls '`+books+`' | grep -cF "$KEY" || true`, server.URL)
	if code != 0 || wrong.Load() != 0 || !strings.Contains(out, "passed 20") {
		t.Errorf("exit code %d, %d items of another company: %s%s", code, wrong.Load(), out, told)
	}
}

func TestWhatCannotBeTested(t *testing.T) {
	t.Parallel()
	for name, words := range map[string][]string{
		"nothing": nil, "our own": {"file:x"}, "no sink": {"gopher://x"}, "no company": {"http://127.0.0.1:1", "--company=x"},
	} {
		if _, code, told := typed(t, nil, words...); code != 2 {
			t.Errorf("%s: exit code %d: %s", name, code, told)
		}
	}
	if _, code, told := typed(t, nil, "--yes", "--item="+filepath.Join(t.TempDir(), "none"), "http://127.0.0.1:1"); code != 1 {
		t.Errorf("no item: exit code %d: %s", code, told)
	}
}
