// Package subject is the one home of every JetStream name: streams, subjects,
// durables, the bucket, and the headers on their messages. An id becomes a
// subject token only after it was parsed as a UUID, so no id can smuggle a
// token, a wildcard or a blank into a subject.
package subject
