package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/config"
)

// contract is the table of settings that the outside may rely on: each name
// with its default, as the settings in effect show it. A change here is one for
// the CHANGELOG.
var contract = map[string]any{
	"NATS_URL": "nats://127.0.0.1:4222", "NATS_CREDS": nil, "NATS_USER": nil, "NATS_PASSWORD": nil, "NATS_NKEY": nil,
	"NATS_CERT": nil, "NATS_KEY": nil, "NATS_CA": nil, "NATS_CONTEXT": nil,
	"LEDGERLINE_CONFIG": nil, "LEDGERLINE_REPLICAS": 1.0, "LEDGERLINE_DATA_DIR": "./ledgerline-data",
	"LEDGERLINE_NATS_LISTEN": nil, "LEDGERLINE_NATS_MONITOR": nil,
	"LEDGERLINE_PLEO_URL": "https://external.pleo.io", "LEDGERLINE_PLEO_TOKEN": nil, "LEDGERLINE_PLEO_API_KEY": nil,
	"LEDGERLINE_PLEO_CLIENT_ID": nil, "LEDGERLINE_PLEO_CLIENT_SECRET": nil, "LEDGERLINE_PLEO_REFRESH_TOKEN": nil,
	"LEDGERLINE_PLEO_TOKEN_URL": nil, "LEDGERLINE_PLEO_RATE": 10.0, "LEDGERLINE_PLEO_TIMEOUT": "30s",
	"LEDGERLINE_COMPANY_ID": nil, "LEDGERLINE_PAGE_SIZE": 100.0, "LEDGERLINE_ORDER": "date", "LEDGERLINE_PAYLOAD": "full",
	"LEDGERLINE_START_JOBS": false, "LEDGERLINE_SINK": "log:", "LEDGERLINE_SINK_TOKEN": nil, "LEDGERLINE_SINK_TIMEOUT": "30s",
	"LEDGERLINE_ON_FAILURE": "continue", "LEDGERLINE_REPORT": true, "LEDGERLINE_CONCURRENT_JOBS": 64.0,
	"LEDGERLINE_LEASE": "10s", "LEDGERLINE_LEDGER_MAX_AGE": "0s", "LEDGERLINE_WEBHOOK_SECRET": nil,
	"LEDGERLINE_POLL_INTERVAL": "2m0s", "LEDGERLINE_LISTEN": ":8080", "LEDGERLINE_LOG_LEVEL": "info",
	"LEDGERLINE_LOG_FORMAT": "json", "LEDGERLINE_SHUTDOWN_TIMEOUT": "20s",
	"LEDGERLINE_STATUS_PAGE": false, "LEDGERLINE_STATUS_TOKEN": nil,
}

var secretNames = []string{
	"NATS_USER", "NATS_PASSWORD", "LEDGERLINE_PLEO_TOKEN", "LEDGERLINE_PLEO_API_KEY", "LEDGERLINE_PLEO_CLIENT_SECRET",
	"LEDGERLINE_PLEO_REFRESH_TOKEN", "LEDGERLINE_SINK_TOKEN", "LEDGERLINE_WEBHOOK_SECRET",
	"LEDGERLINE_STATUS_TOKEN",
}

// everything is every group at once; NATS and Embedded exclude each other.
type everything struct {
	Service  config.Service    `embed:""`
	Pleo     config.Pleo       `embed:""`
	Fetcher  config.Fetcher    `embed:""`
	Consumer config.Consumer   `embed:""`
	Gateway  config.Gateway    `embed:""`
	Sink     config.Sink       `embed:""`
	Status   config.Status     `embed:""`
	Page     config.StatusPage `embed:""`
}

type embeddedOnly struct {
	Embedded config.Embedded `embed:""`
}

func TestNamesAndDefaultsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	var want []string
	for name := range contract {
		want = append(want, name)
		if slices.Contains(secretNames, name) {
			want = append(want, name+"_FILE")
		}
	}
	slices.Sort(want)
	if got := config.Names(); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}

	fields := map[string]any{}
	for _, cfg := range []any{new(everything), new(embeddedOnly)} {
		loaded, err := config.Load(config.Program{Name: "all", Stderr: &bytes.Buffer{}}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for field, value := range record(t, loaded) {
			fields[field] = value
		}
	}
	for name, value := range contract {
		if got := fields[fieldOf(name)]; got != value {
			t.Errorf("%s is %v without being set, %v in the contract", name, got, value)
		}
	}
}

