package config

import "strings"

const (
	// maxTypos is how many letters may be wrong in a name that is still guessed.
	maxTypos = 3

	// lettersPerTypo keeps short names from being guessed out of nothing.
	lettersPerTypo = 4
)

// nearest is the known name that word most likely stands for, or empty. A name
// of another program's under our prefix is one: LEDGERLINE_NATS_URL is NATS_URL.
func nearest(word string, known []string) string {
	best, least := "", maxTypos+1
	for _, name := range known {
		distance := editDistance(word, name)
		if !strings.HasPrefix(name, ownPrefix) {
			distance = min(distance, editDistance(strings.TrimPrefix(word, ownPrefix), name))
		}
		if distance < least && distance <= len(strings.TrimPrefix(name, ownPrefix))/lettersPerTypo {
			best, least = name, distance
		}
	}
	return best
}

// editDistance counts the letters to insert, remove, replace or swap with their
// neighbour to make a of b.
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
