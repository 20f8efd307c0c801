// Package topology creates the streams, durables and bucket of the outside
// contract, section 9, where they are missing, and refuses existing ones that
// differ in a field the promises rest on. It never deletes or weakens anything:
// what differs is named, with the way out, and left to a person.
package topology
