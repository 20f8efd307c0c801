// Package gateway detects export jobs and starts them: a signed webhook, a poll or
// somebody's wish becomes a detection in JetStream; a detection makes one gateway
// look at a company; the look starts the company's oldest job at Pleo and
// publishes its job-started event.
//
// It promises: a webhook is answered 204 only after its detection is stored; no
// job is marked as started at Pleo before the sink, the streams and the credential
// were seen to work; a job is started by one gateway, once, and only when it is
// the oldest of its company and no other one of the company is in work here or in
// progress at Pleo; the company's next job is looked for as soon as that one has
// ended here; a gateway that dies at any point leaves nothing behind that another
// one, running or started later, does not go on with.
//
// A detection carries no state: it says "look", and what is done rests on Pleo's
// own answers and on the jobs bucket, read at that moment. That is what makes a
// webhook that comes twice, late or never harmless.
//
// It does not promise that Pleo sees one "started" only: when its reply is lost,
// or a gateway was presumed dead and was not, a second one may go out, and Pleo's
// refusal of it counts as done. And it cannot tell its own job from another
// integration's by what Pleo says: a job that is in progress there and not known
// here is resumed at a gateway's start or when somebody names it, and otherwise
// left alone.
//
// It leaves the reading of the job to the fetcher, also whether its deadline
// leaves time for it, and the order of the company's jobs in work to the consumer.
package gateway
