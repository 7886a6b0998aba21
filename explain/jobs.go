package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
)

// told is a job with the tick that started it.
type told struct {
	Job
	tick string
}

// jobsOf tells of every job in the events, in the order of their beginning.
func jobsOf(events []Event) (out []told) {
	at := map[string]int{}
	last := map[string]job.Job{}
	behind := map[string][]Message{}
	for _, ev := range events {
		id := ev.Job.ID
		if _, known := at[id]; !known {
			at[id], out = len(out), append(out, told{})
		}
		was, known := last[id]
		if last[id] = ev.Job; known && ev.Event == job.Note && ev.Job.Gate == was.Gate && ev.Job.Reason == was.Reason {
			continue // facts about it, no decision
		}
		what := string(ev.Event)
		if ev.Event != job.Note {
			what += " -> " + string(ev.State)
		} else if ev.Job.Gate != was.Gate {
			what = "gate " + gateName(ev.Job.Gate)
		}
		behind[id] = append(behind[id], Message{bus.StreamJobs, ev.Seq, ev.Time, what})
	}
	for id, i := range at {
		j := last[id]
		by, why := verdict(j)
		out[i] = told{Job{
			ID: j.ID, Server: j.Server, State: j.State, By: by, Why: why, Attempt: j.Attempt, Created: j.Created,
			Started: j.Started(), Ended: j.Ended(), Reason: j.Reason, Behind: behind[id],
		}, j.Tick}
	}
	return out
}

func gateName(g job.Gate) string {
	if g == "" {
		return "open"
	}
	return string(g)
}

// verdict says what a job waits for, does, or ended by.
func verdict(j job.Job) (Decider, string) {
	by, why := decided(j)
	if j.Attempt > 1 {
		why += fmt.Sprintf(" (attempt %d)", j.Attempt)
	}
	return by, why
}

func decided(j job.Job) (Decider, string) {
	because := func(text string) string {
		if j.Reason == "" {
			return text
		}
		return text + ": " + j.Reason
	}
	switch j.State {
	case job.Queued:
		return waits(j)
	case job.Available:
		if j.CalledBack() {
			return Decider(j.Gate), because("its offer is being called back")
		}
		return ByPickup, "offered since " + utc(j.Since) + ", and nobody took it yet" + taker(j)
	case job.Claimed:
		return ByClaim, "handed to " + worker(j) + " at " + utc(j.Since) + ", which has not said since that it began"
	case job.Processing, job.Waiting:
		return BySchedule, "runs since " + utc(j.Started())
	case job.Finished:
		return BySchedule, because("its work has ended, the checks go on")
	case job.Success:
		return BySchedule, "ended in success" + after(j)
	case job.Halted:
		return halted(j), because("halted" + after(j))
	case job.Failed:
		return ByProof, because("ran to its end, but it is not proven")
	case job.Canceled:
		return ByOperator, because("cancelled")
	case job.Expired:
		return expired(j), because("not run")
	case job.Skipped:
		return skippedBy(j.Reason), because("not run")
	}
	return BySchedule, because(string(j.State))
}

// waits says what a queued job waits for.
func waits(j job.Job) (Decider, string) {
	switch {
	case j.Gate != "":
		return Decider(j.Gate), "has not begun: " + j.Reason
	case j.Held():
		return ByHeavy, "has not begun: " + strings.TrimPrefix(j.Reason, job.HeldReason)
	case j.Reason == "", len(j.Steps) == 1 && j.Steps[0].Event == job.Create && j.Steps[0].Reason == j.Reason:
		return ByPickup, "waits to be offered since " + utc(j.Since) // the reason is the tick's
	}
	return dispatchedBy(j.Reason), "waits to be offered: " + j.Reason
}

// dispatchedBy says what keeps a job from being offered that no gate keeps.
func dispatchedBy(reason string) Decider {
	switch {
	case job.WaitsForPort(reason):
		return ByReceiver
	case strings.HasPrefix(reason, job.ReasonNoSQL), strings.HasPrefix(reason, job.ReasonNoRow):
		return ByDatabase
	case strings.HasPrefix(reason, job.HeldReason):
		return ByHeavy
	}
	return ByPickup
}

// expired says what a job waited for until its time was over.
func expired(j job.Job) Decider {
	if strings.HasSuffix(j.Reason, "no longer in the configuration of the cluster") {
		return ByConfig
	}
	if _, rest, ok := strings.Cut(j.Reason, ": "); ok && strings.HasPrefix(j.Reason, "not offered ") {
		return dispatchedBy(rest)
	}
	if slices.ContainsFunc(j.Steps, func(s job.Step) bool { return s.Event == job.Release }) {
		return ByClaim
	}
	return ByPickup
}

func halted(j job.Job) Decider {
	if n := len(j.Steps); n > 0 && j.Steps[n-1].Event == job.Error {
		return ByWorker
	}
	if strings.HasPrefix(j.Reason, "no sign of life for ") {
		return ByLease
	}
	return ByCut
}

// decider is what an entry says of a tick that started nothing. Of those that an earlier drydock wrote only the sentence tells.
func (x Entry) decider() Decider {
	switch {
	case x.Gate != "":
		return Decider(x.Gate)
	case x.Outcome == bus.Missed:
		return missedBy(x.Reason)
	}
	return skippedBy(x.Reason)
}

// skippedBy says what decided that something is not run, from the reason that was recorded with it.
func skippedBy(reason string) Decider {
	switch {
	case strings.Contains(reason, " is on hold since "):
		return ByHold
	case strings.Contains(reason, " is blacked out from "):
		return ByBlackout
	case strings.HasPrefix(reason, "outside maintenance-windows"):
		return ByWindow
	case strings.HasPrefix(reason, "job ") && strings.Contains(reason, " is still "), reason == "a later tick was started first":
		return ByRunning
	case strings.HasPrefix(reason, "job ") && strings.Contains(reason, " left a server read-only"),
		strings.HasPrefix(reason, "step "), strings.Contains(reason, "rolling-wait-timeout"):
		return ByRolling
	case strings.Contains(reason, "no scheduler ran"):
		return ByAbsence
	}
	return ByConfig
}

// missedBy says what decided that a tick is not made up for.
func missedBy(reason string) Decider {
	switch {
	case strings.Contains(reason, "scheduler-max-lateness"):
		return ByLateness
	case strings.Contains(reason, "scheduler-catch-up"):
		return ByCatchUp
	case strings.Contains(reason, "was changed or switched off"):
		return ByOff
	}
	return ByAbsence
}

func worker(j job.Job) string {
	if j.Mode.Script() {
		return "the script on " + j.Server.String()
	}
	return "a worker of drydock"
}

// taker says who was to take an offer.
func taker(j job.Job) string {
	switch j.Mode {
	case job.SQL:
		return fmt.Sprintf(" (row %d in the jobs table of %s)", j.Dispatch.Row, j.Server)
	case job.API:
		return fmt.Sprintf(" (the script on %s asks the API for it)", j.Server)
	}
	return ""
}

// after says how long a job ran.
func after(j job.Job) string {
	if began := j.Started(); !began.IsZero() {
		return " after " + span(j.Ended().Sub(began))
	}
	return ""
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }
