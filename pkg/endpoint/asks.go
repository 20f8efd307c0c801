package endpoint

// Again asks a fetcher to publish the job-started event of a further run. It is
// answered once the event is stored.
type Again struct {
	JobID     string `json:"jobId"`
	CompanyID string `json:"companyId"`
}

// EndDrain asks a consumer to write into the ledger that the drain of a run ended
// with its job parked.
type EndDrain struct {
	JobID string `json:"jobId"`
	// Run that was being drained, from 1.
	Run    uint32 `json:"run"`
	Reason string `json:"reason"`
}

// DrainEnded is the answer to EndDrain.
type DrainEnded struct {
	// Overtaken is true where the run was sealed or ended by somebody else: the job
	// is not to be parked.
	Overtaken bool `json:"overtaken"`
}

// Ready is what Check says of something that works.
const Ready = "ready"

// Check is how a consumer stands with what an operator's machine cannot ask.
type Check struct {
	Worker string `json:"worker"`
	// Pleo and Sink are Ready, or what is wrong, or why they were not asked.
	Pleo string `json:"pleo"`
	Sink string `json:"sink"`
	// The settings that decide what is promised.
	Payload  string `json:"payload"`
	Report   bool   `json:"report"`
	Lease    string `json:"lease"`
	Replicas int    `json:"replicas"`
}
