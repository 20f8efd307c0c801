// Package pleo reads and writes export jobs through Pleo's Export API v3
// (read against the public description, version 32.1.0).
//
// # What it promises
//
//   - A call tries again by itself, with growing waits, until its context is
//     done: after 408, 429 and 5xx answers, time-outs, reset connections, and
//     answers that are cut or no JSON. The caller gives the job's deadline as
//     the context's deadline; there is no other limit on the number of tries.
//     When the context ends, the error wraps the context's cause and the last
//     trouble.
//   - Every other refusal comes back at once as *APIError. Nothing is parsed out
//     of its text: branch on Status and HasType.
//   - A drain ([Client.EachJobItem], [Client.EachExportItem], [Client.EachJob])
//     follows hasNextPage and nothing else, holds one page at a time, and ends
//     with one of the page faults ([IsPageFault]) where the upstream's paging
//     cannot be trusted. A page reaches the callback whole or not at all.
//   - Ids are UUIDs in lower case whatever case the upstream or the caller used.
//     Status and reason values that are new to us are kept as they are. An
//     export item's bytes are kept exactly as received; money in them is never
//     parsed.
//   - A POST or a PUT goes out once per try: the transport cannot repeat one on
//     its own. (It may repeat a GET that met a dead kept-alive connection.)
//     Redirects are not followed.
//   - Every answer, page count, cursor and wait has a bound with a name.
//   - Secrets, payloads and URLs appear in no log line and in no error.
//
// # What it leaves to others
//
//   - Lost replies. A POST or a PUT whose answer did not arrive is sent again,
//     and Pleo knows no idempotency key: the second one may be refused with 422
//     although the first one did the work. The caller reads the job and counts
//     "already in the wanted state" as done; [APIError].Attempt above 1 says
//     that this may have happened.
//   - Sameness and completeness. Rows may come twice, and fewer than
//     numberOfItems may come; the fetcher removes doubles and compares.
//   - Which items are open, their order, and what a status means for a job.
//   - A page fault: the fetcher drains afresh once, then parks the job.
//   - Where a credential comes from and how it is renewed: an [Authorizer].
//
// A [Client] is safe for concurrent use.
package pleo
