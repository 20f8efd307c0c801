package statuspage

import (
	"time"
)

// stalled is how long no item may settle, while a job is active, before the page
// says so: two attempts at a sink with its usual time-out.
const stalled = time.Minute

// tone is what a thing looks like; the text beside it says the same.
type tone string

const (
	toneBad   tone = "bad"
	toneWarn  tone = "warn"
	toneBusy  tone = "busy"
	toneGood  tone = "good"
	toneQuiet tone = "quiet"
)

// verdict is the answer to the first question: do jobs flow?
type verdict struct {
	Tone     tone
	Headline string
	Text     string
}

func verdictOf(m *memory, v *view, now time.Time) verdict {
	switch {
	case m.at.IsZero() && m.err == nil:
		return verdict{toneQuiet, "Not connected to NATS yet", "The jobs show as soon as NATS answers. If that takes longer than a minute, look whether the server runs and whether NATS_URL names it."}
	case m.err != nil && m.at.IsZero():
		return verdict{toneBad, "The jobs cannot be read", "Tried since " + clock(m.since) + ": " + clip(m.err.Error())}
	case m.err != nil:
		return verdict{toneBad, "No news since " + clock(m.since), "What stands below is from before. The last try ended with: " + clip(m.err.Error())}
	}
	running := v.flow(now)
	switch {
	case v.parked > 0:
		what := countOf(v.parked, "thing") + " " + needs(v.parked) + " you"
		text := "Each says below what stopped it. Cure that, then retry."
		if v.still > 0 {
			text += " Besides, " + countOf(v.still, "running job") + " " + stands(v.still) + " still."
		}
		if running != "" {
			text += " Elsewhere: " + running + "."
		}
		return verdict{toneBad, what, text}
	case v.still > 0 && v.still == v.active:
		return verdict{toneBad, "Nothing has moved for " + span(now.Sub(v.moved)),
			countOf(v.active, "job") + " " + is(v.active) + " in hand and no item was settled. Most often the accounting system does not answer, or refuses us: each job's row says what it answered last."}
	case v.still > 0:
		return verdict{toneBad, countOf(v.still, "job") + " " + stands(v.still) + " still",
			"No item was settled for a minute or longer there, while others go on: " + running + ". Its row says what the sink answered last."}
	case v.late > 0:
		return verdict{toneWarn, countOf(v.late, "job") + " may miss " + its(v.late) + " deadline",
			"At the present rate the work takes longer than Pleo waits. Items that are not booked by then stay open. " + sentence(running)}
	case v.active+v.draining > 0:
		return verdict{toneBusy, "Jobs flow", sentence(running)}
	case v.paused > 0 && v.waiting == 0:
		return verdict{toneWarn, countOf(v.paused, "job") + " " + is(v.paused) + " paused", "Nothing else is to be done. A paused job goes on when somebody resumes it, and its deadline does not wait."}
	case v.waiting > 0:
		return verdict{toneWarn, countOf(v.waiting, "job") + " " + wait(v.waiting) + " for a worker",
			"They are stored in order and nothing is lost. If it stays so, look whether a consumer runs and has free slots."}
	case len(m.last.Jobs) == 0:
		return verdict{toneQuiet, "No jobs yet", "Everything is ready. The first job shows here by itself."}
	default:
		return verdict{toneGood, "All done", "Every job that came here has ended. New ones show by themselves."}
	}
}

// flow says what is going on, without a full stop; empty where nothing is.
func (v *view) flow(time.Time) string {
	if v.active+v.draining == 0 {
		return ""
	}
	text := ""
	if v.active > 0 {
		text = countOf(v.active, "job") + " running"
	}
	if v.draining > 0 {
		if text != "" {
			text += ", "
		}
		text += countOf(v.draining, "job") + " being fetched"
	}
	if v.waiting > 0 {
		text += ", " + count(v.waiting) + " waiting"
	}
	if v.rate > 0 {
		text += ", " + rate(v.rate)
		if v.remaining > 0 {
			text += ", " + roughly(time.Duration(float64(v.remaining)/v.rate*float64(time.Second))) + " of work"
		}
	}
	return text
}

func roughly(d time.Duration) string {
	if d < time.Minute {
		return span(d)
	}
	return "about " + span(d)
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	return text + "."
}

func is(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func stands(n int) string {
	if n == 1 {
		return "stands"
	}
	return "stand"
}

func needs(n int) string {
	if n == 1 {
		return "needs"
	}
	return "need"
}

func wait(n int) string {
	if n == 1 {
		return "waits"
	}
	return "wait"
}

func its(n int) string {
	if n == 1 {
		return "its"
	}
	return "their"
}
