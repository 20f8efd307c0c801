package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// secretWord is in every secret of the transcripts and must be in no output.
const secretWord = "hush"

// TestTranscripts runs what stands after "$" in testdata/transcripts and
// compares the output: the faults and the exit code, or the settings in effect.
// `go test ./config -update` writes the files anew; read the difference.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "transcripts", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			comment := false
			for line := range strings.Lines(string(content)) {
				switch {
				case strings.HasPrefix(line, "#"):
					if !comment {
						got.WriteString("\n")
					}
					got.WriteString(line)
					comment = true
				case strings.HasPrefix(line, "$ "):
					if !comment {
						got.WriteString("\n")
					}
					got.WriteString(line)
					comment = false
					output := run(t, strings.TrimSpace(line[2:]))
					if strings.Contains(output, secretWord) {
						t.Errorf("%sthe output shows a secret:\n%s", line, output)
					}
					got.WriteString(output)
				}
			}
			text := strings.TrimLeft(got.String(), "\n")
			if *update {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if text != string(content) {
				t.Errorf("got:\n%s\nwant:\n%s", text, content)
			}
		})
	}
}

// run does one line: NAME=value words, a program, its arguments. Words with
// blanks stand in single quotes.
func run(t *testing.T, line string) string {
	t.Helper()
	words := splitWords(line)
	start := slices.IndexFunc(words, func(w string) bool { return programs[w] != nil })
	if start < 0 {
		t.Fatalf("no program in %q", line)
	}
	name := words[start]
	var stdout bytes.Buffer
	loaded, err := config.Load(config.Program{
		Name: name, Description: "A program of these tests.", Version: "v1.2.3",
		Args: words[start+1:], Environ: words[:start], Stdout: &stdout, Stderr: &bytes.Buffer{},
	}, programs[name]())
	var faults *config.Error
	switch {
	case errors.Is(err, config.ErrHandled):
		return stdout.String() + "exit 0\n"
	case errors.As(err, &faults):
		return faults.Error() + fmt.Sprintf("\nexit %d\n", faults.ExitCode())
	case err != nil:
		t.Fatalf("%s: %v", line, err)
	}
	return inEffect(t, loaded)
}

// inEffect is the event of the settings, a line each, without the defaults that
// every line would repeat.
func inEffect(t *testing.T, loaded *config.Loaded) string {
	t.Helper()
	var b strings.Builder
	if command := loaded.Command.Command(); command != "" {
		fmt.Fprintf(&b, "command %s\n", command)
	}
	got, usual := record(t, loaded), map[string]any{}
	if program := loaded.Command.Model.Name; program != "ledgerline" {
		plain, err := config.Load(config.Program{Name: program, Environ: []string{"LEDGERLINE_PLEO_TOKEN=x"}, Stderr: &b}, programs[program]())
		if err != nil {
			t.Fatal(err)
		}
		usual = record(t, plain)
		delete(usual, "pleo_token")
	}
	var fields []string
	for field, value := range got {
		if usual[field] != value && field != "message" && field != "level" {
			fields = append(fields, fmt.Sprintf("  %s = %v\n", field, value))
		}
	}
	slices.Sort(fields)
	return b.String() + strings.Join(fields, "")
}

func record(t *testing.T, loaded *config.Loaded) map[string]any {
	t.Helper()
	var line bytes.Buffer
	log := zerolog.New(&line)
	loaded.Record(log.Info())
	var fields map[string]any
	if err := json.Unmarshal(line.Bytes(), &fields); err != nil {
		t.Fatalf("%s: %v", line.String(), err)
	}
	return fields
}

// splitWords splits at blanks outside of single quotes.
func splitWords(line string) []string {
	var words []string
	quoted, word, open := false, "", false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open {
				words = append(words, word)
			}
			word, open = "", false
		default:
			word += string(r)
			open = true
		}
	}
	if open {
		words = append(words, word)
	}
	return words
}
