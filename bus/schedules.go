package bus

import (
	"time"

	"drydock/job"
)

// NextReply lists the schedules, as `drydock.scheduler.next` answers.
type NextReply struct {
	Schedules []ScheduleInfo `json:"schedules"`
}

// ScheduleInfo is one schedule and when it comes next.
type ScheduleInfo struct {
	Cluster string `json:"cluster"`
	Task    string `json:"task"`
	Enabled bool   `json:"enabled"`
	Why     string `json:"why,omitempty"` // why it is off
	// Refused says why the configuration makes the task impossible: every tick is skipped then.
	Refused string       `json:"refused,omitempty"`
	Spec    string       `json:"spec,omitempty"`
	Zone    string       `json:"zone,omitempty"`
	Servers []job.Server `json:"servers"`
	Cursor  time.Time    `json:"cursor,omitzero"` // decided up to here
	Next    []time.Time  `json:"next"`            // the next five, UTC
	// Windows is maintenance-windows, empty when there are none, and Policy what becomes of a tick outside.
	Windows string `json:"windows,omitempty"`
	Policy  string `json:"policy,omitempty"`
	// Closed says why nothing that is scheduled would begin now; Opens when that ends, zero when nobody knows.
	Closed string    `json:"closed,omitempty"`
	Opens  time.Time `json:"opens,omitzero"`
	// Outside lists those of Next that fall outside the windows or into a blackout.
	Outside []time.Time `json:"outside,omitempty"`
	// Barred lists those of Next that start nothing as things stand, or whose jobs will wait, and why.
	Barred []Barred `json:"barred,omitempty"`
	// Switch, when there is one, is who switched the schedule off: every tick is skipped until it is switched on again.
	Switch *Switch `json:"switch,omitempty"`
}

// Bar is what bars a tick to come; false when nothing does.
func (s ScheduleInfo) Bar(at time.Time) (Barred, bool) {
	for _, b := range s.Barred {
		if b.Due.Equal(at) {
			return b, true
		}
	}
	return Barred{}, false
}

// Barred is a tick to come that will start nothing, or whose jobs will wait, unless something changes before.
type Barred struct {
	Due    time.Time `json:"due"`
	Gate   job.Gate  `json:"gate"`
	Waits  bool      `json:"waits"` // its jobs will wait; otherwise it is skipped
	Reason string    `json:"reason"`
}

// Switch is a time for which a person switched the schedule of a task off. Its calendar goes on, and each tick that falls
// due is recorded as skipped.
type Switch struct {
	Cluster string    `json:"cluster"`
	Task    string    `json:"task"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // when it was switched on again; zero while it is off
	By      string    `json:"by"`
	Note    string    `json:"note,omitempty"`
	OnBy    string    `json:"on_by,omitempty"` // who switched it on again
}

// String says it for people: "the schedule of optimize is switched off since 2026-11-22 20:00:00 UTC, by alice: bug 17".
func (s Switch) String() string {
	const layout = "2006-01-02 15:04:05 MST"
	text := "the schedule of " + s.Task + " is switched off since " + s.From.UTC().Format(layout)
	if !s.To.IsZero() {
		text = "the schedule of " + s.Task + " was switched off from " + s.From.UTC().Format(layout) + " to " + s.To.UTC().Format(layout)
	}
	if text += ", by " + s.By; s.Note != "" {
		text += ": " + s.Note
	}
	return text
}

// SwitchedLong is how long a schedule may be switched off before it is pointed out to everybody: longer than a day, somebody
// has forgotten it.
const SwitchedLong = 24 * time.Hour

// Long reports whether the schedule has been off for long at now.
func (s Switch) Long(now time.Time) bool { return s.To.IsZero() && now.Sub(s.From) > SwitchedLong }
