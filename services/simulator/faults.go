package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Fault is the name of one way to misbehave.
type Fault string

// Transient faults: the same request, sent again, gets through.
const (
	FaultRateLimitSeconds Fault = "rate-limit-seconds" // 429, Retry-After in seconds
	FaultRateLimitDate    Fault = "rate-limit-date"    // 429, Retry-After as an HTTP date
	FaultServerErrors     Fault = "server-errors"      // bursts of 500, 502 (with an HTML body) and 503
	FaultUnauthorized     Fault = "unauthorized"       // 401 although the credential is right
	FaultReset            Fault = "reset"              // connection reset, nothing carried out
	FaultLostReply        Fault = "lost-reply"         // a write is carried out, then the connection is dropped
	FaultCutJSON          Fault = "cut-json"           // the body ends in the middle
	FaultInvalidJSON      Fault = "invalid-json"       // a complete body that is no JSON
	FaultWrongShape       Fault = "wrong-shape"        // JSON of another shape
	FaultOversizedPage    Fault = "oversized-page"     // Config.OversizedBytes of padding in the object
	FaultPartialErrors    Fault = "partial-errors"     // errors[] in the 200 to an update
	FaultStaleRead        Fault = "stale-read"         // after an event the next reads of the job show the old state
)

// Harmless faults: a caller that pages by hasNextPage and endCursor does not
// notice them.
const (
	FaultSlowBody      Fault = "slow-body"      // the body trickles for Config.SlowBody
	FaultShortPages    Fault = "short-pages"    // fewer rows than the limit, not the end
	FaultEmptyPage     Fault = "empty-page"     // no rows, hasNextPage, a new cursor
	FaultDuplicateItem Fault = "duplicate-item" // a page begins with the last row of the one before
	FaultStatusChanges Fault = "status-changes" // another integration sets items in_progress while they are paged
)

// Poisonous faults: they stay with a job. Which jobs (or entries) have them is
// decided by the seed, not by the call.
const (
	FaultRepeatedCursor Fault = "repeated-cursor" // hasNextPage with the cursor that was asked with
	FaultMissingCursor  Fault = "missing-cursor"  // hasNextPage without an endCursor
	FaultForeignItem    Fault = "foreign-item"    // an item of another job on the page
	FaultMissingPayload Fault = "missing-payload" // no export item for some entries
	FaultUnreadableDate Fault = "unreadable-date" // some export items' date is no date
	FaultContraAccounts Fault = "contra-accounts" // 400 MISSING_CONTRA_ACCOUNTS
	FaultExpiry         Fault = "expiry"          // the job expires while it is worked on
	FaultLostRefresh    Fault = "lost-refresh"    // tokens are rotated, the reply is lost
)

type faultNature int

const (
	transient faultNature = iota
	harmless
	poisonous
)

type faultTraits struct {
	nature faultNature
	// rate is the default: for transient and harmless faults per call, for
	// poisonous ones per job (missing-payload, unreadable-date: per entry).
	rate float64
}

var faultTable = map[Fault]faultTraits{
	FaultRateLimitSeconds: {transient, 0.2}, FaultRateLimitDate: {transient, 0.2}, FaultServerErrors: {transient, 0.2},
	FaultUnauthorized: {transient, 0.2}, FaultReset: {transient, 0.2}, FaultLostReply: {transient, 0.3},
	FaultCutJSON: {transient, 0.2}, FaultInvalidJSON: {transient, 0.2}, FaultWrongShape: {transient, 0.2},
	FaultOversizedPage: {transient, 0.2}, FaultPartialErrors: {transient, 0.2}, FaultStaleRead: {transient, 1},

	FaultSlowBody: {harmless, 0.2}, FaultShortPages: {harmless, 0.5}, FaultEmptyPage: {harmless, 0.3},
	FaultDuplicateItem: {harmless, 0.3}, FaultStatusChanges: {harmless, 0.5},

	FaultRepeatedCursor: {poisonous, 1}, FaultMissingCursor: {poisonous, 1}, FaultForeignItem: {poisonous, 1},
	FaultMissingPayload: {poisonous, 0.1}, FaultUnreadableDate: {poisonous, 0.1}, FaultContraAccounts: {poisonous, 1},
	FaultExpiry: {poisonous, 1}, FaultLostRefresh: {poisonous, 1},
}

