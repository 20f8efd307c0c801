package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// document is the table of settings for people.
const document = "../../docs/configuration.md"

// settingRow is one line of its tables.
var settingRow = regexp.MustCompile("(?m)^\\| `((?:LEDGERLINE|NATS)_[A-Z_]+)` \\| (?:`([^`]*)`|–) \\| [^|]+ \\| (.+) \\|$")

// usual are the defaults that no tag holds: they are decided when all is read.
var usual = map[string]string{"NATS_URL": DefaultNATSURL, "LEDGERLINE_LOG_FORMAT": formatJSON}

// Every setting stands in the document once, with its default and whether it is a
// secret, and no other one does.
func TestTheDocumentHasEverySettingWithItsDefault(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		fallback string
		secret   bool
	}
	rows := map[string]row{}
	for _, cells := range settingRow.FindAllStringSubmatch(string(content), -1) {
		name := cells[1]
		if _, twice := rows[name]; twice {
			t.Errorf("%s stands twice in %s", name, document)
		}
		rows[name] = row{cells[2], strings.HasPrefix(cells[3], "*secret*")}
	}
	defaults := map[string]string{}
	for _, sec := range catalogue {
		group := reflect.TypeOf(sec.group)
		for i := range group.NumField() {
			if name := group.Field(i).Tag.Get("env"); defaults[name] == "" {
				defaults[name] = group.Field(i).Tag.Get("default")
			}
		}
	}
	for name, fallback := range usual {
		defaults[name] = fallback
	}
	for _, s := range settings {
		got, found := rows[s.name]
		switch {
		case !found:
			t.Errorf("%s is not in %s", s.name, document)
		case got.fallback != defaults[s.name]:
			t.Errorf("%s has the default %q, and %q in %s", s.name, defaults[s.name], got.fallback, document)
		case got.secret != s.secret:
			t.Errorf("%s is a secret: %t, and %t in %s", s.name, s.secret, got.secret, document)
		}
		delete(rows, s.name)
	}
	for name := range rows {
		t.Errorf("%s is in %s and no setting", name, document)
	}
}

// fileExample is the YAML of the document.
var fileExample = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Its parts are one file: settings, and a list of credentials.
func TestTheDocumentsFileIsTaken(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var example string
	for _, part := range fileExample.FindAllStringSubmatch(string(content), -1) {
		example += part[1]
	}
	for _, secret := range regexp.MustCompile(`/run/secrets/([\w-]+)`).FindAllStringSubmatch(example, -1) {
		if err := os.WriteFile(filepath.Join(dir, secret[1]), []byte("hush of "+secret[1]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	example = strings.ReplaceAll(example, "/run/secrets", dir)
	file := filepath.Join(dir, "ledgerline.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		Service Service `embed:""`
		Pleo    Pleo    `embed:""`
		Sink    Sink    `embed:""`
	}
	_, err = Load(Program{Name: "all", Args: []string{"--config=" + file}, Stderr: &bytes.Buffer{}}, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cfg.Pleo.APIKey.Value()
	if err != nil || key != "hush of pleo" || len(cfg.Pleo.Credentials) != 2 || cfg.Service.Streams.Replicas != 3 || cfg.Sink.Spec != "https://erp-adapter.example/items" {
		t.Errorf("key %q, %v, %+v", key, err, cfg)
	}
}
