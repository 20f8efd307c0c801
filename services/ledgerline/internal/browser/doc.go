// Package browser looks at the status page as a person does: in a real browser. It
// has tests only. The race detector has nothing to find in a browser and slows the
// wait for it, so they stay out of it.
package browser
