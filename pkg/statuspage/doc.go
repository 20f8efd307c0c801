// Package statuspage is the page that a person on call looks at: whether jobs
// flow, which one does not, and why; and, with a token, the buttons to retry,
// pause, resume and cancel one.
//
// It promises that reading costs the installation a bounded share of one
// processor, however many look: the jobs are read once for all of them, rendered
// once for all of them, and sent at most once a second to at most maxLive live
// pages, of which a slow one is let go. It promises that whatever others wrote
// (reasons, names) is shown as text and never as markup; that nothing is loaded
// from elsewhere; and that nobody steers without the token, nor by a page of
// somebody else's in the browser of one who has it. Without a token configured
// there are no buttons, and every POST is refused.
//
// Reading asks for no token. Who may read is decided by who reaches the address.
// What the actions do is left to the Source.
package statuspage