func fieldOf(name string) string { return strings.ToLower(strings.TrimPrefix(name, "LEDGERLINE_")) }

// TestEveryNameIsAFlagAndAKeyOfTheFile sets each setting alone in each of the
// three ways; none may be unknown.
func TestEveryNameIsAFlagAndAKeyOfTheFile(t *testing.T) {
	t.Parallel()
	for _, name := range config.Names() {
		key := strings.ReplaceAll(fieldOf(name), "_", "-")
		var cfg any = new(everything)
		if name == "LEDGERLINE_DATA_DIR" || strings.HasPrefix(name, "LEDGERLINE_NATS_") {
			cfg = new(embeddedOnly)
		}
		file := t.TempDir() + "/config.yaml"
		write(t, file, key+`: "1"`)
		for way, p := range map[string]config.Program{
			"flag": {Args: []string{"--" + key + "=1"}}, "environment": {Environ: []string{name + "=1"}},
			"file": {Args: []string{"--config=" + file}},
		} {
			if name == "LEDGERLINE_CONFIG" && way == "file" {
				continue
			}
			p.Name, p.Stderr = "all", &bytes.Buffer{}
			_, err := config.Load(p, cfg)
			if err != nil && (strings.Contains(err.Error(), "unknown flag") || strings.Contains(err.Error(), "no setting")) {
				t.Errorf("%s by %s: %v", name, way, err)
			}
		}
	}
}

func TestASettingOutsideTheCatalogueIsRefused(t *testing.T) {
	t.Parallel()
	cfg := &struct {
		Own string `name:"own" env:"LEDGERLINE_OWN"`
	}{}
	_, err := config.Load(config.Program{Name: "all", Stderr: &bytes.Buffer{}}, cfg)
	if err == nil || errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), "LEDGERLINE_OWN") {
		t.Errorf("got %v", err)
	}
}

func TestTheProcessEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("LEDGERLINE_PAGE_SIZE", "7")
	t.Setenv("LEDGERLINE_TYPO", "7")
	var cfg everything
	if _, err := config.Load(config.Program{Name: "all", Stderr: &bytes.Buffer{}}, &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Pleo.PageSize != 100 {
		t.Errorf("page size is %d", cfg.Pleo.PageSize)
	}
}

func TestGroupsAreFoundByType(t *testing.T) {
	t.Parallel()
	cfg := new(operator)
	loaded, err := config.Load(config.Program{
		Name: "ledgerline", Args: []string{"up", "--shutdown-timeout=3s"}, Stderr: &bytes.Buffer{},
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if shutdown, found := config.Group[config.Shutdown](loaded); !found || shutdown.Timeout != 3*time.Second {
		t.Errorf("found %v: %v", found, shutdown)
	}
	if _, found := config.Group[config.NATS](loaded); found {
		t.Error("found the group of a command that was not chosen")
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "",
		"nats://nats:4222":                    "nats://nats:4222",
		"nats://user:hush@nats:4222":          "nats://nats:4222",
		"nats://hush@nats:4222,tls://hush@b":  "nats://nats:4222,tls://b",
		"user:hush@nats:4222":                 "nats:4222",
		"nats://user:hu/sh@nats:4222":         "nats://nats:4222",
		"nats://user:hu@sh@nats:4222":         "nats://nats:4222",
		"https://books.example/a/@b?key=hush": "https://books.example/a/@b?[redacted]",
		"books?key=hush":                      "books?[redacted]",
		"%zz:hush@host":                       "host",
	} {
		if got := config.RedactURL(text); got != want {
			t.Errorf("%s is shown as %s, not %s", text, got, want)
		}
	}
}

func TestFaultsAreNoErrorUntilAsked(t *testing.T) {
	t.Parallel()
	var none config.Faults
	if none.Err("fetcher") != nil {
		t.Error("no fault is an error")
	}
	var faults config.Faults
	faults.Add("LEDGERLINE_LEASE", "is short", "give more")
	err := fmt.Errorf("start: %w", faults.Err("fetcher"))
	var typed *config.Error
	if !errors.Is(err, config.ErrInvalid) || !errors.As(err, &typed) || typed.ExitCode() != 2 {
		t.Errorf("got %v", err)
	}
}
