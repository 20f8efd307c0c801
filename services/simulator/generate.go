package simulator

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// An export item is a pure function of (seed, company, entry id): nothing of it
// is stored, and the same entry looks the same in whatever later job carries it.

type money struct {
	Currency string `json:"currency"`
	Value    int64  `json:"value"` // hundredths, whatever the currency
}

type amount struct {
	InSupplierCurrency money `json:"inSupplierCurrency"`
	InWalletCurrency   money `json:"inWalletCurrency"`
}

type account struct {
	ID         uuid.UUID `json:"id"`
	Name       string    `json:"name"`
	Code       *string   `json:"code"`
	Identifier *string   `json:"identifier"`
}

type tag struct {
	ID        uuid.UUID `json:"id"`
	Code      string    `json:"code"`
	GroupCode string    `json:"groupCode"`
}

type tax struct {
	ID                 uuid.UUID   `json:"id"`
	Code               *string     `json:"code"`
	Rate               jsonDecimal `json:"rate"`
	Type               string      `json:"type"`
	Amount             amount      `json:"amount"`
	IngoingTaxAccount  string      `json:"ingoingTaxAccount,omitempty"`
	OutgoingTaxAccount string      `json:"outgoingTaxAccount,omitempty"`
}

// jsonDecimal keeps 0.20 from being printed in a float's own way.
type jsonDecimal string

func (d jsonDecimal) MarshalJSON() ([]byte, error) { return []byte(d), nil }

type line struct {
	ID         uuid.UUID `json:"accountingEntryLineId"`
	LineAmount amount    `json:"lineAmount"`
	NetAmount  amount    `json:"netAmount"`
	Account    *account  `json:"account"`
	Tags       []tag     `json:"tags"`
	Tax        *tax      `json:"tax"`
}

type bankAccount struct {
	BankName      string  `json:"bankName"`
	Country       string  `json:"country"`
	AccountNumber *string `json:"accountNumber"`
	BankCode      *string `json:"bankCode"`
	BIC           *string `json:"bic"`
	IBAN          *string `json:"iban"`
}

type invoiceInformation struct {
	InvoiceNumber       string       `json:"invoiceNumber"`
	InvoiceDate         string       `json:"invoiceDate"`
	DueDate             *string      `json:"dueDate"`
	PaymentDate         *string      `json:"paymentDate"`
	Status              string       `json:"status"`
	SupplierBankAccount *bankAccount `json:"supplierBankAccount"`
}

type additionalInformation struct {
	ReconciliationID   string              `json:"reconciliationId"`
	Attendees          []string            `json:"attendees"`
	ReconciledEntries  []string            `json:"reconciledEntries"`
	InvoiceInformation *invoiceInformation `json:"invoiceInformation"`
}

type bookkeeping struct {
	Method string `json:"method"`
}

type file struct {
	URL  string `json:"url"`
	Type string `json:"type"`
	Size int32  `json:"size"`
}

type servicePeriod struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type supplier struct {
	Name          *string `json:"name"`
	Code          *string `json:"code"`
	Account       *string `json:"account"`
	CategoryCode  *string `json:"categoryCode"`
	Country       string  `json:"country,omitempty"` // the schema's enum has no null
	TaxIdentifier *string `json:"taxIdentifier"`
}

type vendor struct {
	ID                    uuid.UUID `json:"id"`
	Name                  string    `json:"name"`
	DefaultCurrency       string    `json:"defaultCurrency"`
	Code                  string    `json:"code,omitempty"`
	Country               string    `json:"country,omitempty"`
	ExternalID            string    `json:"externalId,omitempty"`
	RegistrationNumber    string    `json:"registrationNumber,omitempty"`
	TaxRegistrationNumber string    `json:"taxRegistrationNumber,omitempty"`
}

type person struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
	Code *string   `json:"code"`
}

type links struct {
	Web    map[string]string `json:"web"`
	Mobile map[string]string `json:"mobile"`
	API    map[string]string `json:"api"`
}

type exportItem struct {
	AccountingEntryID     uuid.UUID             `json:"accountingEntryId"`
	CompanyID             uuid.UUID             `json:"companyId"`
	Type                  string                `json:"type"`
	SubType               *string               `json:"subType"`
	Date                  string                `json:"date"`
	Amount                amount                `json:"amount"`
	AccountingEntryLines  []line                `json:"accountingEntryLines"`
	AdditionalInformation additionalInformation `json:"additionalInformation"`
	Bookkeeping           *bookkeeping          `json:"bookkeeping"`
	ContraAccount         *account              `json:"contraAccount"`
	Files                 []file                `json:"files"`
	Note                  *string               `json:"note"`
	ServicePeriod         *servicePeriod        `json:"servicePeriod"`
	Supplier              *supplier             `json:"supplier"`
	Vendor                *vendor               `json:"vendor"`
	Team                  *person               `json:"team"`
	User                  *person               `json:"user"`
	Links                 links                 `json:"_links"`
}

