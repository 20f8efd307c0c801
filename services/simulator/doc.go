// Package simulator is a simulated Pleo Export API v3: a test upstream for anyone
// who writes an integration.
//
// It promises:
//
//   - Every v3 endpoint of the public reference (jobs, job events, job items,
//     export items, the look-up by entry), GET /v1/introspect, and POST
//     /oauth/token with rotating refresh tokens. Ids are taken in any letter case
//     and answered in lower case. Every answer carries request-Id; every answer
//     without an injected fault fits the public OpenAPI description, but for two
//     fields that the reference itself shows as null (failureReasonType, subType).
//   - The state machine: events, item updates, partial errors, expiry by an injected
//     clock, cancel, a second integration. Where the reference is silent, the
//     reading is written at the code that decides it.
//   - Data from a seed. An item's content is a function of the seed, its company and
//     its entry id; a job of a million items costs a byte an item until results are
//     reported. Same seed, same clock and same calls: same bytes.
//   - Faults by name and by seed (see ParseFaults). The sets "some" and "storm" hold
//     only faults that a caller survives that follows the reference, and no request
//     fails more than three times in a row by them.
//   - A record to judge by: Snapshot, Updates, Counters, WebhookDeliveries.
//
// Tests steer it by methods (AddJob, Cancel, Expire, Touch, Advance, Override,
// SetFaults and others) or, with Config.Control, by the endpoints under
// /_simulator/ that ControlEndpoints describes.
//
// It leaves out: v0 to v2, POST /v3/export-job-items:search (deprecated, closed to
// integrations), the subscriptions API (Config.Webhook stands for a subscription),
// the log-in of users (the first refresh token comes from Config), TLS. State is in
// memory and gone with the process. It is no benchmark of Pleo: limits and times
// that the reference does not publish are ours.
//
// It shares no code with any client of the API, on purpose: two independent
// readings of one reference find the misreading.
package simulator
