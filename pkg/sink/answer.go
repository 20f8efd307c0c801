package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxAnswerBytes bounds what is read of an answer. An answer is an id, a
	// link and a sentence; an error page or a runaway sink must not fill memory
	// once for each job that runs.
	MaxAnswerBytes = 64 << 10
	// MaxExternalIDBytes bounds an externalId. The longest ids of accounting
	// systems are some tens of characters, and each one is kept in the ledger
	// for as long as the booking is remembered.
	MaxExternalIDBytes = 256
	// MaxExternalURLBytes bounds an externalUrl by what every browser opens.
	MaxExternalURLBytes = 2048
	// MaxFailureReasonBytes bounds a failureReason: some sentences for a
	// bookkeeper, not a stack trace. A hundred of them go in one report.
	MaxFailureReasonBytes = 1024
	// MaxDetailBytes bounds an Answer's Detail: a log line that can be read.
	MaxDetailBytes = 512
	// MaxRetryAfter bounds what a sink may ask for. A job at Pleo runs out an
	// hour after its last update: one wrong figure (milliseconds given as
	// seconds) must leave it several tries, and a sink that means a longer wait
	// loses nothing by being asked again.
	MaxRetryAfter = 15 * time.Minute
)

// Outcome is what an answer means for the job.
type Outcome uint8

// The outcomes. The zero value is none of them, so that an Answer somebody
// forgot to fill is never taken for a booking.
const (
	Booked  Outcome = iota + 1 // booked, now or earlier: record it, go on
	Failed                     // permanently failed: record it, go on or stop
	Stale                      // a newer worker has the job: drop it, record nothing
	Retry                      // no verdict: the same item again, after a wait
	Refused                    // the sink refuses us, not the item: as Retry, and alert
)

var outcomeNames = [...]string{Booked: "booked", Failed: "failed", Stale: "stale", Retry: "retry", Refused: "refused"}

// String is the outcome's name in an answer over exec: and nats:.
func (o Outcome) String() string {
	if o < Booked || o > Refused {
		return "unknown"
	}
	return outcomeNames[o]
}

func outcomeNamed(name string) (Outcome, bool) {
	for o := Booked; o <= Refused; o++ {
		if outcomeNames[o] == name {
			return o, true
		}
	}
	return 0, false
}

// Answer is what came of one transmission.
type Answer struct {
	Outcome Outcome
	// ExternalID and ExternalURL name the booking, where the sink named it;
	// with Booked only.
	ExternalID, ExternalURL string
	// FailureReason is never empty with Failed, and FailureReasonType then is
	// one of the upstream API's item failure types; both are empty otherwise.
	FailureReason, FailureReasonType string
	// RetryAfter is how long the sink asked to be left alone, with Retry and
	// Refused; 0 = it did not ask. At most MaxRetryAfter.
	RetryAfter time.Duration
	// Detail is what a person needs to see in a log line or a job's reason, in
	// one line of at most MaxDetailBytes; never a secret or a payload. It can
	// stand with any outcome: with Booked it tells what was ignored or cut.
	Detail string
}

// wireAnswer is the JSON of an answer. No field of the wrong kind spoils the
// others: a booking stays a booking though its link is a number.
type wireAnswer struct {
	Outcome           looseText    `json:"outcome"`
	ExternalID        looseText    `json:"externalId"`
	ExternalURL       looseText    `json:"externalUrl"`
	FailureReason     looseText    `json:"failureReason"`
	FailureReasonType looseText    `json:"failureReasonType"`
	RetryAfterSeconds looseSeconds `json:"retryAfterSeconds"`
}

// looseText takes a string, or a number as its own text: many accounting
// systems number their bookings, and a float would round a long number.
type looseText struct {
	text string
	odd  bool // something else was given
}

func (t *looseText) UnmarshalJSON(b []byte) error {
	*t = looseText{}
	switch {
	case string(b) == "null":
	case b[0] == '"':
		return json.Unmarshal(b, &t.text)
	case b[0] == '-' || b[0] >= '0' && b[0] <= '9':
		t.text = string(b)
	default:
		t.odd = true
	}
	return nil
}

type looseSeconds struct {
	wait time.Duration
	odd  bool
}

