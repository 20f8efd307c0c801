package pleo

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// idLength: only the usual form with four hyphens. uuid.Parse also takes
// braces, "urn:uuid:" and bare hex, which would make several spellings of one
// id; ids become subjects and keys.
const idLength = 36

// normalID gives the lower-case form of a UUID in any letter case (trap 20).
func normalID(s string) (string, bool) {
	if len(s) != idLength {
		return "", false
	}
	if _, err := uuid.Parse(s); err != nil {
		return "", false
	}
	return strings.ToLower(s), true
}

// argumentID is normalID for an id that the caller gave.
func argumentID(name, s string) (string, error) {
	id, ok := normalID(s)
	if !ok {
		return "", fmt.Errorf("%w: %s is not a UUID", ErrInvalidArgument, name)
	}
	return id, nil
}

// answerID is normalID for an id in an answer. The value itself stays out of
// the error: what stands in the wrong place may be anything.
func answerID(name, s string) (string, error) {
	id, ok := normalID(s)
	if !ok {
		return "", fmt.Errorf("%w: %s is not a UUID", ErrPageShape, name)
	}
	return id, nil
}
