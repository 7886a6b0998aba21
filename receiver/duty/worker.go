package duty

import (
	"context"

	"drydock/bus"
	"drydock/job"
)

// Worker knows how the jobs of some tasks are done. Its methods may be called from several goroutines.
type Worker interface {
	// Tasks are those it does.
	Tasks() []string
	// Plan says what is to be done for a job that waits; nil when it is another receiver's, or its time has not come. It changes
	// nothing: somebody else may get the job. [Nothing] has the job skipped; after any other error it is asked again.
	Plan(ctx context.Context, j job.Job) (Deed, error)
}

// Nothing is the error of a Plan that found nothing to do, with the reason: nobody has anything to do, here or elsewhere.
func Nothing(reason string) error { return nothing(reason) }

type nothing string

func (n nothing) Error() string { return string(n) }

// Beginner is a [Worker] that has something to tidy up before its first job.
type Beginner interface {
	Worker
	// Begin is called once, when the jobs that an earlier process left behind have been cut.
	Begin(ctx context.Context)
}

// Deed does a started job. An error fails the job; the result stands in it all the same. When ctx ends the work must, with
// nothing left behind; why it ended is found out by the caller.
type Deed func(ctx context.Context, w *Work) (Result, error)

// Result is what came of a deed, for people.
type Result struct {
	Tool string // that did it
	Text string
	// Finding is what is wrong with what was looked at, empty for nothing. The work was done, and the job failed.
	Finding string
}

// Orderer is a [Worker] that asks for jobs itself, and not only does those that others ask for.
type Orderer interface {
	Worker
	// Observe is told of every change of every job, whoever does it. It returns at once; true asks for Order.
	Observe(ev bus.JobEvent) bool
	// Order asks for the jobs that are missing. It is called again and again, first when the jobs that an earlier process left
	// behind have been cut.
	Order(ctx context.Context)
}
