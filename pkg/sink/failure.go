package sink

import "fmt"

// defaultFailureType stands where the sink named no type, or none that the
// upstream API knows: the accounting system rejected the entry.
const defaultFailureType = "accounting_system_validation_failure"

// maxFailureTypeBytes bounds a type that the upstream API does not know and
// that is therefore kept in the text; the longest known one has 39 bytes.
const maxFailureTypeBytes = 64

// failureTypes are the item failure types of the upstream API's version 3
// (failureReasonType of an update of export job items), all of them. Anything
// else would make Pleo refuse the report.
var failureTypes = map[string]bool{
	"receipt_upload_failure":                   true,
	"receipt_download_failure":                 true,
	"receipt_file_size_limit_exceeded":         true,
	"receipt_conversion_failure":               true,
	"unexpected_failure":                       true,
	"invalid_configuration":                    true,
	"missing_configuration":                    true,
	"accounting_system_authentication_failure": true,
	"accounting_system_rate_limit":             true,
	"accounting_system_unreachable":            true,
	"accounting_system_timeout":                true,
	"validation_failure":                       true,
	defaultFailureType:                         true,
	"authorization_failure":                    true,
	"vendor_unknown":                           true,
	"account_unknown":                          true,
	"tax_code_unknown":                         true,
	"tag_unknown":                              true,
}

// classify gives the reason and the type to report for a failed item: missing
// where the sink gave no reason, and an unknown type kept in the text, as in
// "Vendor blocked (vendor_locked)".
func classify(reason, kind, missing string) (text, failureType string) {
	if reason == "" {
		reason = missing
	}
	if failureTypes[kind] {
		return reason, kind
	}
	if kind == "" {
		return reason, defaultFailureType
	}
	// The reason makes room: without the type nobody can look it up in the
	// sink's own manual.
	kept := fmt.Sprintf(" (%s)", kind)
	return clean(reason, MaxFailureReasonBytes-len(kept)) + kept, defaultFailureType
}
