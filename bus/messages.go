package bus

import (
	"time"

	"drydock/job"
)

// The type names of the messages. The version changes when a reader of the old one would misunderstand the new one.
const (
	TypeJob      = "drydock.v1.job"
	TypeTick     = "drydock.v1.tick"
	TypeLog      = "drydock.v1.log"
	TypeProgress = "drydock.v1.progress"
	TypeAlert    = "drydock.v1.alert"
	TypeAudit    = "drydock.v1.audit"

	TypeNotification = "drydock.v1.notification"
)

// JobEvent is one transition of a job on StreamJobs. The state stands first so that a person reading `nats sub` sees it.
type JobEvent struct {
	State   job.State `json:"state"`
	Prev    job.State `json:"prev,omitempty"`
	Event   job.Event `json:"event"`
	Reason  string    `json:"reason,omitempty"`
	Actor   string    `json:"actor,omitempty"`
	Attempt int       `json:"attempt"`
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Job     job.Job   `json:"job"`
}

// LogBatch is one decrypted batch of log lines on StreamLogs.
type LogBatch struct {
	Level   string     `json:"level"`
	Lines   []string   `json:"lines"`
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
	JobID   string     `json:"job_id,omitempty"` // empty for the client's own channels
	Attempt int        `json:"attempt,omitempty"`
	Type    string     `json:"type"`
	ID      string     `json:"id"`
	Time    time.Time  `json:"time"`
}

// Sign says what a [Progress] message is a sign of.
type Sign string

// The signs of life of a running job (architecture.md section 3).
const (
	SignBytes     Sign = "bytes"     // the receiver took or sent bytes
	SignLog       Sign = "log"       // a log batch arrived
	SignRow       Sign = "row"       // the job's row changed
	SignHeartbeat Sign = "heartbeat" // drydock's own script called
)

// Progress is a sign of life, at most one a second per job and kind, not stored.
type Progress struct {
	Sign    Sign       `json:"sign"`
	Bytes   int64      `json:"bytes,omitempty"`   // moved so far
	Rate    float64    `json:"rate,omitempty"`    // bytes per second over the last interval
	Percent float64    `json:"percent,omitempty"` // of the whole, 0 to 100, where the tool tells
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
	JobID   string     `json:"job_id"`
	Attempt int        `json:"attempt"`
	Type    string     `json:"type"`
	Time    time.Time  `json:"time"`
}
