//go:build !race

package browser

import (
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/ledgerline/ledgerline/pkg/statuspage"
)

// scene is a state of the installation, with the hour before it.
type scene struct {
	name string
	past []statuspage.Past
}

// noon is when the scenes play.
var noon = time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC)

func id(name string) string { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String() }

// hourOf makes the hour before noon: a reading each ten seconds, whose lag is
// given by the minutes to noon, and the last two with all jobs, so that they have
// a pace.
func hourOf(lag func(minutesToNoon float64) float64, jobs func(secondsToNoon float64) statuspage.Reading) []statuspage.Past {
	var past []statuspage.Past
	for s := 3600.0; s >= 0; s -= 10 {
		r := statuspage.Reading{}
		if s <= 200 {
			r = jobs(s)
		}
		r.Lag.Items = uint64(max(lag(s/60), 0))
		past = append(past, statuspage.Past{At: noon.Add(-time.Duration(s) * time.Second), Reading: r})
	}
	return past
}

func bump(at, centre, width, height float64) float64 {
	return height * math.Exp(-(at-centre)*(at-centre)/(2*width*width))
}

func empty() scene {
	return scene{"empty", hourOf(func(float64) float64 { return 0 }, func(float64) statuspage.Reading { return statuspage.Reading{} })}
}

func busy() scene {
	type running struct {
		name         string
		total        uint32
		at, perSec   float64
		hoursLeft    float64
		state        string
		reason       string
		minutesSince int
	}
	active := []running{
		{"march-north", 4_200, 2_955, 6.4, 9, "active", "", 42},
		{"march-south", 1_800, 322, 4.1, 20, "active", "", 31},
		{"march-east", 12_600, 9_940, 11.2, 6, "active", "", 55},
		{"march-west", 640, 640, 2, 30, "reporting", "", 12},
		{"april-north", 950, 210, 0, 40, "paused", "paused by an operator", 10},
	}
	jobs := func(s float64) statuspage.Reading {
		r := statuspage.Reading{Lag: statuspage.Lag{JobsWaiting: 3, JobsActive: len(active), OldestJobAge: 55*time.Minute - time.Duration(s)*time.Second}}
		for i, a := range active {
			r.Jobs = append(r.Jobs, statuspage.Job{
				ID: id(a.name), Company: id(a.name + " company"), State: a.state, Total: a.total,
				Position: uint32(max(a.at-a.perSec*s, 0)), Epoch: 1, Worker: []string{"consumer@books-1-4121", "consumer@books-2-3308"}[i%2],
				Reason: a.reason, Created: noon.Add(-time.Duration(a.minutesSince) * time.Minute), Deadline: noon.Add(time.Duration(a.hoursLeft * float64(time.Hour))),
			})
		}
		r.Jobs = append(r.Jobs,
			statuspage.Job{ID: id("draining"), Company: id("draining company"), State: "draining", Pages: 37, Created: noon.Add(-2 * time.Minute), Deadline: noon.Add(47 * time.Hour)},
			statuspage.Job{ID: id("sealed-1"), Company: id("sealed-1 company"), State: "sealed", Total: 2_340, Created: noon.Add(-9 * time.Minute), Deadline: noon.Add(11 * time.Hour)},
			statuspage.Job{ID: id("april-south"), Company: id("march-south company"), State: "waiting", Total: 120, Reason: "job " + id("march-south") + " of the same company comes first", Created: noon.Add(-8 * time.Minute), Deadline: noon.Add(23 * time.Hour)},
			statuspage.Job{ID: id("sealed-2"), Company: id("sealed-2 company"), State: "sealed", Total: 78, Created: noon.Add(-4 * time.Minute), Deadline: noon.Add(40 * time.Hour)},
		)
		for i, e := range []struct {
			state string
			total uint32
			ago   int
		}{{"completed", 312, 3}, {"completed", 9_870, 14}, {"completed_with_errors", 1_204, 26}, {"completed", 41, 51}} {
			r.Jobs = append(r.Jobs, statuspage.Job{
				ID: id("ended" + string(rune('a'+i))), Company: id("ended company" + string(rune('a'+i))), State: e.state, Total: e.total, Position: e.total,
				Created: noon.Add(-time.Duration(e.ago+30) * time.Minute), Ended: noon.Add(-time.Duration(e.ago) * time.Minute),
			})
		}
		return r
	}
	lag := func(m float64) float64 {
		return 6_660 + bump(m, 52, 5, 3_800) + bump(m, 30, 7, 7_300) + bump(m, 12, 4, 2_600) - bump(m, 42, 4, 2_200) + 120*math.Sin(m*3) - 90*math.Cos(m*7)
	}
	return scene{"busy", hourOf(lag, jobs)}
}

func trouble() scene {
	jobs := func(s float64) statuspage.Reading {
		r := statuspage.Reading{Lag: statuspage.Lag{JobsWaiting: 1, JobsActive: 2, OldestJobAge: 3*time.Hour + 12*time.Minute}}
		parked := func(name, reason string, total, position uint32, minutes int) {
			r.Jobs = append(r.Jobs, statuspage.Job{
				ID: id(name), Company: id(name + " company"), State: "parked", Total: total, Position: position, Reason: reason,
				Created: noon.Add(-time.Duration(minutes+40) * time.Minute), Ended: noon.Add(-time.Duration(minutes) * time.Minute),
			})
			r.Parked = append(r.Parked, statuspage.Parked{JobID: id(name), Reason: reason, At: noon.Add(-time.Duration(minutes) * time.Minute)})
		}
		parked("contra", "read the payload of job "+id("contra")+": Pleo answered 403 MISSING_CONTRA_ACCOUNTS: contra accounts are missing for 2 expense accounts", 0, 0, 96)
		parked("expired", "job_expired: the deadline of 12 March 11:14 UTC came at item 1,377 of 2,050; what was booked is reported", 2_050, 1_377, 46)
		r.Parked = append(r.Parked, statuspage.Parked{Event: true, Reason: `the event is not JSON: invalid character '<' looking for beginning of value`, At: noon.Add(-7 * time.Minute)})
		r.Jobs = append(r.Jobs,
			statuspage.Job{ID: id("stuck"), Company: id("stuck company"), State: "active", Total: 860, Position: 412, Epoch: 7, Worker: "consumer@books-1-4121", Reason: "item 413 was sent 9 times and is not booked: 401 Unauthorized: the token has expired", Created: noon.Add(-192 * time.Minute), Deadline: noon.Add(38 * time.Minute)},
			statuspage.Job{ID: id("march-north"), Company: id("march-north company"), State: "active", Total: 4_200, Position: uint32(2_955 - 3*s), Epoch: 2, Worker: "consumer@books-2-3308", Created: noon.Add(-42 * time.Minute), Deadline: noon.Add(9 * time.Hour)},
			statuspage.Job{ID: id("sealed-1"), Company: id("sealed-1 company"), State: "sealed", Total: 2_340, Created: noon.Add(-9 * time.Minute), Deadline: noon.Add(11 * time.Hour)},
			statuspage.Job{ID: id("over"), Company: id("over company"), State: "failed", Total: 18, Position: 18, Reason: "every item failed: validation_failure", Created: noon.Add(-80 * time.Minute), Ended: noon.Add(-64 * time.Minute)},
		)
		return r
	}
	lag := func(m float64) float64 { return 1_900 + (60-m)*38 + 40*math.Sin(m*2) }
	return scene{"trouble", hourOf(lag, jobs)}
}
