package jobstate

import (
	"strings"

	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
)

// PhaseName is the name of a phase as the operator's commands print it, e.g.
// "completed_with_errors".
func PhaseName(phase ledgerlinev1.JobPhase) string {
	return strings.ToLower(strings.TrimPrefix(phase.String(), "JOB_PHASE_"))
}