var (
	// A card purchase is by far the commonest entry; the rest of the documented
	// types appear often enough that a page of a hundred shows most of them.
	commonTypes = []string{"card_purchase", "card_purchase", "card_purchase", "card_invoice", "out_of_pocket", "invoice"}
	rareTypes   = []string{
		"mileage", "per_diem", "external_reimbursement", "direct_reimbursement", "invoice_payment", "chargeback",
		"refund", "cashback", "atm_withdrawal", "wallet_topup", "wallet_unload", "personal_spend", "fee",
	}
	subTypes = map[string][]string{
		"direct_reimbursement":   {"reimbursement_to_employee", "reimbursement_to_employee_refund", "reimbursement_to_company"},
		"external_reimbursement": {"reimbursement_to_employee"},
		"invoice_payment":        {"invoice_payment_sent", "invoice_payment_returned"},
		"fee":                    {"interest"},
	}
	walletCurrencies   = []string{"EUR", "DKK", "GBP", "SEK"}
	supplierCurrencies = []string{"EUR", "USD", "GBP", "DKK", "SEK", "NOK", "CHF", "JPY", "UNDEFINED"}
	countries          = []string{"DK", "DE", "GB", "SE", "NL", "FR", "IE", "US"}
	supplierNames      = []string{
		"GOOGLE*ADS8693645259", "DSB Billetter", "Café Nørrebro", "Amazon EU S.à r.l.", "Lufthansa German Airlines",
		"Slack Technologies", "Bäckerei Müller & Söhne", "Post Nord A/S", "Hotel \"Zum Löwen\"", "株式会社コワーキング",
	}
	accountNames = []string{
		"Meals and Entertainment", "Software and Subscriptions", "Travel: Air", "Travel: Rail and Taxi", "Office Supplies",
		"Advertising", "Postage", "Professional Services",
	}
	userNames    = []string{"Ada Lindqvist", "Jürgen Groß", "Siobhán O'Neill", "Mikkel Højgaard", "Zoë Faßbender", "Ines Peña"}
	teamNames    = []string{"Marketing", "Engineering", "Sales Nordics", "People & Culture"}
	invoiceState = []string{
		"pending_approval", "parsed", "preparing", "prepared", "ready", "rejected_by_approver", "marked_as_paid",
		"scheduled", "payment_in_progress", "paid", "voided_by_user", "rejected_by_user", "failed_payment",
	}
	notes = []string{
		"Kick-off dinner with the team from Aarhus; two guests joined later, see the list of attendees on the receipt.",
		"Yearly licence, split over two cost centres as agreed with finance in the spring.",
		"Taxi from the airport, the train was cancelled \u2013 refund requested from the operator under case 88-1204.",
		"Tegneserie til receptionen \U0001F4DA <b>ikke</b> fradragsberettiget & skal bogføres på privat.",
	}
	fileTypes    = []string{"image/jpeg", "application/pdf", "image/png"}
	bookMethods  = []string{"journal", "accounts_payable", "none"}
	taxTypes     = []string{"inclusive", "exclusive", "reverse"}
	taxRates     = []jsonDecimal{"0.25", "0.2", "0.19", "0.07", "0"}
	taxPercents  = []int64{25, 20, 19, 7, 0}
	clockMinutes = []int{0, 0, 9*60 + 30, 12 * 60, 17*60 + 45}
)

// firstDay and days bound the dates of generated entries. They do not follow the
// clock: the same seed must give the same bytes tomorrow.
var firstDay = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

const (
	days = 45
	// sharedInstants is how many instants half of all entries crowd on, so that a
	// job of ten already has entries of one and the same date.
	sharedInstants = 6
	fileLinkLife   = 24 * time.Hour // documented
)

// entryDate is the entry's date as text. Many entries share an instant, and the
// same instant is written in several ways, so that neither the date alone nor its
// text gives an order.
func entryDate(seed uint64, company uuid.UUID, id uuid.UUID) string {
	d := entryDice(seed, id, "date")
	var at time.Time
	if d.likely(50) {
		shared := dice(hash(seed, "shared-date", company.String(), strconv.Itoa(d.below(sharedInstants))))
		at = firstDay.AddDate(0, 0, shared.below(days)).Add(time.Duration(pick(&shared, clockMinutes)) * time.Minute)
	} else {
		at = firstDay.Add(time.Duration(d.below(days*24*3600)) * time.Second)
	}
	switch d.below(8) {
	case 0:
		return at.In(time.FixedZone("", 2*3600)).Format("2006-01-02T15:04:05-07:00")
	case 1:
		return at.In(time.FixedZone("", -5*3600)).Format("2006-01-02T15:04:05-07:00")
	case 2:
		return at.Format("2006-01-02T15:04:05.000Z")
	case 3:
		return at.Add(time.Duration(d.below(3)*250) * time.Millisecond).Format("2006-01-02T15:04:05.999Z")
	default:
		return at.Format("2006-01-02T15:04:05Z")
	}
}

