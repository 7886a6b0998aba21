package job

import (
	"slices"
	"time"
)

// Plan is the order of a rolling operation and how far it is. It is part of the job of the operation, so it is as
// durable as that, and changed by compare-and-swap like it.
type Plan struct {
	// Stages are the servers in the order of their turn. The first that has not ended is the present one.
	Stages []Stage `json:"stages,omitempty"`
	// Order is what an operator last asked for; empty while it is to go on.
	Order Order `json:"order,omitzero"`
	// Paused is since when it stands between two servers, because of an order or a hold; the job's reason says why.
	Paused time.Time `json:"paused,omitzero"`
	// Term counts who took the operation up. A worker of an earlier term changes nothing any more.
	Term   int    `json:"term"`
	Worker string `json:"worker,omitempty"` // the scheduler of this term
}

// Order is an operator's word to a rolling operation.
type Order struct {
	Word string    `json:"word"` // [OrderPause] or [OrderAbort]
	By   string    `json:"by"`
	Time time.Time `json:"time"`
}

// The words of an [Order]. Resuming takes a pause back; an abort is final.
const (
	OrderPause  = "pause"
	OrderResume = "resume"
	OrderAbort  = "abort"
)

// Stage is the turn of one server in a rolling operation.
type Stage struct {
	Server Server     `json:"server"`
	Role   string     `json:"role"`           // primary or replica, as the server said itself
	From   string     `json:"from,omitempty"` // what a replica replicates from, HOST:PORT
	State  StageState `json:"state"`
	Phase  string     `json:"phase,omitempty"` // what was begun last
	Since  time.Time  `json:"since,omitzero"`  // the phase began
	Began  time.Time  `json:"began,omitzero"`
	Ended  time.Time  `json:"ended,omitzero"`
	Reason string     `json:"reason,omitempty"` // why it was skipped or failed
	// Tick and Due name the order in the ledger that starts the stage's own job, Job that job. They are recorded before the
	// order is given, so that it is found again and not given twice.
	Tick string    `json:"tick,omitempty"`
	Due  time.Time `json:"due,omitzero"`
	Job  string    `json:"job,omitempty"`
	// ReadOnly says that drydock made the server read-only, or was about to, and has not undone it.
	ReadOnly bool    `json:"read_only,omitempty"`
	Before   *Health `json:"before,omitempty"` // as it was before it was touched
	After    *Health `json:"after,omitempty"`  // as the gate found it
}

// StageState is where a [Stage] stands.
type StageState string

// The states of a stage.
const (
	StagePending StageState = "pending"
	StageRunning StageState = "running"
	StageDone    StageState = "done"
	StageSkipped StageState = "skipped"
	StageFailed  StageState = "failed"
)

// Health is what counts of a server in a rolling operation.
type Health struct {
	Started  time.Time `json:"started"`            // the server's own start, by its uptime
	Channels []string  `json:"channels,omitempty"` // the channels on which replication runs; the default one is ""
	Lag      *int64    `json:"lag_s,omitempty"`    // the largest of them, seconds
	Replicas []Server  `json:"replicas,omitempty"` // servers of the cluster that replicate from it
	Time     time.Time `json:"time"`
}

// Present is the index of the stage that is to be worked on, or len(Stages) when all have ended.
func (p *Plan) Present() int {
	i := slices.IndexFunc(p.Stages, func(s Stage) bool { return s.State == StagePending || s.State == StageRunning })
	if i < 0 {
		return len(p.Stages)
	}
	return i
}

// Begun reports whether any server was touched.
func (p *Plan) Begun() bool {
	return slices.ContainsFunc(p.Stages, func(s Stage) bool { return !s.Began.IsZero() })
}

// Owes reports whether a server is read-only because of the operation.
func (p *Plan) Owes() bool {
	return p != nil && slices.ContainsFunc(p.Stages, func(s Stage) bool { return s.ReadOnly })
}

// Clone is a copy that shares nothing that is changed in place.
func (p *Plan) Clone() *Plan {
	if p == nil {
		return nil
	}
	c := *p
	c.Stages = slices.Clone(p.Stages)
	return &c
}
