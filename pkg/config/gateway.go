package config

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	signingKeyPrefix = "whsec_"

	// maxSigningKeys bounds the keys that one signature is compared with. Rotating
	// takes two.
	maxSigningKeys = 8

	// minSigningKeyBytes keeps a word that was typed in place of a secret out.
	minSigningKeyBytes = 16

	uuidLength = 36 // the library takes other spellings as well
)

// Gateway is what only the gateway asks for.
type Gateway struct {
	CompanyID     string        `name:"company-id" env:"LEDGERLINE_COMPANY_ID" placeholder:"UUID" help:"Look at this company only."`
	WebhookSecret Secret        `name:"webhook-secret" env:"LEDGERLINE_WEBHOOK_SECRET" placeholder:"whsec_…" help:"Webhook secret; several with blanks between them while rotating."`
	PollInterval  time.Duration `name:"poll-interval" env:"LEDGERLINE_POLL_INTERVAL" default:"2m" help:"How often Pleo is asked for jobs after the start; 0 is at the start only."`
}

func (c *Gateway) settle() { c.CompanyID = strings.ToLower(c.CompanyID) }

// Validate returns every fault of the group.
func (c Gateway) Validate() (faults Faults) {
	if c.CompanyID != "" {
		if _, err := uuid.Parse(c.CompanyID); err != nil || len(c.CompanyID) != uuidLength {
			faults.Add("LEDGERLINE_COMPANY_ID", "is not a UUID", "give the company's id, or leave it out for all companies")
		}
	}
	if _, err := c.SigningKeys(); err != nil {
		faults.Add("LEDGERLINE_WEBHOOK_SECRET", err.Error(), "give the whsec_… that Pleo showed, several with blanks between them")
	}
	if c.PollInterval < 0 {
		faults.Add("LEDGERLINE_POLL_INTERVAL", "is below 0", "give a duration such as 2m, or 0 for the start only")
	}
	return faults
}

// SigningKeys are the keys that a webhook's signature may be made with, none
// where no secret is set. The secret's file is read again where it has changed.
// Errors: ErrSecretFile, ErrSigningKey; neither quotes a secret.
func (c Gateway) SigningKeys() ([][]byte, error) {
	text, err := c.WebhookSecret.Value()
	if err != nil {
		return nil, err
	}
	words := strings.Fields(text)
	if len(words) > maxSigningKeys {
		return nil, fmt.Errorf("%w: more than %d are given", ErrSigningKey, maxSigningKeys)
	}
	keys := make([][]byte, 0, len(words))
	for i, word := range words {
		encoded, found := strings.CutPrefix(word, signingKeyPrefix)
		if !found {
			return nil, fmt.Errorf("%w: number %d does not begin with %s", ErrSigningKey, i+1, signingKeyPrefix)
		}
		key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			return nil, fmt.Errorf("%w: number %d is not base64 after %s", ErrSigningKey, i+1, signingKeyPrefix)
		}
		if len(key) < minSigningKeyBytes {
			return nil, fmt.Errorf("%w: number %d is shorter than %d bytes", ErrSigningKey, i+1, minSigningKeyBytes)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
