package restore

import (
	"errors"
	"slices"
	"time"

	"drydock/job"
)

// Verdict is what a look before a restore found.
type Verdict string

// The verdicts. One that is refused keeps the restore from being done.
const (
	Fine    Verdict = "ok"
	Warning Verdict = "warning"
	Refused Verdict = "refused"
)

// Finding is one look before a restore.
type Finding struct {
	What    string  `json:"what"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

// Plan is what a restore would do, and what stands against it. Nothing was changed to make it.
type Plan struct {
	Backup  string     `json:"backup"`
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
	Tool    string     `json:"tool,omitempty"`
	Ended   time.Time  `json:"ended"` // the backup
	GTID    string     `json:"gtid,omitempty"`
	Proof   string     `json:"proof"`
	Target  string     `json:"target"`
	Steps   []string   `json:"steps"`
	Read    int64      `json:"read_bytes"` // of the backup
	Need    int64      `json:"need_bytes"` // on the target's disk, while it is done
	// Free is what the target's disk has free; absent where nobody could look: of a server, whose script looks itself, and of a plan
	// that was made on another machine.
	Free *int64 `json:"free_bytes,omitempty"`
	// Estimate is how long it takes, in seconds; absent when nothing was measured. Measured says what.
	Estimate *float64 `json:"estimate_s,omitempty"`
	Measured string   `json:"measured"`
	// Lost says what is not there any more afterwards, and until when the data go.
	Lost string `json:"lost"`
	// Point is the way to the point in time that is asked for.
	Point    *PointPlan `json:"point,omitempty"`
	Findings []Finding  `json:"findings"`
	// Command is the command line that does it, and Machine where it has to be run; empty in the answers of the command line.
	Command string `json:"command,omitempty"`
	Machine string `json:"machine,omitempty"`
}

// Refused reports whether something keeps the restore from being done.
func (p Plan) Refused() bool {
	return slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Verdict == Refused })
}

// PointPlan is how a restore gets from its backup to a point in time.
type PointPlan struct {
	To string `json:"to"`
	// Base is where the replay begins, and Covered and Reaches how far the archive of binary logs leads from there.
	Base    string    `json:"base"`
	Reaches time.Time `json:"reaches,omitzero"`
	Covered string    `json:"reaches_gtid,omitempty"`
	Gap     string    `json:"gap,omitempty"` // why it leads no further
	// What is replayed.
	Segments     int       `json:"segments"`
	Read         int64     `json:"read_bytes"`
	Transactions int       `json:"transactions"`
	Last         time.Time `json:"last,omitzero"` // when the last of them was committed
	GTID         string    `json:"gtid,omitempty"`
}

// Question asks for a plan that is made from what the bus knows, on whichever machine.
type Question struct {
	Cluster string
	Backup  string     // id; empty for the newest good one
	Of      job.Server // of this server, and not beyond To
	To      string     // TIME (UTC where it names no zone) or GTID; empty for the backup's own
	// Directory or Server gets the data.
	Directory string
	Server    job.Server
	Stay      bool // of a server: it stays at the backup's point, without replication
}

// ErrQuestion is in the chain of every error that says that a question cannot be understood.
var ErrQuestion = errors.New("the plan cannot be made")
