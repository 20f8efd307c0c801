package logevent

// Events of the status page.
const (
	StatusUnread        = "status page not read"        // warn: error; the page says so too, and goes on trying
	StatusNotRendered   = "status page not rendered"    // error: error
	StatusTokenUnread   = "status token not read"       // error: error; nobody can steer meanwhile
	StatusSignedIn      = "status page signed in"       // info: from
	StatusSignInRefused = "status page sign-in refused" // warn: from
	StatusActionAsked   = "status page action asked"    // info: action, job_id, from
	StatusActionFailed  = "status page action failed"   // error: action, job_id, error
	StatusViewerGone    = "status page viewer gone"     // debug: error; left, or too slow
)
