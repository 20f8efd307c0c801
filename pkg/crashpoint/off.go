//go:build !crashpoints

package crashpoint

// Before is the moment before a step's effect.
func Before(Step) {}

// After is the moment after it, before anything else happens.
func After(Step) {}
