package job

import (
	"slices"
	"strings"
)

// The reasons of a queued job that can only wait, and therefore keeps no other job of its server from going first.
const (
	ReasonNoPort     = "no free port in the pool"
	ReasonNoReceiver = "no receiver answers"
	// ReasonNoSpace begins the reason of a backup that would not fit on the receiver's disk.
	ReasonNoSpace = "no space for the backup: "
	// ReasonNoSQL begins the reason of a [Local] job while drydock cannot work on its server. The script may still be able
	// to, as with a backup in api mode.
	ReasonNoSQL = "drydock cannot work on the database: "
	// ReasonNoRow begins the reason of a job that cannot be brought into the jobs table: the database is down.
	ReasonNoRow = "database unreachable: "
)

// WaitsForPort tells the reasons of a job that can go on as soon as a receiver has a port, and the room, for it.
func WaitsForPort(reason string) bool {
	return strings.HasPrefix(reason, ReasonNoPort) || strings.HasPrefix(reason, ReasonNoReceiver) || strings.HasPrefix(reason, ReasonNoSpace)
}

// NextHeavy picks, out of the live heavy jobs of a server, the one that has the server: the one that was offered (busy),
// or else the queued one that goes first. It is pure: whoever offers heavy jobs, script or drydock itself, comes to the
// same answer. A job that waits for something else, such as a port, does not keep the others from going first; nor
// does one of the whole cluster that another server keeps waiting, or a long backup there would hold up those of all. A
// queued start goes before all: what waits for a server that is down would keep it down.
func NextHeavy(live []Job) (first Job, busy bool) {
	live = slices.Clone(live)
	slices.SortFunc(live, func(a, b Job) int { return strings.Compare(a.ID, b.ID) })
	for _, j := range live {
		if j.State != Queued {
			return j, true
		}
	}
	if i := slices.IndexFunc(live, func(j Job) bool { return j.Task == taskStart }); i >= 0 {
		return live[i], false
	}
	var waits Job // the oldest of those that can only wait
	for _, j := range live {
		elsewhere := j.Held() && whole(j.Task)
		if !elsewhere && !canOnlyWait(j) {
			return j, false
		}
		if waits.ID == "" && !elsewhere {
			waits = j
		}
	}
	return waits, false
}

func whole(task string) bool {
	t, err := TaskByName(task)
	return err == nil && t.Whole
}

func canOnlyWait(j Job) bool {
	return WaitsForPort(j.Reason) || strings.HasPrefix(j.Reason, ReasonNoSQL) || strings.HasPrefix(j.Reason, ReasonNoRow)
}

// taskStart is the one task that makes a server run that does not.
const taskStart = "start"

// InTheWay leaves of the live heavy jobs of a server those that j must heed, itself among them. For a start these are the
// ones that have taken the server down on purpose, or put it up: anything else that was begun or offered waits for a
// server that is down, or has lost it. It is pure.
func InTheWay(j Job, live []Job) []Job {
	if j.Task != taskStart {
		return live
	}
	var out []Job
	for _, x := range live {
		t, err := TaskByName(x.Task)
		holds := err == nil && (t.Kind == KindService || t.Kind == KindRestore) && x.State != Queued && x.State != Available
		if x.ID == j.ID || holds {
			out = append(out, x)
		}
	}
	return out
}
