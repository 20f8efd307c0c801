package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// Error types of the API. They are served in upper case, as the OpenAPI examples
// have them; the prose of the reference prints them in lower case as well.
const (
	typeBadRequest       = "BAD_REQUEST"
	typeMissing          = "REQUIRED_PARAMETER_MISSING"
	typeUnauthorized     = "UNAUTHORIZED"
	typeForbidden        = "FORBIDDEN"
	typeNotFound         = "NOT_FOUND"
	typeJobNotFound      = "EXPORT_NOT_FOUND"
	typeEntryNotFound    = "EXPORT_ENTRY_NOT_FOUND"
	typeCompanyNotFound  = "COMPANY_NOT_FOUND"
	typeAlreadyRunning   = "EXPORT_ALREADY_IN_PROGRESS"
	typeUpdateLimit      = "EXPORT_JOB_ITEMS_UPDATE_LIMIT"
	typeUnprocessable    = "EXPORT_JOB_STATUS_UNPROCESSABLE"
	typeBadStatusChange  = "INVALID_EXPORT_JOB_STATUS_CHANGE"
	typeContraAccounts   = "MISSING_CONTRA_ACCOUNTS"
	typeTooManyRequests  = "TOO_MANY_REQUESTS"
	typeServerError      = "INTERNAL_SERVER_ERROR"
	typeBadGateway       = "BAD_GATEWAY"
	typeUnavailable      = "SERVICE_UNAVAILABLE"
	typeRequestTooLarge  = "REQUEST_TOO_LARGE"
	messageContraMissing = "Contra accounts are not fully configured. Please map contra accounts in the Accounting settings."
)

// Types of errors[] in the answer to an update.
const (
	entryUnknown      = "ACCOUNTING_ENTRY_DOES_NOT_EXIST"
	entryUpdateFailed = "EXPORT_ENTRY_STATUS_UPDATE_FAILED"
)

const (
	mediaType      = "application/json;charset=UTF-8"
	requestIDField = "request-Id" // as the reference spells it; HTTP does not mind
)

// answer is a complete reply, not yet sent, so that a fault can still spoil it.
type answer struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
}

func (a answer) with(name, value string) answer {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
	return a
}

// exception is ExceptionInfo of the API.
type exception struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func refuse(status int, kind, message string) answer {
	return reply(status, exception{kind, message})
}

func reply(status int, body any) answer {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the API is no web page; <b> in a note stays as it is
	if err := encoder.Encode(body); err != nil {
		return answer{
			status: http.StatusInternalServerError, contentType: mediaType,
			body: []byte(`{"type":"` + typeServerError + `","message":"the answer cannot be encoded"}`),
		}
	}
	return answer{status: status, contentType: mediaType, body: bytes.TrimSuffix(text.Bytes(), []byte("\n"))}
}

func data(v any) any {
	return struct {
		Data any `json:"data"`
	}{v}
}
