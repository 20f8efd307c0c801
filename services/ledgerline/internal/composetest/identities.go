package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// natsAuth makes and rotates identities, as an operator has it.
const natsAuth = "scripts/nats-auth"

// signUsers makes signed users and certificates for deploy/secure.yml.
func (s *stack) signUsers(ctx context.Context) error {
	s.identities = filepath.Join(s.work, "nats-auth")
	args := []string{"create", s.identities, "--at", "/etc/nats-auth", "--host", "127.0.0.1"}
	for _, node := range nodes {
		args = append(args, "--host", node)
	}
	s.env = append(s.env, "NATS_AUTH="+s.identities)
	_, err := s.run(ctx, natsAuth, args...)
	return err
}

// credentials is the file that tells who a user is.
func (s *stack) credentials(user string) string {
	return filepath.Join(s.identities, "creds", user+".creds")
}

// authority is the certificate of who signed the servers'.
func (s *stack) authority() string { return filepath.Join(s.identities, "tls", "ca.pem") }

// rotate gives the fetchers new credentials, as docs/operations.md tells, and sees that
// no server takes the old ones any more.
func (s *stack) rotate(ctx context.Context, _ []uuid.UUID) error {
	const user = "fetcher"
	old := filepath.Join(s.work, "old.creds")
	kept, err := os.ReadFile(s.credentials(user))
	if err != nil {
		return fmt.Errorf("keep the old credentials: %w", err)
	}
	if err := os.WriteFile(old, kept, 0o600); err != nil { //nolint:gosec // in a folder of its own
		return fmt.Errorf("keep the old credentials: %w", err)
	}
	if _, err := s.run(ctx, natsAuth, "rotate", s.identities, user); err != nil {
		return err
	}
	if _, err := s.composed(ctx, "run", "-T", "--rm", "--no-deps", "identities"); err != nil {
		return err
	}
	if _, err := s.composed(ctx, append([]string{"kill", "-s", "HUP"}, nodes...)...); err != nil {
		return err
	}
	if err := s.upOnly(ctx, "--no-deps", "--force-recreate", "--scale", "fetcher=2", user); err != nil {
		return err
	}
	for _, node := range nodes {
		err := s.wait(ctx, node+" to refuse the old credentials", func() (string, error) {
			err := s.signInBy(ctx, node, old)
			if err == nil {
				return "they are taken", nil
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				return "", err
			}
			return "", nil
		})
		if err != nil {
			return err
		}
		if err := s.signInBy(ctx, node, s.credentials(user)); err != nil {
			return fmt.Errorf("%s: the new credentials: %w", node, err)
		}
	}
	return nil
}

// signInBy tells whether a NATS server takes credentials.
func (s *stack) signInBy(ctx context.Context, node, credentials string) error {
	address, err := s.address(ctx, node, "4222")
	if err != nil {
		return err
	}
	conn, err := nats.Connect("nats://"+address, nats.UserCredentials(credentials), nats.RootCAs(s.authority()), nats.Timeout(requestLimit),
		nats.IgnoreDiscoveredServers()) // their addresses are inside
	if err == nil {
		conn.Close()
	}
	return err
}
