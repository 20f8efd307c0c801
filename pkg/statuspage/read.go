package statuspage

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Source is where the page's figures come from and where its actions go.
type Source interface {
	// Read gives what there is. It is called by one goroutine.
	Read(ctx context.Context) (Reading, error)
	// Steer carries an action to the job's worker and says in a sentence how far
	// it came. Errors: jobstate.ErrNotFound, steer.ErrRefused, and others after which
	// it may be tried again. It may be called from several goroutines.
	Steer(ctx context.Context, job uuid.UUID, action Action) (string, error)
}

// Reading is the installation at one moment.
type Reading struct {
	Jobs   []Job
	Parked []Parked
	Lag    Lag
}

// Job is an export job. Times that are not known are zero.
type Job struct {
	ID, Company string
	// State is a name of the outside contract, such as "active".
	State           string
	Position, Total uint32
	// Pages are those read by a drain so far.
	Pages  uint32
	Epoch  uint64
	Worker string
	Reason string
	// Asked is what an operator asked for and no worker has carried out yet.
	Asked                            Action
	Created, Sealed, Ended, Deadline time.Time
}

// Parked is something that waits for a person.
type Parked struct {
	// Event is true for an event that could not be used; JobID may be empty then.
	Event  bool
	JobID  string
	Reason string
	At     time.Time
}

// Lag is what waits.
type Lag struct {
	JobsWaiting, JobsActive int
	Items                   uint64
	OldestJobAge            time.Duration
}

// Action is what a person may ask for.
type Action string

// The actions.
const (
	Retry  Action = "retry"
	Pause  Action = "pause"
	Resume Action = "resume"
	Cancel Action = "cancel"
)

var actions = []Action{Retry, Pause, Resume, Cancel}

func parseAction(name string) (Action, bool) {
	a := Action(name)
	return a, slices.Contains(actions, a)
}

// actionsFor are the actions that fit a job's state. The source has the last
// word: the state may have changed since it was read.
func actionsFor(state string, asked Action) []Action {
	if asked == Cancel {
		return nil // on its way, and nothing takes it back
	}
	switch state {
	case stateParked:
		return []Action{Retry}
	case statePaused:
		if asked == Resume {
			return []Action{Cancel}
		}
		return []Action{Resume, Cancel}
	case stateSealed, stateActive, stateWaiting:
		if asked == Pause {
			return []Action{Resume, Cancel}
		}
		return []Action{Pause, Cancel}
	case stateReporting:
		return []Action{Cancel}
	default:
		return nil
	}
}

// The states of the outside contract.
const (
	stateDraining  = "draining"
	stateSealed    = "sealed"
	stateActive    = "active"
	stateWaiting   = "waiting"
	statePaused    = "paused"
	stateReporting = "reporting"
	stateCompleted = "completed"
	stateWithFault = "completed_with_errors"
	stateFailed    = "failed"
	stateParked    = "parked"
	stateCancelled = "cancelled"
)

func ended(state string) bool {
	return slices.Contains([]string{stateCompleted, stateWithFault, stateFailed, stateCancelled}, state)
}
