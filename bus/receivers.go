package bus

import (
	"time"

	"drydock/job"
)

// The verbs of [ReceiverSubject].
const (
	VerbOpen   = "open"   // reserves a port on this receiver ([OpenRequest], [OpenReply])
	VerbClose  = "close"  // gives it back ([CloseRequest])
	VerbCommit = "commit" // gives a proven stream its name ([CommitRequest], [CommitReply])
	VerbCheck  = "check"  // waits for the end of a Check stream ([CheckReply])
	VerbSend   = "send"   // streams a backup out ([SendRequest], [SendReply])
	VerbPlan   = "plan"   // what a prune would do now ([PlanRequest], [PlanReply])
	VerbPrune  = "prune"  // deletes what a plan named ([PruneRequest], [PruneReply])
	VerbDisk   = "disk"   // how full the disk is, and when it will be ([DiskReply])
	VerbPorts  = "ports"  // how many ports of the pool are in use ([PortsReply])
)

// The error codes of the receiver service, beside NATS's own.
const (
	CodeExhausted = "EXHAUSTED" // every port of the pool is in use
	CodeNoSpace   = "NOSPACE"   // the backup would not fit on the receiver's disk
	CodeGone      = "GONE"      // no such reservation or file here
	CodeRefused   = "REFUSED"   // the request is not allowed or not possible
)

// PortsReply is how many ports a receiver has in use. Total is the size of its pool, 0 when it takes any free port.
type PortsReply struct {
	Receiver string `json:"receiver"`
	Total    int    `json:"total"`
	InUse    int    `json:"in_use"`
}

// DiskReply is how full the disk of a receiver's backups is.
type DiskReply struct {
	Receiver string    `json:"receiver"`
	Time     time.Time `json:"time"`
	Folder   string    `json:"folder"`
	Total    int64     `json:"total"`   // bytes
	Free     int64     `json:"free"`    // bytes that drydock may write
	Reserve  int64     `json:"reserve"` // bytes of them that backups leave free (disk-reserve)
	// Full says that the disk is expected to be full within a year, FullIn in how many seconds from Time on.
	Full     bool            `json:"full"`
	FullIn   float64         `json:"full_in_s"`
	Outlook  string          `json:"outlook"` // the same for people
	Rejected []RejectedCount `json:"rejected,omitempty"`
}

// RejectedCount is how many files of a server lie in its folder "rejected".
type RejectedCount struct {
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Files   int        `json:"files"`
	Bytes   int64      `json:"bytes"`
}
