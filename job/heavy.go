package job

import (
	"slices"
	"strings"
)

// The reasons of a queued job that can only wait, and therefore keeps no other job of its server from going first.
const (
	ReasonNoPort     = "no free port in the pool"
	ReasonNoReceiver = "no receiver answers"
	// ReasonNoSQL begins the reason of a [Local] job while drydock cannot work on its server. The script may still be able
	// to, as with a backup in api mode.
	ReasonNoSQL = "drydock cannot work on the database: "
)

// WaitsForPort tells the reasons of a job that can go on as soon as a receiver has a port for it.
func WaitsForPort(reason string) bool {
	return strings.HasPrefix(reason, ReasonNoPort) || strings.HasPrefix(reason, ReasonNoReceiver)
}

// NextHeavy picks, out of the live heavy jobs of a server, the one that has the server: the one that was offered (busy),
// or else the queued one that goes first. It is pure: whoever offers heavy jobs, script or drydock itself, comes to the
// same answer. A job that waits for something else, such as a port, does not keep the others from going first; nor
// does one of the whole cluster that another server keeps waiting, or a long backup there would hold up those of all.
func NextHeavy(live []Job) (first Job, busy bool) {
	live = slices.Clone(live)
	slices.SortFunc(live, func(a, b Job) int { return strings.Compare(a.ID, b.ID) })
	var waits Job // the oldest of those that can only wait
	for _, j := range live {
		if j.State != Queued {
			return j, true
		}
	}
	for _, j := range live {
		elsewhere := j.Held() && wide(j.Task)
		if !elsewhere && !WaitsForPort(j.Reason) && !strings.HasPrefix(j.Reason, ReasonNoSQL) {
			return j, false
		}
		if waits.ID == "" && !elsewhere {
			waits = j
		}
	}
	return waits, false
}

func wide(task string) bool {
	t, err := TaskByName(task)
	return err == nil && t.Wide
}
