package subject

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/google/uuid"
)

// Buckets of the credentials for Pleo.
const (
	// BucketTokens holds the present OAuth pair of each credential. Whoever may
	// read it may act as the installation at Pleo: NATS permissions guard it.
	BucketTokens = "LEDGERLINE_TOKENS"
	// BucketRate holds the shared budget of each credential's requests. It is the
	// governor's own: nothing is lost with it but what was learnt.
	BucketRate = "LEDGERLINE_RATE"

	// defaultCredential stands for a company in the key of the credential that
	// serves all companies without one of their own.
	defaultCredential = "default"

	// clientIDBytes of a hash tell the few OAuth clients of an installation apart.
	clientIDBytes = 16
)

// CredentialKey names a credential in BucketRate: that of a company, or the
// default one for uuid.Nil.
func CredentialKey(company uuid.UUID) string {
	if company == uuid.Nil {
		return defaultCredential
	}
	return company.String()
}

// TokenKey names the pair of an OAuth client in BucketTokens. One client may be
// authorised by several companies, each with a pair of its own, so both are in
// the key. The client id is hashed: a key cannot hold every character.
func TokenKey(company uuid.UUID, clientID string) string {
	sum := sha256.Sum256([]byte(clientID))
	return CredentialKey(company) + "." + hex.EncodeToString(sum[:clientIDBytes])
}
