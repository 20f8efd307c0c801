package sinktest

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

const (
	// manyScripts is text that careless handling breaks: accents, composed and not,
	// right to left, outside of the basic plane, quotes, markup, a separator that
	// ends lines in some languages.
	manyScripts = `Grüße, Smørrebrød 東京 עברית e\u0301 🧾 \"<b>&amp;</b>' \\ \u2028`
	// bigNumber is one above what a float holds exactly, and longNumber far beyond.
	bigNumber  = "9007199254740993"
	longNumber = "-12345678901234567890.123456789"
)

func (s *suite) unicode(ctx context.Context) finding {
	d := s.item("unicode")
	d.Item = s.export(d, map[string]string{"note": `"` + note + `: ` + manyScripts + `"`})
	return mustBook(s.settle(ctx, &d))
}

func (s *suite) numbers(ctx context.Context) finding {
	d := s.item("numbers")
	money := `{"currency":"EUR","value":` + bigNumber + `}`
	d.Item = s.export(d, map[string]string{
		"amount":         `{"inSupplierCurrency":` + money + `,"inWalletCurrency":` + money + `}`,
		"sinkTestNumber": longNumber,
	})
	return mayFail(s.settle(ctx, &d))
}

func (s *suite) nullItem(ctx context.Context) finding {
	d := s.item("null item")
	d.Item = nil
	return mayFail(s.settle(ctx, &d))
}

func (s *suite) nullDate(ctx context.Context) finding {
	d := s.item("null date")
	d.Date = nil
	return mayFail(s.settle(ctx, &d))
}

// unknownFields sends an item, and over HTTP a body and a header too, of a later
// version.
func (s *suite) unknownFields(ctx context.Context) finding {
	d := s.item("unknown fields")
	d.Item = s.export(d, map[string]string{"sinkTestField": `{"of":"a later version","deep":[null,{}]}`})
	if f := mustBook(s.settle(ctx, &d)); f.result != Pass || s.Raw == nil {
		return f
	}
	d = s.item("unknown fields in the body")
	body, err := d.Body()
	if err != nil {
		return failed("%v", err)
	}
	body = append(body[:len(body)-1], `,"sinkTestField":{"of":"a later version"}}`...)
	status, err := s.Raw.post(ctx, d, body, whole)
	if err != nil {
		return failed("a further field in the body: %v", err)
	}
	if !saysBooked(status) {
		return failed("a further field in the body was answered HTTP %d %s", status, http.StatusText(status))
	}
	return passed("booked, with further fields in the item and in the body")
}

// nonsense sends two items that are no expenses.
func (s *suite) nonsense(ctx context.Context) finding {
	worst := finding{}
	for _, item := range []string{`{"type":"nonsense"}`, `"nonsense"`} {
		d := s.item(item)
		d.Item = json.RawMessage(item)
		a := s.settle(ctx, &d)
		f := failed("%s was answered %s", item, said(a))
		switch a.Outcome {
		case sink.Failed:
			f = passed("%s", said(a))
			s.failed = &d
		case sink.Booked:
			f = warned("%s was %s: nothing is looked at before it is booked", item, said(a))
		}
		worst = worse(worst, f)
	}
	return worst
}

// failedAgain sends an entry that failed once more, in a later job and as an item
// that can be booked.
func (s *suite) failedAgain(ctx context.Context) finding {
	if s.failed == nil {
		return skipped("not asked: no item has failed")
	}
	d := s.item("failed again")
	d.AccountingEntryID = s.failed.AccountingEntryID
	d.Item = s.export(d, nil)
	return mustBook(s.settle(ctx, &d))
}

// mustBook judges an answer to an item that every sink books.
func mustBook(a sink.Answer) finding {
	if a.Outcome != sink.Booked {
		return failed("%s", said(a))
	}
	return passed("%s", said(a))
}

// mayFail judges an answer to an item that a sink may refuse, as long as it decides.
func mayFail(a sink.Answer) finding {
	if a.Outcome == sink.Failed {
		return warned("%s", said(a))
	}
	return mustBook(a)
}
