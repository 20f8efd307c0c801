package config_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ledgerline/ledgerline/pkg/config"
)

func TestSigningKeysFollowTheFile(t *testing.T) {
	t.Parallel()
	const one, two = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dg=="
	file := filepath.Join(t.TempDir(), "webhook")
	write(t, file, one+"\n")
	gateway := config.Gateway{WebhookSecret: config.SecretFromFile(file)}
	keys, err := gateway.SigningKeys()
	if err != nil || len(keys) != 1 || string(keys[0]) != "01234567890123456789" {
		t.Fatalf("got %q: %v", keys, err)
	}
	write(t, file, one+" \t"+two+"\n")
	if keys, err = gateway.SigningKeys(); err != nil || len(keys) != 2 || string(keys[1]) != "abcdefghijklmnopqrstuv" {
		t.Errorf("got %q: %v", keys, err)
	}
	write(t, file, strings.Repeat(one+" ", 9))
	if _, err = gateway.SigningKeys(); !errors.Is(err, config.ErrSigningKey) {
		t.Errorf("nine: %v", err)
	}
	if keys, err := (config.Gateway{}).SigningKeys(); err != nil || len(keys) != 0 {
		t.Errorf("none: %q, %v", keys, err)
	}
}

func TestTheEmbeddedServersLoginIsForAnOpenedAddress(t *testing.T) {
	t.Parallel()
	c := config.Embedded{User: config.NewSecret("worker"), Password: config.NewSecret("hush")}
	if user, password, err := c.Login(); user != "" || password != "" || err != nil {
		t.Errorf("not opened: %q, %q, %v", user, password, err)
	}
	c.Listen = "127.0.0.1:0"
	if user, password, err := c.Login(); user != "worker" || password != "hush" || err != nil {
		t.Errorf("opened: %q, %q, %v", user, password, err)
	}
	c.Password = config.SecretFromFile(filepath.Join(t.TempDir(), "missing"))
	if _, _, err := c.Login(); !errors.Is(err, config.ErrSecretFile) {
		t.Errorf("missing: %v", err)
	}
}
