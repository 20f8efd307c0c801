package statuspage

import "errors"

var (
	errNotSignedIn = errors.New("sign in with the status page's token first")
	errNoOrigin    = errors.New("this browser does not say which page sent this; bring the token as Authorization: Bearer instead")
	errReadOnly    = errors.New("this page is read-only: LEDGERLINE_STATUS_TOKEN is not set")
)
