package sinktest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/sink"
)

// mark begins every made-up id, so that a person who finds one in the books knows
// it: as near to "test" as hexadecimal digits come.
var mark = [4]byte{0x7e, 0x57, 0x7e, 0x57}

// TestCompany is the company of the items where no other one is given.
var TestCompany = uuid.UUID{0x7e, 0x57, 0x7e, 0x57, 0x7e, 0x57, 0x4e, 0x57, 0x8e, 0x57, 0x7e, 0x57, 0x7e, 0x57, 0x7e, 0x57}

// note is what each made-up item says of itself.
const note = "Ledgerline sink-test: no real expense"

// id is this run's id of that name.
func (s *suite) id(name string) uuid.UUID {
	id := uuid.NewSHA1(s.run, []byte(name))
	copy(id[:], mark[:])
	return id
}

// item is a new entry, alone in a job of its own, as a first attempt.
func (s *suite) item(name string) sink.Delivery {
	date := time.Date(2026, time.January, 15, 10, 30, 0, 0, time.UTC)
	d := sink.Delivery{
		JobID: s.id("job of " + name).String(), CompanyID: s.Company.String(), AccountingEntryID: s.id(name).String(),
		Position: 1, Total: 1, Epoch: s.epoch, Attempt: 1, Date: &date,
	}
	d.Item = s.export(d, nil)
	return d
}

// export is the export item of a delivery, with some fields changed.
func (s *suite) export(d sink.Delivery, changes map[string]string) json.RawMessage {
	fields := map[string]json.RawMessage{}
	template := s.Item
	if template == nil {
		template = fmt.Appendf(nil, madeUp, s.id("line of "+d.AccountingEntryID), s.id("reconciliation of "+d.AccountingEntryID), note)
	}
	if err := json.Unmarshal(template, &fields); err != nil {
		return template // the command has checked that it is an object
	}
	fields["accountingEntryId"] = quoted(d.AccountingEntryID)
	fields["companyId"] = quoted(d.CompanyID)
	for name, value := range changes {
		fields[name] = json.RawMessage(value)
	}
	item, err := json.Marshal(fields)
	if err != nil {
		return template
	}
	return item
}

func quoted(text string) json.RawMessage {
	b, err := json.Marshal(text)
	if err != nil { // cannot happen: every string has a JSON form
		return json.RawMessage(`""`)
	}
	return b
}

// madeUp is an export item in the shape of Pleo's version 3, with a line's id, a
// reconciliation id and a note to fill in.
const madeUp = `{
  "type": "card_purchase", "subType": null, "date": "2026-01-15T10:30:00Z",
  "amount": {"inSupplierCurrency": {"currency": "EUR", "value": 1250}, "inWalletCurrency": {"currency": "EUR", "value": 1250}},
  "accountingEntryLines": [{
    "accountingEntryLineId": %q,
    "lineAmount": {"inSupplierCurrency": {"currency": "EUR", "value": 1250}, "inWalletCurrency": {"currency": "EUR", "value": 1250}},
    "netAmount": {"inSupplierCurrency": {"currency": "EUR", "value": 1000}, "inWalletCurrency": {"currency": "EUR", "value": 1000}},
    "account": {"id": "7e577e57-0000-4000-8000-000000000001", "name": "Test account", "code": "TEST", "identifier": null},
    "tags": [], "tax": null
  }],
  "additionalInformation": {"reconciliationId": %q, "attendees": null, "reconciledEntries": null, "invoiceInformation": null},
  "bookkeeping": {"method": "journal"},
  "contraAccount": {"id": "7e577e57-0000-4000-8000-000000000002", "name": "Test wallet", "code": "TEST", "identifier": null},
  "files": [], "note": %q, "servicePeriod": null,
  "supplier": {"name": "Ledgerline sink-test", "code": null, "account": null, "categoryCode": null, "country": null, "taxIdentifier": null},
  "vendor": null, "team": null, "user": null, "_links": {"web": {}, "mobile": {}, "api": {}}
}`
