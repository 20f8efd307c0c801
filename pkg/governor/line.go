package governor

import "slices"

// ticket is one request that waits.
type ticket struct {
	company string
	ready   chan struct{} // closed when the request may go out
}

// line is where the requests of one credential wait. The companies take turns, and
// a company's own requests keep their order. As many wait as there are goroutines
// in Wait.
type line struct {
	turns   []string // companies with requests, the next one first
	waiting map[string][]*ticket
	length  int
}

func (l *line) add(t *ticket) {
	if l.waiting == nil {
		l.waiting = map[string][]*ticket{}
	}
	if len(l.waiting[t.company]) == 0 {
		l.turns = append(l.turns, t.company)
	}
	l.waiting[t.company] = append(l.waiting[t.company], t)
	l.length++
}

// next takes the request whose turn it is.
func (l *line) next() (*ticket, bool) {
	if len(l.turns) == 0 {
		return nil, false
	}
	company := l.turns[0]
	l.turns = l.turns[1:]
	t := l.waiting[company][0]
	l.keep(company, l.waiting[company][1:])
	if len(l.waiting[company]) > 0 {
		l.turns = append(l.turns, company)
	}
	l.length--
	return t, true
}

// remove takes out a request that waits no more; one that was taken is not there.
func (l *line) remove(t *ticket) {
	i := slices.Index(l.waiting[t.company], t)
	if i < 0 {
		return
	}
	l.keep(t.company, slices.Delete(l.waiting[t.company], i, i+1))
	if len(l.waiting[t.company]) == 0 {
		l.turns = slices.DeleteFunc(l.turns, func(c string) bool { return c == t.company })
	}
	l.length--
}

func (l *line) keep(company string, rest []*ticket) {
	if len(rest) == 0 {
		delete(l.waiting, company)
		return
	}
	l.waiting[company] = rest
}
