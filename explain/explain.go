// Package explain answers why a task of a cluster ran, or did not: each tick with what became of it, what decided that, and
// the messages that prove it.
//
// [Explain] is pure: it looks at what [Read] found in the ledger, in the log of jobs and with the schedulers. There is no
// tick without an answer: what the calendar says and the ledger does not is told as well, with what is known of it.
package explain

import (
	"time"

	"drydock/bus"
	"drydock/job"
)

// Decider is what decided about a tick or a job.
type Decider string

// The deciders. Those of the tick first, then those that a job may meet, in that order.
const (
	BySchedule Decider = "schedule" // nothing kept it
	ByPerson   Decider = "person"   // somebody asked for it by hand, or it is a step of what somebody asked for
	ByOff              = Decider(job.GateOff)
	ByAbsence          = Decider(job.GateAbsence)
	ByLateness         = Decider(job.GateLateness)
	ByCatchUp          = Decider(job.GateCatchUp)
	ByLedger           = Decider("ledger") // its entry is not there any more
	ByConfig           = Decider(job.GateConfig)

	ByHold     = Decider(job.GateHold)
	ByBlackout = Decider(job.GateBlackout)
	ByWindow   = Decider(job.GateWindow)
	ByRunning  = Decider(job.GateRunning)
	ByRolling  = Decider(job.GateRolling)
	BySplay    = Decider(job.GateSplay)
	ByLimit    = Decider(job.GateLimit)
	ByDatabase = Decider(job.GateDatabase)

	ByHeavy    Decider = "heavy"    // another heavy job has the server
	ByReceiver Decider = "receiver" // no receiver, no port or no room
	ByPickup   Decider = "pickup"   // nobody took the offer
	ByClaim    Decider = "claim"    // who took it showed no life
	ByLease    Decider = "lease"    // no sign of life while it ran
	ByWorker   Decider = "worker"   // the tool or the script failed
	ByCut      Decider = "cut"      // drydock ended it: a stream broke, a disk was full, a restart
	ByProof    Decider = "proof"    // what came back is not proof
	ByOperator Decider = "operator" // somebody cancelled it
)

// The outcomes that no ledger entry has, beside those of [bus.Outcome].
const (
	// Undecided: due, and no entry says what became of it.
	Undecided bus.Outcome = "undecided"
	// Lost: decided, and the entry is gone.
	Lost bus.Outcome = "lost"
	// Off: the schedule was off for all of the time that is looked at.
	Off bus.Outcome = "off"
)

// Explanation is the answer for one task of one cluster from one time to another.
type Explanation struct {
	Cluster string    `json:"cluster"`
	Task    string    `json:"task"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	// Schedule says in a sentence how the schedule stands now.
	Schedule string `json:"schedule"`
	// Ticks are what fell due from From to To, oldest first, and the changes of the schedule between them.
	Ticks []Tick `json:"ticks"`
	// Next is what will come, when To is not in the past.
	Next []Coming `json:"next"`
	// Cut says that there are more ticks than are listed: the newest are.
	Cut int `json:"cut,omitempty"`
}

// Tick is one tick with what became of it.
type Tick struct {
	Due     time.Time         `json:"due"`
	Until   time.Time         `json:"until,omitzero"` // for several in one: the last of them
	Count   int               `json:"count,omitempty"`
	Outcome bus.Outcome       `json:"outcome"`
	By      Decider           `json:"by"`
	Why     string            `json:"why"`
	Trigger job.TriggerKind   `json:"trigger,omitempty"`
	Jobs    []Job             `json:"jobs"`
	Behind  []Message         `json:"messages"`
	Args    map[string]string `json:"args,omitempty"`
}

// Job is what a tick started on one server, or why it started nothing there (ID is empty then).
type Job struct {
	ID      string     `json:"id,omitempty"`
	Server  job.Server `json:"server"`
	State   job.State  `json:"state"`
	By      Decider    `json:"by"`
	Why     string     `json:"why"`
	Attempt int        `json:"attempt,omitempty"`
	Created time.Time  `json:"created,omitzero"`
	Started time.Time  `json:"started,omitzero"`
	Ended   time.Time  `json:"ended,omitzero"`
	Reason  string     `json:"reason,omitempty"` // of its last state, as the bus has it
	Behind  []Message  `json:"messages"`
}

// Message is where one can look it up: nats stream get STREAM SEQ.
type Message struct {
	Stream string    `json:"stream"`
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	What   string    `json:"what"` // the outcome or the event and state that it tells
}

// Coming is a tick that is not due yet.
type Coming struct {
	Due time.Time `json:"due"`
	By  Decider   `json:"by"`
	Why string    `json:"why"` // what will become of it, as things stand
}

// Entry is one of the ledger.
type Entry struct {
	bus.Tick
	Seq uint64
}

// Event is one of the log of jobs.
type Event struct {
	bus.JobEvent
	Seq uint64
}

// Facts are what an explanation is made of.
type Facts struct {
	Cluster, Task string
	From, To, Now time.Time
	// Before is the last entry of the schedule that was written before From; nil when there is none.
	Before *Entry
	// Last is the last entry of the schedule at all; nil when there is none.
	Last *Entry
	// Entries of the schedule, and Events of its jobs, that were written since From, oldest first.
	Entries []Entry
	Events  []Event
	// Signs are when a scheduler wrote something, oldest first: about the cluster, and about whichever cluster next before and
	// next after each tick that was missed.
	Signs []time.Time
	// Oldest is the time of the oldest entry that the ledger of all schedules still has.
	Oldest time.Time
	// Answered says that a scheduler answered, and Schedule what it has for the task; nil when it knows of none.
	Answered bool
	Schedule *bus.ScheduleInfo

	most int // entries, and events, that are read
}
