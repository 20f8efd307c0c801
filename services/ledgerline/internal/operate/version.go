package operate

import "runtime"

// Version is `ledgerline version`.
type Version struct{}

// Run prints the version.
func (c *Version) Run(s *Session) error {
	answer := struct {
		Version string `json:"version"`
		Go      string `json:"go"`
	}{s.Runtime.Version, runtime.Version()}
	return s.print(answer, func() error { return s.printf("ledgerline %s\n", s.Runtime.Version) })
}
