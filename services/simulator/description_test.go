package simulator_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// descriptionDir names the folder of the public OpenAPI files, which are not part
// of this repository. Without it the answers are not held against them.
const descriptionDir = "PLEO_OPENAPI_DIR"

var describedOperations = sync.OnceValues(loadDescription)

type described struct {
	method    string
	path      *regexp.Regexp
	operation *openapi3.Operation
}

type description struct {
	operations []described
	enums      map[string][]string
}

func loadDescription() (*description, error) {
	dir := os.Getenv(descriptionDir)
	if dir == "" {
		return nil, nil
	}
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(
		"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")) // lower case: what the API answers
	d := &description{enums: map[string][]string{}}
	for _, name := range []string{"pleo-export-api-v3.openapi.yml", "pleo-export-items-v3.openapi.yml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		// The edits that make the files loadable: version line, date masks that are no
		// regular expressions, the charset in media types.
		plain := strings.Replace(string(text), "openapi: 3.2.0", "openapi: 3.1.0", 1)
		plain = regexp.MustCompile("(?m)^ +pattern: (YYYY|yyyy).*\n").ReplaceAllString(plain, "")
		plain = strings.ReplaceAll(plain, "application/json;charset=UTF-8", "application/json")
		doc, err := openapi3.NewLoader().LoadFromData([]byte(plain))
		if err != nil {
			return nil, err
		}
		d.add(doc)
	}
	return d, nil
}

func (d *description) add(doc *openapi3.T) {
	for path, item := range doc.Paths.Map() {
		pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[^}]*\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
		for method, operation := range item.Operations() {
			d.operations = append(d.operations, described{method, pattern, operation})
		}
	}
	for name, schema := range doc.Components.Schemas {
		for _, value := range schema.Value.Enum {
			if text, ok := value.(string); ok {
				d.enums[name] = append(d.enums[name], text)
			}
		}
	}
	// Two fields that the reference's own samples show as null and whose schema has
	// no null.
	for schema, field := range map[string]string{"ExportJobItemV3": "failureReasonType", "ExportJobV3": "failureReasonType", "ExportItemV3": "subType"} {
		if s := doc.Components.Schemas[schema]; s != nil {
			s.Value.Properties[field] = openapi3.NewSchemaRef("", &openapi3.Schema{Type: &openapi3.Types{"string", "null"}})
		}
	}
}

func checkAgainstDescription(t *testing.T, method, path string, r reply) {
	t.Helper()
	d, err := describedOperations()
	if err != nil {
		t.Fatalf("load the OpenAPI description: %v", err)
	}
	target, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	if d == nil || !strings.HasPrefix(target.Path, "/v3/") {
		return
	}
	for _, op := range d.operations {
		if op.method != method || !op.path.MatchString(target.Path) {
			continue
		}
		response := op.operation.Responses.Status(r.status)
		if response == nil {
			return // 401, 403, 404, 429 and 5xx are described in prose only
		}
		content := response.Value.Content.Get("application/json")
		if content == nil {
			return // 202 has no schema
		}
		if got := r.header.Get("Content-Type"); got != "application/json;charset=UTF-8" {
			t.Errorf("%s %s: Content-Type %q", method, path, got)
		}
		var value any
		if err := json.NewDecoder(bytes.NewReader(r.body)).Decode(&value); err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return
		}
		if err := content.Schema.Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.EnableFormatValidation()); err != nil {
			t.Errorf("%s %s: the %d does not fit the description: %.1500s", method, path, r.status, err)
		}
		d.checkEnums(t, "", value)
		return
	}
	t.Errorf("%s %s is not in the description", method, path)
}

// checkEnums checks what the responses' schemas call "one of ... values" and leave
// open. Where the description lists the values, they are taken from there.
func (d *description) checkEnums(t *testing.T, parent string, value any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			d.checkEnums(t, parent, element)
		}
	case map[string]any:
		_, isItem := v["exportJobId"]
		for key, element := range v {
			d.checkEnums(t, key, element)
			text, ok := element.(string)
			if !ok {
				continue
			}
			if allowed := d.allowed(parent, key, isItem); allowed != nil && !slices.Contains(allowed, text) {
				t.Errorf("%s.%s is %q, not one of %v", parent, key, text, allowed)
			}
		}
	}
}

func (d *description) allowed(parent, key string, isItem bool) []string {
	switch {
	case parent == "data" && key == "status" && isItem:
		return d.enums["ExportJobItemStatus"]
	case parent == "data" && key == "status":
		return d.enums["ExportJobStatus"]
	case parent == "data" && key == "failureReasonType" && isItem:
		return d.enums["ExportJobItemFailureReasonType"]
	case parent == "data" && key == "failureReasonType":
		return d.enums["ExportJobFailureReasonType"]
	case parent == "data" && key == "type":
		return []string{
			"card_purchase", "card_invoice", "out_of_pocket", "mileage", "per_diem", "external_reimbursement",
			"direct_reimbursement", "invoice", "invoice_payment", "chargeback", "refund", "cashback", "atm_withdrawal",
			"wallet_topup", "wallet_unload", "personal_spend", "fee",
		}
	case parent == "data" && key == "subType":
		return []string{
			"reimbursement_to_employee_refund", "reimbursement_to_company", "reimbursement_to_employee",
			"invoice_payment_returned", "invoice_payment_sent", "interest",
		}
	case parent == "bookkeeping" && key == "method":
		return []string{"none", "journal", "accounts_payable"}
	case parent == "tax" && key == "type":
		return []string{"inclusive", "exclusive", "reverse"}
	case parent == "errors" && key == "type":
		return []string{"ACCOUNTING_ENTRY_DOES_NOT_EXIST", "EXPORT_ENTRY_STATUS_UPDATE_FAILED", "ACCOUNTING_ENTRY_UPDATE_FAILED"}
	case parent == "invoiceInformation" && key == "status":
		return []string{
			"pending_approval", "parsed", "preparing", "prepared", "ready", "rejected_by_approver", "marked_as_paid", "scheduled",
			"payment_in_progress", "paid", "voided_by_user", "rejected_by_user", "failed_payment",
		}
	default:
		return nil
	}
}

// Every answer of every test goes through checkAgainstDescription; this test shows
// many generated items of both kinds of job, and says so when it cannot.
func TestAnswersFitTheDescription(t *testing.T) {
	t.Parallel()
	if os.Getenv(descriptionDir) == "" {
		t.Skipf("%s is not set: answers are not held against the public OpenAPI description", descriptionDir)
	}
	for seed := range uint64(4) {
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			u := start(t, config(seed, 2, 300))
			for i, job := range u.Snapshot().Jobs {
				u.items(job.ID, "100")
				u.payloads(job.ID, "100")
				u.started(job.ID)
				u.put(job.ID, booked(job.Items[0].AccountingEntryID.String()), map[string]any{
					"accountingEntryId": job.Items[1].AccountingEntryID.String(), "status": "failed",
					"failureReason": "no such vendor", "failureReasonType": "vendor_unknown",
				})
				u.items(job.ID, "100")
				if i == 0 {
					u.event(job.ID, "completed_with_errors")
				} else if err := u.Cancel(job.ID); err != nil {
					t.Fatal(err)
				}
				u.job(job.ID)
				u.items(job.ID, "100")
			}
			u.get("/v3/export-jobs")
		})
	}
}
