package bus

import (
	"time"

	"drydock/job"
)

// AlertState says which edge of a condition an [Alert] is.
type AlertState string

// The edges.
const (
	AlertOpened AlertState = "opened"
	AlertClosed AlertState = "closed"
)

// Severity is how much a condition matters.
type Severity string

// The severities.
const (
	SeverityInfo  Severity = "info"  // worth knowing, nothing to do
	SeverityWarn  Severity = "warn"  // look at it in time
	SeverityError Severity = "error" // something that was asked for did not happen
)

// Alert is one edge of a condition on StreamAlerts. The closing one repeats what the opening one said.
type Alert struct {
	State    AlertState `json:"state"`
	Code     string     `json:"code"`
	Severity Severity   `json:"severity"`
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server,omitzero"` // none for a condition of the whole cluster
	Task     string     `json:"task,omitempty"`
	Text     string     `json:"text"`  // for people, as it was when the condition opened
	Since    time.Time  `json:"since"` // when it began to hold, as far as the facts tell
	JobID    string     `json:"job_id,omitempty"`
	Actor    string     `json:"actor,omitempty"` // evaluator that wrote it
	Type     string     `json:"type"`
	ID       string     `json:"id"`
	Time     time.Time  `json:"time"` // of this edge
}
