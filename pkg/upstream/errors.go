package upstream

import "errors"

// ErrNoCredential is returned when a company has no credential of its own and
// there is no default one.
var ErrNoCredential = errors.New("no credential for this company")
