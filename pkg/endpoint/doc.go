// Package endpoint is how the services are asked: each offers itself as a NATS
// micro service, so that `nats micro ls|info|stats` sees every replica, and its
// endpoints take and give JSON. Of all replicas one gets a request.
//
// It promises that a request is answered or refused with a sentence, and that no
// more than a bounded number of them is in hand. It does not promise an answer:
// the replica that has the request may die, and the asker then asks again, so
// what an endpoint does must be harmless when it is done twice.
package endpoint
