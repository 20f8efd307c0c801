package jobview

import (
	"fmt"

	"github.com/ledgerline/ledgerline/pkg/jobstate"
)

// ErrUnknown is returned when neither bucket nor ledger knows a job.
var ErrUnknown = fmt.Errorf("%w; `ledgerline jobs` lists the ones that are", jobstate.ErrNotFound)