func entryDice(seed uint64, id uuid.UUID, purpose string) dice {
	return dice(hash(seed, purpose) ^ mix(binary.BigEndian.Uint64(id[:8])) ^ binary.BigEndian.Uint64(id[8:]))
}

// generator carries what all items of one answer have in common.
type generator struct {
	seed        uint64
	company     uuid.UUID
	vendorBased bool
	fileBase    string
	now         time.Time
}

func (g generator) item(id uuid.UUID) exportItem {
	d := entryDice(g.seed, id, "content")
	kind := pick(&d, commonTypes)
	if d.likely(25) {
		kind = pick(&d, rareTypes)
	}
	wallet := walletCurrencies[hash(g.seed, "wallet", g.company.String())%uint64(len(walletCurrencies))]
	foreign := wallet
	factor := int64(100)
	if d.likely(30) {
		foreign = pick(&d, supplierCurrencies)
		factor = int64(80 + d.below(60))
	}
	both := func(walletValue int64) amount {
		return amount{money{foreign, walletValue * factor / 100}, money{wallet, walletValue}}
	}

	lines := g.lines(&d, both)
	var total int64
	for _, l := range lines {
		total += l.LineAmount.InWalletCurrency.Value
	}

	item := exportItem{
		AccountingEntryID:     id,
		CompanyID:             g.company,
		Type:                  kind,
		Date:                  entryDate(g.seed, g.company, id),
		Amount:                both(total),
		AccountingEntryLines:  lines,
		AdditionalInformation: additionalInformation{ReconciliationID: reconciliationID(id)},
		Links: links{
			Web:    map[string]string{"exportItem": "https://app.simulator.invalid/e/" + id.String()},
			Mobile: map[string]string{"exportItem": "simulator://expense/" + id.String()},
			API:    map[string]string{},
		},
	}
	if choices := subTypes[kind]; choices != nil {
		item.SubType = orNull(&d, 70, pick(&d, choices))
	}
	if g.vendorBased && d.likely(85) {
		item.Bookkeeping = &bookkeeping{Method: pick(&d, bookMethods)}
	}
	if kind != "out_of_pocket" && kind != "mileage" && kind != "per_diem" && kind != "invoice" {
		item.ContraAccount = g.account("contra-"+wallet, "Pleo "+wallet+" Account")
	}
	if d.likely(85) {
		item.Files = g.files(&d, id)
	}
	if d.likely(60) {
		item.Note = ptr(pick(&d, notes))
	}
	if d.likely(15) {
		from := firstDay.AddDate(0, d.below(3)-1, 0)
		item.ServicePeriod = &servicePeriod{zulu(from), zulu(from.AddDate(0, 1, -1))}
	}
	g.parties(&d, &item, wallet)
	g.invoice(&d, &item)
	if kind == "direct_reimbursement" || kind == "external_reimbursement" {
		for i := range 1 + d.below(3) {
			item.AdditionalInformation.ReconciledEntries = append(item.AdditionalInformation.ReconciledEntries,
				reconciliationID(uuid.UUID(d.uuid()))+"-"+strconv.Itoa(i))
		}
	}
	if d.likely(20) {
		item.AdditionalInformation.Attendees = []string{pick(&d, userNames), "Guest " + strconv.Itoa(d.below(90))}
	}
	return item
}

func (g generator) lines(d *dice, both func(int64) amount) []line {
	lines := make([]line, 1+min(d.below(3), d.below(3)))
	for i := range lines {
		value := int64(1 + d.below(90_000))
		l := line{ID: d.uuid(), LineAmount: both(value), NetAmount: both(value), Tags: []tag{}}
		if d.likely(92) {
			name := pick(d, accountNames)
			l.Account = g.account("account-"+name, name)
		}
		for n := range d.below(3) {
			group := "DIM" + strconv.Itoa(n+1)
			code := strconv.Itoa(100 * (1 + d.below(9)))
			l.Tags = append(l.Tags, tag{g.named("tag-" + group + code), code, group})
		}
		if d.likely(10) {
			l.Tags = nil // null, as the schema allows
		}
		if d.likely(75) {
			rate := d.below(len(taxRates))
			part := value * taxPercents[rate] / (100 + taxPercents[rate])
			t := &tax{
				ID: g.named("tax-" + string(taxRates[rate])), Rate: taxRates[rate], Type: pick(d, taxTypes),
				Amount: both(part), Code: orNull(d, 80, "VAT"+strconv.FormatInt(taxPercents[rate], 10)),
			}
			if t.Type == "reverse" {
				t.IngoingTaxAccount, t.OutgoingTaxAccount = "14120", "14260"
			}
			if t.Type != "reverse" {
				l.NetAmount = both(value - part)
			}
			l.Tax = t
		}
		lines[i] = l
	}
	return lines
}

