package config_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ledgerline/ledgerline/pkg/config"
)

func TestLogsAreJSONWithTheTimeFromTheirLevelOn(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := config.Log{Level: "warn", Format: "json"}.Logger(&text)
	log.Info().Msg("job sealed")
	log.Warn().Str("job_id", "1").Msg("item retried")
	var line map[string]any
	if err := json.Unmarshal(text.Bytes(), &line); err != nil {
		t.Fatalf("%s: %v", text.String(), err)
	}
	if line["level"] != "warn" || line["message"] != "item retried" || line["job_id"] != "1" {
		t.Errorf("logged %v", line)
	}
	stamp, ok := line["time"].(string)
	if at, err := time.Parse(time.RFC3339, stamp); !ok || err != nil || time.Since(at) > time.Minute || !strings.HasSuffix(stamp, "Z") {
		t.Errorf("the time is %q: %v", stamp, err)
	}
}

func TestLogsForPeople(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := config.Log{Level: "info", Format: "console"}.Logger(&text)
	log.Info().Int("items", 3).Msg("job sealed")
	if got := text.String(); !strings.Contains(got, "INF job sealed items=3") || strings.Contains(got, "\x1b") {
		t.Errorf("logged %q", got)
	}
}

func TestALogGroupThatNobodyFilledLogsFromInfo(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := config.Log{}.Logger(&text)
	log.Debug().Msg("item acked")
	log.Info().Msg("job sealed")
	if got := strings.Count(text.String(), "\n"); got != 1 {
		t.Errorf("logged %q", text.String())
	}
}
