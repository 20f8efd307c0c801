package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

const (
	// MaxSecretBytes bounds a secret's file. The longest secrets are signed tokens
	// of a few KB; a larger file is the wrong one.
	MaxSecretBytes = 64 << 10

	redacted = "[redacted]"
)

// Secret is a value that must not be seen in logs, errors or on a screen:
// however it is printed or marshalled, it shows [redacted]. It comes from a
// setting itself, or from a file that is read again whenever it has changed, so
// that a rotated secret needs no restart. The zero Secret is one that is not set.
//
// Copies share what was read; Value may be called from several goroutines.
type Secret struct {
	// A pointer to a function, since fmt prints an unexported field by its
	// memory, whatever String says, and follows a pointer to a struct.
	reveal *func() (string, error)
}

// secretFile is a file and what was last read of it.
type secretFile struct {
	path string

	mu    sync.Mutex
	value string
	read  os.FileInfo // of the file that value was read from; nil before the first read
}

// NewSecret is a secret given as it is. An empty value is one that is not set.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	reveal := func() (string, error) { return value, nil }
	return Secret{&reveal}
}

// SecretFromFile is a secret that is read from a file at each change. An empty
// path is a secret that is not set.
func SecretFromFile(path string) Secret {
	if path == "" {
		return Secret{}
	}
	reveal := (&secretFile{path: path}).current
	return Secret{&reveal}
}

// IsSet tells whether a value or a file was given.
func (s Secret) IsSet() bool { return s.reveal != nil }

// Value is the secret, without one newline at its end; empty where none is set.
// The file, if it is one, is looked at on every call and read where its identity,
// size or time has changed. Errors: ErrSecretFile, which names the path and never
// the content.
func (s Secret) Value() (string, error) {
	if s.reveal == nil {
		return "", nil
	}
	return (*s.reveal)()
}

func (f *secretFile) current() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := os.Stat(f.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	if f.unchanged(now) {
		return f.value, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	// The state is taken before the content: a write in between leaves an older
	// state behind, and the next call reads again.
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretFile, errors.Join(err, file.Close()))
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxSecretBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	if len(content) > MaxSecretBytes {
		return "", fmt.Errorf("%w: %s is larger than %d bytes", ErrSecretFile, f.path, MaxSecretBytes)
	}
	value := trimNewline(string(content))
	if value == "" {
		return "", fmt.Errorf("%w: %s is empty", ErrSecretFile, f.path)
	}
	f.value, f.read = value, info
	return value, nil
}

// unchanged compares identity besides size and time, because a mounted secret
// is rotated by pointing a link at another file.
func (f *secretFile) unchanged(now os.FileInfo) bool {
	return f.read != nil && os.SameFile(f.read, now) &&
		f.read.Size() == now.Size() && f.read.ModTime().Equal(now.ModTime())
}

func trimNewline(s string) string {
	s = strings.TrimSuffix(s, "\n")
	return strings.TrimSuffix(s, "\r")
}

// String is [redacted], or empty where no secret is set.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return redacted
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// MarshalText is String, for every encoder that asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
