// Package crash kills each service at each of its crash points, once each, and lets
// a judge that knows only the sink's own record and Pleo's final state tell what
// came of it. It has tests only.
package crash
