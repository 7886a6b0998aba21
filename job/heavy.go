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
)

// WaitsForPort tells the reasons of a job that can go on as soon as a receiver has a port, and the room, for it.
func WaitsForPort(reason string) bool {
	return strings.HasPrefix(reason, ReasonNoPort) || strings.HasPrefix(reason, ReasonNoReceiver) || strings.HasPrefix(reason, ReasonNoSpace)
}

// NextHeavy picks, out of the live heavy jobs of a server, the one that has the server: the one that was offered (busy),
// or else the queued one that goes first. It is pure: whoever offers heavy jobs, script or drydock itself, comes to the
// same answer. A job that waits for something else, such as a port, does not keep the others from going first.
func NextHeavy(live []Job) (first Job, busy bool) {
	live = slices.Clone(live)
	slices.SortFunc(live, func(a, b Job) int { return strings.Compare(a.ID, b.ID) })
	for _, j := range live {
		if j.State != Queued {
			return j, true
		}
	}
	for _, j := range live {
		if !WaitsForPort(j.Reason) && !strings.HasPrefix(j.Reason, ReasonNoSQL) {
			return j, false
		}
	}
	if len(live) > 0 {
		return live[0], false
	}
	return Job{}, false
}
