package logevent

// Events of the upstream client (pkg/pleo), of its limits (pkg/governor) and of its
// OAuth tokens (pkg/oauth).
const (
	PageFetched            = "page fetched"             // debug: operation, job_id, page, rows, has_next_page
	PleoCredentialsRefused = "pleo credentials refused" // error, at most once a minute: operation, job_id, status, request_id, error
	PleoRateCut            = "pleo rate cut"            // warn: credential, rate_before, rate, pause_seconds
	PleoRateShared         = "pleo rate shared"         // info, after PleoRateUnshared: credential
	PleoRateUnshared       = "pleo rate unshared"       // warn: credential, rate, error; the process goes on at its own rate
	PleoRequestRetried     = "pleo request retried"     // warn: operation, job_id, attempt, wait_seconds, status, request_id, error

	PleoAuthorisationLost = "pleo authorisation lost"  // error, once a refused token: credential, client_id, error, way_out
	PleoTokenNotRefreshed = "pleo token not refreshed" // warn: credential, client_id, try, retry_in, error; error where the client is refused
	PleoTokenNotStored    = "pleo token not stored"    // error: credential, client_id, error; the new pair is kept in memory and stored at the next try
	PleoTokenReplaced     = "pleo token replaced"      // info: credential, client_id; by the one in the settings
	PleoTokenRefreshed    = "pleo token refreshed"     // info: credential, client_id, expires
)
