package governor

import (
	"strings"
	"testing"
)

func TestCompaniesTakeTurns(t *testing.T) {
	t.Parallel()
	var l line
	tickets := map[string][]*ticket{}
	for _, company := range strings.Fields("bulk bulk bulk bulk bulk small bulk other bulk small") {
		t := &ticket{company: company}
		tickets[company] = append(tickets[company], t)
		l.add(t)
	}
	l.remove(tickets["bulk"][1])
	l.remove(tickets["bulk"][1]) // gone already
	var order []string
	for l.length > 0 {
		t, _ := l.next()
		order = append(order, t.company)
		if tickets[t.company][0] != t && tickets[t.company][1] != t {
			order = append(order, "out of order")
		}
		if tickets[t.company][0] != t {
			tickets[t.company] = tickets[t.company][1:]
		}
		tickets[t.company] = tickets[t.company][1:]
	}
	if got := strings.Join(order, " "); got != "bulk small other bulk small bulk bulk bulk bulk" {
		t.Error(got)
	}
	last := &ticket{company: "last"}
	l.add(last)
	l.remove(last)
	if _, ok := l.next(); ok || l.length != 0 || len(l.waiting) != 0 {
		t.Errorf("left: %+v", l)
	}
}
