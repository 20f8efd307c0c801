package simulator

import "encoding/binary"

// Everything random in this package is drawn from here, so that a seed replays:
// no global source, no clock, no map order.

// mix is the finaliser of splitmix64. It is a bijection (see unmix), which lets
// entry ids carry their place in hidden form.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return x
}

// unmix undoes mix: the multiplications by their inverses modulo 2^64, the
// shifts by repeating them.
func unmix(x uint64) uint64 {
	x ^= x>>31 ^ x>>62
	x *= 0x319642b2d24d8ec3
	x ^= x>>27 ^ x>>54
	x *= 0x96de1b173f119089
	x ^= x>>30 ^ x>>60
	return x
}

// hash folds a seed and some words into 64 well mixed bits.
func hash(seed uint64, words ...string) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3 // FNV-1a
	h := offset ^ mix(seed+0x9e3779b97f4a7c15)
	for _, word := range words {
		for i := range len(word) {
			h = (h ^ uint64(word[i])) * prime
		}
		h = (h ^ 0xff) * prime // keeps ("ab","c") apart from ("a","bc")
	}
	return mix(h)
}

// chance turns a hash into a yes with probability rate.
func chance(h uint64, rate float64) bool {
	return rate >= 1 || float64(h>>11)/(1<<53) < rate
}

// dice is a splitmix64 stream.
type dice uint64

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

// below draws from 0 to n-1; n must be positive.
func (d *dice) below(n int) int { return int(d.next() % uint64(n)) }

// likely is true in percent of 100 draws.
func (d *dice) likely(percent int) bool { return d.below(100) < percent }

func pick[T any](d *dice, from []T) T { return from[d.below(len(from))] }

// uuid draws a version 4 UUID.
func (d *dice) uuid() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], d.next())
	binary.BigEndian.PutUint64(id[8:], d.next())
	return asVersion4(id)
}

func asVersion4(id [16]byte) [16]byte {
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
