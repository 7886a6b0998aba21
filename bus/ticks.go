package bus

import (
	"strings"
	"time"

	"drydock/job"
)

// Outcome is what was decided about a tick.
type Outcome string

// The outcomes. Fired and Late start jobs, the others record why none was started.
const (
	// Fired: started in time, or by hand.
	Fired Outcome = "fired"
	// Late: started after its time, because drydock was down when it was due (scheduler-catch-up).
	Late Outcome = "late"
	// Skipped: due, and not run on the servers named, with the reason.
	Skipped Outcome = "skipped"
	// Missed: fell due while no scheduler ran, and was not caught up.
	Missed Outcome = "missed"
	// Armed: the schedule was switched on or its spec changed; ticks count from here.
	Armed Outcome = "armed"
	// Disarmed: the schedule was switched off.
	Disarmed Outcome = "disarmed"
)

// Starts reports whether the outcome starts jobs.
func (o Outcome) Starts() bool { return o == Fired || o == Late }

// Tick is one entry of the ledger on StreamTasks.
type Tick struct {
	Outcome Outcome      `json:"outcome"`
	Due     time.Time    `json:"due"` // when the schedule asked for it, UTC; the time of the request for manual runs
	Cluster string       `json:"cluster"`
	Task    string       `json:"task"`
	Servers []job.Server `json:"servers,omitempty"` // the servers meant; empty for all that the task's schedule targets
	// Args go to every job that the tick starts ([job.Job.Args]).
	Args   map[string]string `json:"args,omitempty"`
	Reason string            `json:"reason,omitempty"`
	// Gate is what decided that nothing is started, of a skipped or missed tick; Reason says the same for people. Empty in
	// entries that an earlier drydock wrote.
	Gate    job.Gate    `json:"gate,omitempty"`
	Trigger job.Trigger `json:"trigger"`
	// Lateness is how long after Due the decision was made, in seconds.
	Lateness float64 `json:"lateness_s"`
	// Count is how many ticks this entry stands for when a long absence is recorded as one entry (missed, and skipped of a
	// schedule that was switched off meanwhile); they fell due from Due up to Until. 0 means one.
	Count int       `json:"count,omitempty"`
	Until time.Time `json:"until,omitzero"`
	// Cursor is up to when this schedule has been decided. Every entry carries it on, whatever the entry is about.
	Cursor time.Time `json:"cursor,omitzero"`
	Spec   string    `json:"spec,omitempty"` // cron spec and zone in force, empty when disarmed
	Zone   string    `json:"zone,omitempty"`
	Actor  string    `json:"actor,omitempty"` // scheduler or gateway that wrote it
	Type   string    `json:"type"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
}

// SkipID is the id of the entry that says that a tick started nothing on a server; the zero Server stands for the cluster.
func SkipID(tick string, srv job.Server) string {
	if srv == (job.Server{}) {
		return "skip-" + tick + "-" + NoServer
	}
	return "skip-" + tick + "-" + ServerToken(srv.Host, srv.Port)
}

// SkipOf is the id of the tick that the entry says to have started nothing, and where: the zero Server for the cluster. ok
// is false for an entry of another kind.
func (t Tick) SkipOf() (tick string, srv job.Server, ok bool) {
	if t.Outcome != Skipped {
		return "", job.Server{}, false
	}
	for _, srv := range append([]job.Server{{}}, t.Servers...) {
		if tick, ok := strings.CutPrefix(strings.TrimSuffix(t.ID, SkipID("", srv)[len("skip-"):]), "skip-"); ok && SkipID(tick, srv) == t.ID {
			return tick, srv, true
		}
	}
	return "", job.Server{}, false
}