func (g generator) files(d *dice, id uuid.UUID) []file {
	files := make([]file, d.below(3))
	for i := range files {
		files[i] = file{
			URL:  fileLink(g.seed, g.fileBase, id, i, g.now.Add(fileLinkLife)),
			Type: pick(d, fileTypes),
			Size: int32(900 + d.below(400_000)),
		}
	}
	return files
}

func (g generator) parties(d *dice, item *exportItem, wallet string) {
	if d.likely(90) {
		name := pick(d, supplierNames)
		item.Supplier = &supplier{
			Name: orNull(d, 95, name), Code: orNull(d, 30, "SUP-"+strconv.Itoa(d.below(999))), Account: orNull(d, 20, "62"+strconv.Itoa(d.below(99))),
			CategoryCode: orNull(d, 80, strconv.Itoa(4000+d.below(5000))), TaxIdentifier: orNull(d, 40, "DK"+strconv.Itoa(10_000_000+d.below(89_999_999))),
		}
		if d.likely(90) {
			item.Supplier.Country = pick(d, countries)
		}
		if g.vendorBased && (d.likely(60) || item.Bookkeeping != nil && item.Bookkeeping.Method == "accounts_payable") {
			item.Vendor = &vendor{ID: g.named("vendor-" + name), Name: name, DefaultCurrency: wallet, Country: pick(d, countries)}
			if d.likely(70) {
				item.Vendor.Code, item.Vendor.ExternalID = "V"+strconv.Itoa(d.below(9999)), "erp-"+strconv.Itoa(d.below(99_999))
			}
		}
	}
	if d.likely(93) {
		n := d.below(len(userNames))
		item.User = &person{g.named("user-" + userNames[n]), userNames[n], orNull(d, 50, "E"+strconv.Itoa(100+n))}
	}
	if d.likely(65) {
		n := d.below(len(teamNames))
		item.Team = &person{g.named("team-" + teamNames[n]), teamNames[n], orNull(d, 50, "T"+strconv.Itoa(10+n))}
	}
}

func (g generator) invoice(d *dice, item *exportItem) {
	if item.Type != "invoice" && item.Type != "card_invoice" && item.Type != "invoice_payment" {
		return
	}
	issued := firstDay.AddDate(0, 0, -d.below(40))
	info := &invoiceInformation{
		InvoiceNumber: fmt.Sprintf("INV-%d-%04d", issued.Year(), d.below(10_000)),
		InvoiceDate:   zulu(issued), Status: pick(d, invoiceState), DueDate: orNull(d, 80, zulu(issued.AddDate(0, 0, 30))),
	}
	if info.Status == "paid" || info.Status == "marked_as_paid" {
		info.PaymentDate = ptr(zulu(issued.AddDate(0, 0, 12)))
	}
	if d.likely(50) {
		info.SupplierBankAccount = &bankAccount{
			BankName: "Sparekassen Simulator", Country: pick(d, countries),
			IBAN: orNull(d, 80, "DK50004004401162"+strconv.Itoa(10+d.below(89))), BIC: orNull(d, 60, "DABADKKK"),
		}
	}
	item.AdditionalInformation.InvoiceInformation = info
}

func (g generator) account(key, name string) *account {
	number := 1000 + hash(g.seed, "account", g.company.String(), key)%8000
	return &account{g.named(key), name, ptr(strconv.FormatUint(number, 10)), ptr("acc_" + strconv.FormatUint(number*7919, 36))}
}

// named is an id that all entries of a company share: its accounts, users, tags.
func (g generator) named(key string) uuid.UUID {
	d := dice(hash(g.seed, "named", g.company.String(), key))
	return d.uuid()
}

// reconciliationID is the book id: short, unique and printable, as bookkeepers
// search for it.
func reconciliationID(id uuid.UUID) string { return "PLEO-" + hex.EncodeToString(id[:6]) }

func zulu(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

func ptr[T any](v T) *T { return &v }

// orNull is the value in percent of 100 draws and null otherwise.
func orNull(d *dice, percent int, value string) *string {
	if d.likely(percent) {
		return &value
	}
	return nil
}
