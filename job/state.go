package job

import (
	"errors"
	"fmt"
)

// State is where a job stands. The strings are the wire spelling on the bus and in the REST API
// (architecture.md section 3).
type State string

// The states of a job. "Live" states hold the (server, task) slot: at most one job per server and task is in one.
const (
	// Queued is due but not dispatched: it waits for a port, a slot or another job. The dispatcher moves it on.
	Queued State = "queued"
	// Available is offered: a row stands in the jobs table, or the API answers needs with true. Nobody took it yet.
	Available State = "available"
	// Claimed was handed to one client by needs (api mode); it returns to Available when the client shows no life.
	Claimed State = "claimed"
	// Processing means that the script (or drydock itself) works on it.
	Processing State = "processing"
	// Waiting means that the script listens for a stream from drydock (reseed, flashback).
	Waiting State = "waiting"
	// Finished means that the worker says done; the post-job checks decide between Success and Failed.
	Finished State = "finished"
	// Success means that every check passed.
	Success State = "success"
	// Halted failed in execution, was cut, or lost its sign of life.
	Halted State = "halted"
	// Failed ran to its end but what came back is not proof.
	Failed State = "failed"
	// Canceled was ended by an operator.
	Canceled State = "canceled"
	// Expired was never picked up in time.
	Expired State = "expired"
	// Skipped was not run; the reason says why.
	Skipped State = "skipped"
)

// States lists every state in the order of a job's life.
var States = []State{
	Queued, Available, Claimed, Processing, Waiting, Finished,
	Success, Halted, Failed, Canceled, Expired, Skipped,
}

// Live reports whether a job in this state still holds its (server, task) slot.
func (s State) Live() bool {
	switch s {
	case Queued, Available, Claimed, Processing, Waiting, Finished:
		return true
	}
	return false
}

// LiveStates are those of which [State.Live] says so.
var LiveStates = []State{Queued, Available, Claimed, Processing, Waiting, Finished}

// Running reports whether a worker holds the job, so that a sign of life is expected from it.
func (s State) Running() bool {
	return s == Claimed || s == Processing || s == Waiting
}

// Started reports whether a worker has begun the work, or has ended it and awaits the checks.
func (s State) Started() bool { return s == Processing || s == Waiting || s == Finished }

// Known reports whether s is one of [States].
func (s State) Known() bool {
	for _, k := range States {
		if s == k {
			return true
		}
	}
	return false
}

// Event is something that happened to a job.
type Event string

// The events. Each says who raises it.
const (
	// Offer: the dispatcher wrote the row or opened the request.
	Offer Event = "offer"
	// Withdraw: the dispatcher takes an offer back because its port is gone.
	Withdraw Event = "withdraw"
	// Claim: a client asked needs and got true.
	Claim Event = "claim"
	// Release: the sweeper found a claim without a sign of life.
	Release Event = "release"
	// Start: the worker reports processing.
	Start Event = "start"
	// Wait: the worker reports waiting.
	Wait Event = "wait"
	// Done: the worker reports the end of its work.
	Done Event = "done"
	// Error: the worker reports that it failed.
	Error Event = "error"
	// Cut: drydock ended the work: a stream broke, a disk was full, a lease ran out, a restart cut it.
	Cut Event = "cut"
	// Pass: the post-job checks hold.
	Pass Event = "pass"
	// Refute: a post-job check does not hold.
	Refute Event = "refute"
	// Cancel: an operator ended the job.
	Cancel Event = "cancel"
	// Expire: the sweeper found an offer that nobody took in time.
	Expire Event = "expire"
	// Skip: the dispatcher decided not to run it.
	Skip Event = "skip"
	// Retry: the sweeper starts another attempt of a job that was cut or refused.
	Retry Event = "retry"
	// Create: the first entry of a job; it is no event for [Next].
	Create Event = "create"
	// Note: facts were added (bytes, log evidence, a stream opened); the state stays.
	Note Event = "note"
)

// Events lists every event in the order of the constants.
var Events = []Event{
	Offer, Withdraw, Claim, Release, Start, Wait, Done, Error, Cut,
	Pass, Refute, Cancel, Expire, Skip, Retry, Note,
}

// ErrTransition is returned by [Next] for an event that the state does not allow. The caller changes nothing:
// what arrives late from a job that ended is not an error of the job.
var ErrTransition = errors.New("transition not allowed")

