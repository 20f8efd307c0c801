package simulator

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/uuid"
)

// createRequest is CreateExportJob of the API.
type createRequest struct {
	AccountingEntryIDs []string `json:"accountingEntryIds"`
	CompanyID          string   `json:"companyId"`
	EmployeeID         *string  `json:"employeeId"`
	IsInteractive      *bool    `json:"isInteractive"`
	Options            *struct {
		VendorBasedBookkeeping *bool `json:"vendorBasedBookkeeping"`
	} `json:"options"`
}

// createJob is POST /v3/export-jobs. Any entry ids are taken: an entry of an
// earlier job keeps its contents, an unknown one is generated. One unfinished job
// per company.
func (s *Simulator) createJob(c *call) answer {
	var request createRequest
	if err := json.Unmarshal(c.body, &request); err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, "The body is no CreateExportJob.")
	}
	if len(request.AccountingEntryIDs) == 0 || request.CompanyID == "" {
		return refuse(http.StatusBadRequest, typeMissing, "accountingEntryIds and companyId are required.")
	}
	if len(request.AccountingEntryIDs) > maxCreatedEntries {
		return refuse(http.StatusRequestEntityTooLarge, typeRequestTooLarge, "Too many entries.")
	}
	company, ok := parseID(request.CompanyID)
	if !ok {
		return refuse(http.StatusBadRequest, typeBadRequest, "companyId is no UUID.")
	}
	if !c.caller.sees(company) {
		return forbidden("The credential belongs to another company.")
	}
	spec := JobSpec{CompanyID: company, Entries: make([]EntrySpec, len(request.AccountingEntryIDs))}
	for i, text := range request.AccountingEntryIDs {
		if spec.Entries[i].ID, ok = parseID(text); !ok {
			return refuse(http.StatusBadRequest, typeBadRequest, "accountingEntryIds: "+text+" is no UUID.")
		}
	}
	employee := uuid.Nil
	if request.EmployeeID != nil {
		if employee, ok = parseID(*request.EmployeeID); !ok {
			return refuse(http.StatusBadRequest, typeBadRequest, "employeeId is no UUID.")
		}
	}
	if request.Options != nil && request.Options.VendorBasedBookkeeping != nil {
		spec.VendorBasedBookkeeping = *request.Options.VendorBasedBookkeeping
	}
	interactive := request.IsInteractive == nil || *request.IsInteractive

	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal, refused := s.mayNotExport(company); refused {
		return refusal
	}
	j, err := s.newJob(spec)
	if err == nil {
		j.createdBy, j.interactive = employee, interactive
		err = s.insert(j)
	}
	if errors.Is(err, ErrLimit) {
		return refuse(http.StatusServiceUnavailable, typeUnavailable, err.Error())
	}
	if err != nil {
		return refuse(http.StatusBadRequest, typeBadRequest, err.Error())
	}
	s.announce(j)
	return reply(http.StatusCreated, data(j.view()))
}

// mayNotExport applies the rules for a new job of a company; the caller holds s.mu.
func (s *Simulator) mayNotExport(company uuid.UUID) (answer, bool) {
	known := false
	now := s.now()
	for _, j := range s.byAge {
		if j.companyID != company {
			continue
		}
		known = true
		s.settle(j, now)
		if !j.finished() {
			return refuse(http.StatusConflict, typeAlreadyRunning, "Export Job already in progress for this company."), true
		}
	}
	for n := 0; n < s.cfg.Companies && !known; n++ {
		known = s.Company(n) == company
	}
	if !known {
		return refuse(http.StatusNotFound, typeCompanyNotFound, "Company not found."), true
	}
	rule, on := s.faults.rules[FaultContraAccounts]
	if on && rule.Mode != FaultOnce && chance(hash(s.cfg.Seed, string(FaultContraAccounts), company.String()), rule.Rate) {
		s.faults.shown[FaultContraAccounts]++
		return refuse(http.StatusBadRequest, typeContraAccounts, messageContraMissing), true
	}
	return answer{}, false
}
