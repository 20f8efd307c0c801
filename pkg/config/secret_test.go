package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/config"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, secretWord)
	for name, secret := range map[string]config.Secret{
		"literal": config.NewSecret(secretWord), "file": config.SecretFromFile(file),
	} {
		if value, err := secret.Value(); err != nil || value != secretWord {
			t.Errorf("%s: the value is %q: %v", name, value, err)
		}
		inside := struct{ Token config.Secret }{secret}
		hidden := struct{ token config.Secret }{secret}
		var log bytes.Buffer
		logger := zerolog.New(&log)
		logger.Info().Interface("a", secret).Interface("b", inside).Stringer("c", secret).Any("d", &inside).Msg("event")
		marshalled, err := json.Marshal(map[string]any{"a": secret, "b": &inside, "c": map[config.Secret]int{secret: 1}})
		if err != nil {
			t.Fatal(err)
		}
		text := log.String() + string(marshalled)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text += fmt.Sprintf(verb+verb+verb+verb, secret, &secret, inside, hidden)
		}
		if strings.Contains(text, secretWord) || strings.Contains(text, fmt.Sprintf("%x", secretWord)) {
			t.Errorf("%s: %s", name, text)
		}
		if !strings.Contains(fmt.Sprint(inside), "[redacted]") {
			t.Errorf("%s: prints as %v", name, inside)
		}
	}
}

func TestNoSecretIsNoValue(t *testing.T) {
	t.Parallel()
	for _, secret := range []config.Secret{{}, config.NewSecret(""), config.SecretFromFile("")} {
		if value, err := secret.Value(); secret.IsSet() || value != "" || err != nil || secret.String() != "" {
			t.Errorf("set is %v, value %q, text %q: %v", secret.IsSet(), value, secret, err)
		}
	}
}

func TestASecretFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	write(t, file, "first\n")
	secret := config.SecretFromFile(file)
	expect(t, secret, "first")

	// Of another size.
	write(t, file, "second one\r\n")
	expect(t, secret, "second one")

	// Of the same size, later.
	write(t, file, "third  one\r\n")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(file, later, later); err != nil {
		t.Fatal(err)
	}
	expect(t, secret, "third  one")

	// Another file in its place, of the same size and time.
	next := filepath.Join(dir, "next")
	write(t, next, "fourth one\r\n")
	if err := os.Chtimes(next, later, later); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
	expect(t, secret, "fourth one")

	// Gone, and back.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Value(); !errors.Is(err, config.ErrSecretFile) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
	write(t, file, "fifth\n\n")
	expect(t, secret, "fifth\n") // one newline is the editor's, the second is meant
}

func TestASecretFileIsBounded(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, strings.Repeat("x", config.MaxSecretBytes))
	expect(t, config.SecretFromFile(file), strings.Repeat("x", config.MaxSecretBytes))
	write(t, file, strings.Repeat("x", config.MaxSecretBytes+1))
	for name, path := range map[string]string{"too large": file, "a directory": t.TempDir(), "missing": file + "x"} {
		if _, err := config.SecretFromFile(path).Value(); !errors.Is(err, config.ErrSecretFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, file, "\n")
	if _, err := config.SecretFromFile(file).Value(); !errors.Is(err, config.ErrSecretFile) {
		t.Errorf("empty: %v", err)
	}
}

func TestASecretIsReadByManyAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, "one\n")
	secret := config.SecretFromFile(file)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() { expect(t, secret, "one") })
	}
	readers.Wait()
}

func expect(t *testing.T, secret config.Secret, want string) {
	t.Helper()
	if got, err := secret.Value(); err != nil || got != want {
		t.Errorf("got %q, want %q: %v", got, want, err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
