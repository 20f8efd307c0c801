package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A configuration file of any content is read or refused: every fault names a line
// of it and none quotes a value, which may be a secret in the wrong place.
func FuzzFile(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, text := range []string{"", "a", "[", "? a\n: b", "&a *a", "pleo: {token: x}", "pleo-credentials:\n- {}\n", "- a\n", "a: |\n b\n", "\xff", "--- a\n--- b\n", "pleo-credentials: [[]]"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 64<<10 {
			t.Skip("as long as its bound lets it be, a file only takes longer")
		}
		file := &settingsFile{path: "c.yaml", values: map[string]fileValue{}}
		file.parse(content)
		for _, fault := range file.faults {
			if !strings.HasPrefix(fault.Setting, "c.yaml:") || fault.Problem == "" || fault.WayOut == "" {
				t.Errorf("a fault that helps nobody: %+v", fault)
			}
		}
		for name := range file.values {
			if !knownInFile(name) {
				t.Errorf("%q is taken for a setting", name)
			}
		}
		if len(file.credentials) > MaxCredentials {
			t.Errorf("%d credentials", len(file.credentials))
		}
	})
}