// The whole life of a job. Reading down a column shows what an event may find.
//
//	queued ──offer──> available ──claim──> claimed ─┐
//	  ^  ^               │  ^                 │     │
//	  │  └──withdraw─────┘  └─────release─────┘     │ start, wait
//	  │                  └──start, wait─────────────┤
//	retry                                           v
//	  │                               processing <──────> waiting
//	  │                                     │  done          │
//	  │                                     v                v
//	  │          error, cut ──> halted   finished ──pass──> success
//	  └──────────────────────────┴── failed <──refute──┘
//
//	cancel ends every live state, expire those not taken, skip a queued one.
//
// An entry that leads to its own state is an event that may be repeated: clients call everything several times.
var transitions = map[State]map[Event]State{
	Queued:     {Offer: Available, Cancel: Canceled, Expire: Expired, Skip: Skipped},
	Available:  {Offer: Available, Withdraw: Queued, Claim: Claimed, Start: Processing, Wait: Waiting, Done: Finished, Error: Halted, Cut: Halted, Cancel: Canceled, Expire: Expired},
	Claimed:    {Withdraw: Queued, Release: Available, Start: Processing, Wait: Waiting, Done: Finished, Error: Halted, Cut: Halted, Cancel: Canceled},
	Processing: {Start: Processing, Wait: Waiting, Done: Finished, Error: Halted, Cut: Halted, Cancel: Canceled},
	Waiting:    {Start: Processing, Wait: Waiting, Done: Finished, Error: Halted, Cut: Halted, Cancel: Canceled},
	Finished:   {Done: Finished, Start: Finished, Pass: Success, Refute: Failed, Cut: Failed, Error: Failed, Cancel: Canceled},
	Success:    {Done: Success, Pass: Success},
	Halted:     {Error: Halted, Cut: Halted, Retry: Queued},
	Failed:     {Error: Failed, Refute: Failed, Retry: Queued},
	Canceled:   {Cancel: Canceled},
	Expired:    {Expire: Expired, Retry: Queued},
	Skipped:    {Skip: Skipped},
}

// Next returns the state that event e leads to from s. It is pure. A [Note] keeps any state.
// Errors: [ErrTransition] (wrapped, naming both) when the table has no such entry.
func Next(s State, e Event) (State, error) {
	if e == Note && s.Known() {
		return s, nil
	}
	to, ok := transitions[s][e]
	if !ok {
		return s, fmt.Errorf("%w: %s in state %s", ErrTransition, e, s)
	}
	return to, nil
}

// The codes of the state column of replication_manager_schema.jobs (maintenance.txt section 6.1.2.1; architecture.md
// section 3 adds 2, 4 and 6, and says that 5 is a failure in execution).
const (
	CodeAvailable  = 0
	CodeProcessing = 1
	CodeWaiting    = 2
	CodeFinished   = 3
	CodeSuccess    = 4
	CodeHalted     = 5
	CodeFailed     = 6
)

// SQLCode is the state column for s; ok is false for states that have no row of their own.
func (s State) SQLCode() (code int, ok bool) {
	switch s {
	case Available, Claimed:
		return CodeAvailable, true
	case Processing:
		return CodeProcessing, true
	case Waiting:
		return CodeWaiting, true
	case Finished:
		return CodeFinished, true
	case Success:
		return CodeSuccess, true
	case Halted, Canceled, Expired:
		return CodeHalted, true
	case Failed:
		return CodeFailed, true
	}
	return 0, false
}

// EventOfRow is the event that a row tells of (wire.md section 4): a row with state 5 and done 0 has ended, and
// done=1 with a success code means done whatever wrote it. ok is false for a row that nobody took.
func EventOfRow(code int, done bool) (e Event, ok bool) {
	switch {
	case code == CodeHalted || code == CodeFailed:
		return Error, true
	case code == CodeFinished || code == CodeSuccess || done:
		return Done, true
	case code == CodeProcessing:
		return Start, true
	case code == CodeWaiting:
		return Wait, true
	}
	return "", false
}

// EventOfWord is the event of a word of the job-state route (wire.md section 3): processing, waiting, done, error.
func EventOfWord(word string) (e Event, ok bool) {
	switch word {
	case "processing":
		return Start, true
	case "waiting":
		return Wait, true
	case "done":
		return Done, true
	case "error":
		return Error, true
	}
	return "", false
}