// FaultNames lists every fault in alphabetical order.
func FaultNames() []Fault {
	names := make([]Fault, 0, len(faultTable))
	for name := range faultTable {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// FaultMode says how often a fault may show.
type FaultMode string

const (
	// FaultNormal: at its rate. Transient faults together hit one and the same
	// request at most 3 times in a row.
	FaultNormal FaultMode = ""
	// FaultOnce: poisonous faults show in the first drain of a job's items only
	// (and contra-accounts on the first call), others on the first call of each
	// operation of a job.
	FaultOnce FaultMode = "once"
	// FaultAlways: at every chance, without a bound.
	FaultAlways FaultMode = "always"
)

// FaultRule switches one fault on.
type FaultRule struct {
	Fault Fault
	// Rate from 0 to 1; 0 is the fault's default.
	Rate float64
	Mode FaultMode
}

// FaultPlan is a set of rules. The zero value injects nothing.
type FaultPlan []FaultRule

// The named sets hold only what a caller that follows the reference survives.
var faultSets = map[string]FaultPlan{
	"none": {},
	"some": {
		{Fault: FaultRateLimitSeconds, Rate: 0.01}, {Fault: FaultRateLimitDate, Rate: 0.005}, {Fault: FaultServerErrors, Rate: 0.015},
		{Fault: FaultReset, Rate: 0.01}, {Fault: FaultCutJSON, Rate: 0.01}, {Fault: FaultInvalidJSON, Rate: 0.005},
		{Fault: FaultUnauthorized, Rate: 0.005}, {Fault: FaultLostReply, Rate: 0.02}, {Fault: FaultPartialErrors, Rate: 0.01},
		{Fault: FaultSlowBody, Rate: 0.01}, {Fault: FaultShortPages, Rate: 0.1}, {Fault: FaultEmptyPage, Rate: 0.05},
		{Fault: FaultDuplicateItem, Rate: 0.1}, {Fault: FaultStatusChanges, Rate: 0.05},
	},
	"storm": {
		{Fault: FaultRateLimitSeconds, Rate: 0.04}, {Fault: FaultRateLimitDate, Rate: 0.02}, {Fault: FaultServerErrors, Rate: 0.06},
		{Fault: FaultReset, Rate: 0.05}, {Fault: FaultCutJSON, Rate: 0.05}, {Fault: FaultInvalidJSON, Rate: 0.03},
		{Fault: FaultUnauthorized, Rate: 0.02}, {Fault: FaultLostReply, Rate: 0.1}, {Fault: FaultPartialErrors, Rate: 0.1},
		{Fault: FaultSlowBody, Rate: 0.05}, {Fault: FaultShortPages, Rate: 0.4}, {Fault: FaultEmptyPage, Rate: 0.2},
		{Fault: FaultDuplicateItem, Rate: 0.3}, {Fault: FaultStatusChanges, Rate: 0.3},
	},
}

// ParseFaults reads a plan: "none", "some", "storm", or fault names, separated by
// commas; a name may carry a rate and a mode: "reset@0.5", "foreign-item:once",
// "server-errors:always". Later parts replace earlier ones of the same fault, so
// "some,reset@0.9" is "some" with many resets.
func ParseFaults(text string) (FaultPlan, error) {
	var plan FaultPlan
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if set, ok := faultSets[part]; ok {
			for _, rule := range set {
				plan = plan.with(rule)
			}
			continue
		}
		name, mode, _ := strings.Cut(part, ":")
		name, rate, hasRate := strings.Cut(name, "@")
		rule := FaultRule{Fault: Fault(name), Mode: FaultMode(mode)}
		if hasRate {
			value, err := strconv.ParseFloat(rate, 64)
			if err != nil || value <= 0 {
				return nil, fmt.Errorf("%w: rate %q of %q is no number above 0", ErrFaultUnknown, rate, name)
			}
			rule.Rate = value
		}
		if problems := (FaultPlan{rule}).validate(); len(problems) > 0 {
			return nil, problems[0]
		}
		plan = plan.with(rule)
	}
	return plan, nil
}

func (p FaultPlan) with(rule FaultRule) FaultPlan {
	p = slices.DeleteFunc(slices.Clone(p), func(have FaultRule) bool { return have.Fault == rule.Fault })
	return append(p, rule)
}

func (p FaultPlan) validate() []error {
	var problems []error
	for _, rule := range p {
		if _, known := faultTable[rule.Fault]; !known {
			problems = append(problems, fmt.Errorf("%w: %q; known are none, some, storm and %v", ErrFaultUnknown, rule.Fault, FaultNames()))
			continue
		}
		if rule.Rate < 0 || rule.Rate > 1 {
			problems = append(problems, fmt.Errorf("%w: rate %g of %s is not between 0 and 1", ErrFaultUnknown, rule.Rate, rule.Fault))
		}
		if rule.Mode != FaultNormal && rule.Mode != FaultOnce && rule.Mode != FaultAlways {
			problems = append(problems, fmt.Errorf("%w: mode %q of %s, known are once and always", ErrFaultUnknown, rule.Mode, rule.Fault))
		}
	}
	return problems
}

// faultPlanner decides. Its rules are fixed; its counters are guarded by
// Simulator.mu and kept per operation and job, so they are bounded by the jobs.
type faultPlanner struct {
	seed    uint64
	rules   map[Fault]FaultRule
	calls   map[faultScope]int
	drains  map[faultScope]int
	streaks map[string]int // request key: transient faults in a row; absent is 0
	entries map[entryScope]int
	shown   map[Fault]int64
}

type faultScope struct {
	operation string
	job       uuid.UUID
}

type entryScope struct{ job, entry uuid.UUID }

func newFaultPlanner(seed uint64, plan FaultPlan) *faultPlanner {
	p := &faultPlanner{
		seed: seed, rules: map[Fault]FaultRule{}, calls: map[faultScope]int{}, drains: map[faultScope]int{},
		streaks: map[string]int{}, entries: map[entryScope]int{}, shown: map[Fault]int64{},
	}
	for _, rule := range plan {
		if rule.Rate == 0 {
			rule.Rate = faultTable[rule.Fault].rate
		}
		if rule.Mode == FaultAlways {
			rule.Rate = 1
		}
		p.rules[rule.Fault] = rule
	}
	return p
}

// callFaults is what is known of one request when its faults are decided.
type callFaults struct {
	planner *faultPlanner
	scope   faultScope
	n       int    // nth call of the scope, from 1
	request string // key of this very request
	drain   int    // nth drain of the scope, from 1; set by paging
}

// begin counts a call.
func (p *faultPlanner) begin(operation string, job uuid.UUID, request string) *callFaults {
	scope := faultScope{operation, job}
	p.calls[scope]++
	return &callFaults{planner: p, scope: scope, n: p.calls[scope], request: operation + " " + job.String() + " " + request}
}

// hit decides a transient or harmless fault for this call.
func (c *callFaults) hit(fault Fault) bool {
	rule, on := c.planner.rules[fault]
	if !on {
		return false
	}
	if rule.Mode == FaultOnce {
		return c.n == 1
	}
	return chance(c.roll(fault, c.n), rule.Rate)
}

func (c *callFaults) roll(fault Fault, n int) uint64 {
	return hash(c.planner.seed, string(fault), c.scope.job.String(), c.scope.operation, strconv.Itoa(n))
}

// transient decides which transient fault of the given ones this call suffers, if
// any. The same request is spared after maxConsecutiveFails in a row, unless the
// rule says always.
func (c *callFaults) transient(candidates ...Fault) (Fault, bool) {
	for _, fault := range candidates {
		if fault == FaultServerErrors && c.inBurst() || fault != FaultServerErrors && c.hit(fault) {
			if c.planner.rules[fault].Mode != FaultAlways && c.planner.streaks[c.request] >= maxConsecutiveFails {
				continue
			}
			if len(c.planner.streaks) >= maxStreaks {
				clear(c.planner.streaks) // callers that gave up; nobody misses these
			}
			c.planner.streaks[c.request]++
			c.note(fault)
			return fault, true
		}
	}
	return "", false
}

// maxBurst is how many calls of an operation one burst of server errors covers.
const maxBurst = 3

func (c *callFaults) inBurst() bool {
	if c.planner.rules[FaultServerErrors].Mode == FaultOnce {
		return c.n == 1
	}
	for back := range min(maxBurst, c.n) {
		rule, on := c.planner.rules[FaultServerErrors]
		h := c.roll(FaultServerErrors, c.n-back)
		if on && chance(h, rule.Rate) && back <= int(h%maxBurst) {
			return true
		}
	}
	return false
}

// succeeded ends the request's streak.
func (c *callFaults) succeeded() { delete(c.planner.streaks, c.request) }

// note counts a fault that is being shown.
func (c *callFaults) note(fault Fault) { c.planner.shown[fault]++ }

// poisoned decides a poisonous fault of this job. Once means: in its first drain.
func (c *callFaults) poisoned(fault Fault) bool {
	rule, on := c.planner.rules[fault]
	if !on || c.scope.job == uuid.Nil {
		return false
	}
	if rule.Mode == FaultOnce && (c.drain > 1 || c.scope.operation == OpListExportItems && fault != FaultContraAccounts) {
		return false
	}
	return chance(hash(c.planner.seed, string(fault), c.scope.job.String()), rule.Rate)
}

// poisonedEntry decides missing-payload and unreadable-date for one entry.
func (c *callFaults) poisonedEntry(fault Fault, entry uuid.UUID) bool {
	rule, on := c.planner.rules[fault]
	if !on || rule.Mode == FaultOnce && c.drain > 1 {
		return false
	}
	return chance(hash(c.planner.seed, string(fault), c.scope.job.String(), entry.String()), rule.Rate)
}

// refuseEntry decides partial-errors for one entry of an update.
func (c *callFaults) refuseEntry(entry uuid.UUID) bool {
	rule, on := c.planner.rules[FaultPartialErrors]
	if !on {
		return false
	}
	scope := entryScope{c.scope.job, entry}
	tried := c.planner.entries[scope]
	if rule.Mode == FaultAlways {
		return true
	}
	refused := tried < maxErrorsPerEntry && chance(hash(c.planner.seed, string(FaultPartialErrors),
		c.scope.job.String(), entry.String(), strconv.Itoa(tried)), rule.Rate)
	if rule.Mode == FaultOnce {
		refused = c.n == 1
	}
	if refused {
		c.planner.entries[scope] = tried + 1
		return true
	}
	delete(c.planner.entries, scope)
	return false
}

// expiryCall is the call of a started job at which it expires by fault; 0: never.
func (p *faultPlanner) expiryCall(job uuid.UUID) int {
	rule, on := p.rules[FaultExpiry]
	h := hash(p.seed, string(FaultExpiry), job.String())
	if !on || !chance(h, rule.Rate) {
		return 0
	}
	return 2 + int(h%6)
}
