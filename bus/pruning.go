package bus

import (
	"time"

	"drydock/job"
)

// PlanRequest asks a receiver what it would keep and delete of the backups of a cluster that it holds. Nothing is changed.
type PlanRequest struct {
	Cluster string `json:"cluster"`
	From    int    `json:"from,omitempty"` // [PlanReply.Next] of the page before
}

// PlanReply is a page of a plan.
type PlanReply struct {
	Items []PlanItem `json:"items"`
	Next  int        `json:"next,omitempty"` // where the next page begins; 0 when there is none
}

// PlanItem is a backup, or something that was left behind in the folder of one, and what is to become of it.
type PlanItem struct {
	Receiver string     `json:"receiver"`
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server,omitzero"`
	Task     string     `json:"task,omitempty"`
	Backup   string     `json:"backup,omitempty"` // its id; empty for what is no backup
	File     string     `json:"file,omitempty"`
	Ended    time.Time  `json:"ended,omitzero"`
	Bytes    int64      `json:"bytes"`
	Keep     bool       `json:"keep"`
	Why      []string   `json:"why"`
	// Going says that a prune that was interrupted had begun to delete it. One that is to be kept by now must be named in a
	// [PruneRequest], too: its record is taken back.
	Going bool `json:"going,omitempty"`
	// Problem says what is wrong with it, or that the receiver did not answer; empty when all is well.
	Problem string `json:"problem,omitempty"`
}

// Name is what a [PruneRequest] calls the item.
func (p PlanItem) Name() string {
	if p.Backup != "" {
		return p.Backup
	}
	return p.File
}

// PruneRequest has a receiver delete what a plan of its own named. It makes the plan anew before: what is to be kept by then
// is kept. A request may be repeated.
type PruneRequest struct {
	Cluster string   `json:"cluster"`
	Names   []string `json:"names"` // [PlanItem.Name], at most [PruneAtOnce]
	By      string   `json:"by"`    // the job
}

// PruneAtOnce is how many items one request may name: a deletion on a slow disk takes seconds.
const PruneAtOnce = 20

// PruneReply says what became of each item, in no order. What is not in it was gone already.
type PruneReply struct {
	Outcomes []PruneOutcome `json:"outcomes"`
}

// PruneOutcome is what became of one item.
type PruneOutcome struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
	Freed   int64  `json:"freed"`             // bytes
	Why     string `json:"why,omitempty"`     // why it was kept after all
	Problem string `json:"problem,omitempty"` // why it could not be deleted
}