func (s *looseSeconds) UnmarshalJSON(b []byte) error {
	*s = looseSeconds{}
	if string(b) == "null" {
		return nil
	}
	text := strings.Trim(string(b), `"`)
	seconds, err := strconv.ParseFloat(text, 64)
	if math.IsNaN(seconds) || (err != nil && !math.IsInf(seconds, 0)) {
		s.odd = true
		return nil
	}
	s.wait = boundWait(seconds)
	return nil
}

// boundWait compares before it converts: a large float overflows a Duration.
func boundWait(seconds float64) time.Duration {
	switch {
	case seconds <= 0:
		return 0
	case seconds >= MaxRetryAfter.Seconds():
		return MaxRetryAfter
	}
	return time.Duration(seconds * float64(time.Second))
}

// parseRetryAfter reads a Retry-After header: seconds or an HTTP date. What is
// neither, is negative or lies in the past is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseFloat(value, 64) // out of range is +Inf
		return boundWait(seconds)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter) // Sub saturates
}

// jsonSpace is what JSON takes for white space, and nothing else: Unicode knows
// more, and text that begins with such a character is no JSON to anybody else.
const jsonSpace = " \t\r\n"

// readWire reads the JSON of an answer; ok is false where it is no JSON object.
func readWire(b []byte) (w wireAnswer, ok bool) {
	if b = bytes.Trim(b, jsonSpace); len(b) == 0 || b[0] != '{' {
		return wireAnswer{}, false
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return wireAnswer{}, false
	}
	return w, true
}

// answer fills in what fits the outcome. said names the answer for a person
// ("HTTP 422 Unprocessable Entity"); notes go before what is noted here.
func (w wireAnswer) answer(o Outcome, said string, notes ...string) Answer {
	a := Answer{Outcome: o}
	limited := func(name string, t looseText, limit int) string {
		if t.odd {
			notes = append(notes, name+" is neither text nor number and was ignored")
		}
		s := clean(t.text, limit)
		if len(t.text) > limit {
			notes = append(notes, fmt.Sprintf("%s was cut from %d to %d bytes", name, len(t.text), len(s)))
		}
		return s
	}
	switch o {
	case Booked:
		a.ExternalID = limited("externalId", w.ExternalID, MaxExternalIDBytes)
		a.ExternalURL = limited("externalUrl", w.ExternalURL, MaxExternalURLBytes)
	case Failed:
		reason := limited("failureReason", w.FailureReason, MaxFailureReasonBytes)
		kind := limited("failureReasonType", w.FailureReasonType, maxFailureTypeBytes)
		a.FailureReason, a.FailureReasonType = classify(reason, kind, "the sink answered "+said+" without a reason")
	default:
		verdict := "the sink answered " + said
		if reason := clean(w.FailureReason.text, MaxDetailBytes); reason != "" {
			verdict += ": " + reason
		}
		notes = append([]string{verdict}, notes...)
		if o != Stale {
			a.RetryAfter = w.RetryAfterSeconds.wait
		}
		if w.RetryAfterSeconds.odd {
			notes = append(notes, "retryAfterSeconds is no number and was ignored")
		}
	}
	a.Detail = clean(strings.Join(notes, "; "), MaxDetailBytes)
	return a
}

// lineAnswer reads the answer of an exec: or nats: sink. What is no JSON object
// or names no outcome is an answer outside the table: the sink refuses us, not
// the item.
func lineAnswer(b []byte) (a Answer, understood bool) {
	w, ok := readWire(b)
	if !ok {
		return Answer{Outcome: Refused, Detail: fmt.Sprintf("the sink's answer of %d bytes is no JSON object", len(b))}, false
	}
	o, ok := outcomeNamed(w.Outcome.text)
	if !ok {
		return Answer{Outcome: Refused, Detail: fmt.Sprintf("the sink's answer of %d bytes names no outcome of booked, failed, stale, retry, refused", len(b))}, false
	}
	return w.answer(o, strconv.Quote(o.String())), true
}

// clean makes text fit to be kept and shown: valid UTF-8, no control characters
// (a forged log line, an escape sequence), at most limit bytes, cut between
// characters.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
