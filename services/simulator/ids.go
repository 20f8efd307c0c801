package simulator

import (
	"encoding/binary"
	"strconv"

	"github.com/google/uuid"
)

// namedID is a version 4 looking UUID that depends on the seed and its name.
func namedID(seed uint64, kind string, n int) uuid.UUID {
	d := dice(hash(seed, "id", kind, strconv.Itoa(n)))
	return d.uuid()
}

// entryID is the id of entry number index of generated job number job. The
// place is hidden in the id itself (bytes 7 and 9 to 15 hold it encrypted, the
// rest is a check over them), so that an update finds its entry without a table
// of ids: a job of a million items costs a byte per item, not fifty. The leading
// bytes are the check, so the order of ids says nothing about the order of items.
func entryID(seed uint64, job uint32, index int) uuid.UUID {
	hidden := mix(uint64(job)<<32|uint64(uint32(index))) ^ hash(seed, "entry")
	var id, place [16]byte
	binary.BigEndian.PutUint64(place[:8], hidden)
	check := mix(hidden ^ hash(seed, "entry-check"))
	binary.BigEndian.PutUint64(id[:8], check)
	id[8] = byte(mix(check))
	id[7] = place[0]
	copy(id[9:], place[1:8])
	return asVersion4(id)
}

// entryPlace undoes entryID. ok is false for an id that this seed did not make.
func entryPlace(seed uint64, id uuid.UUID) (job uint32, index int, ok bool) {
	var place [8]byte
	place[0] = id[7]
	copy(place[1:], id[9:])
	plain := unmix(binary.BigEndian.Uint64(place[:]) ^ hash(seed, "entry"))
	job, index = uint32(plain>>32), int(uint32(plain))
	return job, index, entryID(seed, job, index) == id
}

// uuidLength is that of the canonical form, the only one the API reference shows.
const uuidLength = 36

// parseID takes an id in any letter case.
func parseID(text string) (uuid.UUID, bool) {
	if len(text) != uuidLength {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}
