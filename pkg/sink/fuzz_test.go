package sink

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// checkAnswer checks what holds for every answer, whatever was sent.
func checkAnswer(t *testing.T, a Answer) {
	t.Helper()
	if a.Outcome < Booked || a.Outcome > Refused {
		t.Errorf("outcome %d is none", a.Outcome)
	}
	for text, limit := range map[string]int{a.ExternalID: MaxExternalIDBytes, a.ExternalURL: MaxExternalURLBytes, a.FailureReason: MaxFailureReasonBytes, a.Detail: MaxDetailBytes} {
		if len(text) > limit && text != "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r\n\x1b") {
			t.Errorf("%q is no clean text of at most %d bytes", text, limit)
		}
	}
	if failed := a.Outcome == Failed; failed != (a.FailureReason != "") || failed != failureTypes[a.FailureReasonType] || !failed && a.FailureReasonType != "" {
		t.Errorf("failure reason or type does not fit: %+v", a)
	}
	if a.Outcome != Booked && (a.ExternalID != "" || a.ExternalURL != "") {
		t.Errorf("a booking's name without a booking: %+v", a)
	}
	if a.Outcome != Booked && a.Outcome != Failed && a.Detail == "" {
		t.Errorf("no Detail: %+v", a)
	}
	if a.RetryAfter < 0 || a.RetryAfter > MaxRetryAfter || a.RetryAfter != 0 && a.Outcome != Retry && a.Outcome != Refused {
		t.Errorf("wait out of bounds: %+v", a)
	}
}

func FuzzAnswerBody(f *testing.F) {
	f.Add(200, []byte(`{"externalId":"JE-1","externalUrl":"https://erp.example/je/1"}`))
	f.Add(422, []byte(`{"failureReason":"Vendor blocked","failureReasonType":"vendor_locked"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := httpAnswer(status, "7", body, nil, time.Now(), nil)
		checkAnswer(t, a)
		if a.Outcome != httpOutcome(status) {
			t.Errorf("HTTP %d with %q is %s: the status decides, not the body", status, body, a.Outcome)
		}
	})
}

func FuzzAnswerLine(f *testing.F) {
	f.Add([]byte(`{"outcome":"booked","externalId":"JE-1","externalUrl":"https://erp.example/je/1"}`))
	f.Add([]byte(`{"outcome":"retry","retryAfterSeconds":7}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, understood := lineAnswer(line)
		checkAnswer(t, a)
		if !understood && a.Outcome != Refused {
			t.Errorf("%q was not understood and is %s, want refused", line, a.Outcome)
		}
		if understood && !json.Valid(line) {
			t.Errorf("%q is no JSON and was understood", line)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Wed, 22 Apr 2026 10:01:00 GMT")
	now := time.Date(2026, 4, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		if wait := parseRetryAfter(value, now); wait < 0 || wait > MaxRetryAfter {
			t.Errorf("Retry-After %q is %s, want between 0 and %s", value, wait, MaxRetryAfter)
		}
	})
}
