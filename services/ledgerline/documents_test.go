package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/services/consumer"
	"github.com/ledgerline/ledgerline/services/fetcher"
	"github.com/ledgerline/ledgerline/services/gateway"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/installation"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/operate"
	"github.com/ledgerline/ledgerline/services/ledgerline/internal/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// root is the workspace.
const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var settingRow = regexp.MustCompile("(?m)^\\| `((?:LEDGERLINE|NATS)_[A-Z_]+)` \\| [^|]+ \\| ([^|]+) \\|")

// The column "read by" of docs/configuration.md is what the programs' structs say.
func TestTheDocumentNamesTheReadersOfEachSetting(t *testing.T) {
	t.Parallel()
	readers := []struct {
		name     string
		settings any
	}{
		{"gateway", gateway.Settings{}},
		{"fetcher", fetcher.Settings{}},
		{"consumer", consumer.Settings{}},
		{"up", installation.Command{}},
		{"commands", operate.Jobs{}},
		{"sink-test", sinktest.Command{}},
	}
	rows := settingRow.FindAllStringSubmatch(read(t, "docs/configuration.md"), -1)
	if len(rows) == 0 {
		t.Fatal("the document has no table of settings")
	}
	for _, row := range rows {
		name, got := row[1], strings.Split(row[2], ", ")
		var want []string
		for _, reader := range readers {
			if name == "LEDGERLINE_CONFIG" || has(reflect.TypeOf(reader.settings), name) {
				want = append(want, reader.name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is read by %s, not by %s", name, strings.Join(want, ", "), strings.Join(got, ", "))
		}
	}
}

// has tells whether a struct of groups has the setting.
func has(of reflect.Type, setting string) bool {
	for i := range of.NumField() {
		field := of.Field(i)
		_, embedded := field.Tag.Lookup("embed")
		if field.Tag.Get("env") == setting || embedded && field.Type.Kind() == reflect.Struct && has(field.Type, setting) {
			return true
		}
	}
	return false
}

var (
	answerRow = regexp.MustCompile(`(?m)^\| ([0-9][^|]*) \| (booked|failed|stale|retry|refused) \|`)
	status    = regexp.MustCompile(`\b[2-5]\d\d\b`)
)

// Each status of docs/sinks.md does what the document says.
func TestTheDocumentsAnswersAreTheSinksAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(server.Close)
	checked := 0
	for _, row := range answerRow.FindAllStringSubmatch(read(t, "docs/sinks.md"), -1) {
		for _, code := range status.FindAllString(row[1], -1) {
			checked++
			to, err := sink.Open(fmt.Sprintf("%s/%s", server.URL, code), sink.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if a := to.Deliver(t.Context(), sink.Delivery{Position: 1, Total: 1, Epoch: 1, Attempt: 1}); a.Outcome.String() != row[2] {
				t.Errorf("%s is %s, not %s", code, a.Outcome, row[2])
			}
			if err := to.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	const least = 20 // the document names more
	if checked < least {
		t.Errorf("%d statuses found in the document, at least %d expected", checked, least)
	}
}

var (
	trapRow   = regexp.MustCompile(`(?m)^\| (\d{1,2}) \| `)
	trapTests = regexp.MustCompile(`(?m)^\| (\d{1,2}) \| [^|]+ \| [^|]+ \| ([^|]+) \|`)
	testName  = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	// testText is a test with the comment before it.
	testText = regexp.MustCompile(`(?m)(?:^//.*\n)*^func (Test[A-Z]\w*)\((?:.*\n)+?^}`)
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
)

// Every trap of docs/pleo.md has a test, and each test that it names says for which
// trap it stands: whoever changes the test learns what it is there for.
func TestEachTrapIsNamedByItsTests(t *testing.T) {
	t.Parallel()
	sources := testSources(t)
	for _, row := range trapTests.FindAllStringSubmatch(read(t, "docs/pleo.md"), -1) {
		trap, tests := row[1], testName.FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 {
			t.Errorf("trap %s has no test", trap)
		}
		number := regexp.MustCompile(`(?i)\btraps?( \d+,| \d+ and)* ` + trap + `\b`)
		for _, name := range tests {
			if !slices.ContainsFunc(sources[name[1]], number.MatchString) {
				t.Errorf("%s does not say that it is about trap %s", name[1], trap)
			}
		}
	}
}

// testSources are the texts of the tests of each name, their comments included.
func testSources(t *testing.T) map[string][]string {
	t.Helper()
	sources := map[string][]string{}
	eachTestFile(t, func(content string) {
		for _, f := range testText.FindAllStringSubmatch(content, -1) {
			sources[f[1]] = append(sources[f[1]], f[0])
		}
	})
	return sources
}

func eachTestFile(t *testing.T, visit func(content string)) {
	t.Helper()
	for _, dir := range []string{"pkg", "services"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			visit(string(content))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Forty traps, in order, and every test that a document names is there.
func TestTheDocumentsTestsExist(t *testing.T) {
	t.Parallel()
	for i, row := range trapRow.FindAllStringSubmatch(read(t, "docs/pleo.md"), -1) {
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("trap %s stands where %d must", row[1], i+1)
		}
	}
	const traps = 40
	if n := len(trapRow.FindAllString(read(t, "docs/pleo.md"), -1)); n != traps {
		t.Errorf("%d traps, %d expected", n, traps)
	}
	there := map[string]bool{}
	eachTestFile(t, func(content string) {
		for _, f := range testFunc.FindAllStringSubmatch(content, -1) {
			there[f[1]] = true
		}
	})
	for _, document := range []string{"docs/pleo.md", "docs/sinks.md", "docs/configuration.md", "README.md", "ARCHITECTURE.md"} {
		for _, name := range testName.FindAllStringSubmatch(read(t, document), -1) {
			if !there[name[1]] {
				t.Errorf("%s names %s, which is no test", document, name[1])
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// Every file that a document links to is there.
func TestTheDocumentsLinksExist(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"docs/pleo.md", "docs/sinks.md", "docs/configuration.md", "docs/metrics.md", "docs/runbook.md", "docs/tracing.md", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"} {
		for _, to := range link.FindAllStringSubmatch(read(t, document), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(document), to[1])); err != nil {
				t.Errorf("%s links to %s: %v", document, to[1], err)
			}
		}
	}
}
