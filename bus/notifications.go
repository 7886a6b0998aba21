package bus

import "time"

// TryState says what became of a try to notify.
type TryState string

// The states of a try.
const (
	// TrySending is the intent. It is on disk before anything is sent.
	TrySending TryState = "sending"
	// TrySent: the destination took it.
	TrySent TryState = "sent"
	// TryFailed: it did not, Error says why. It is tried again.
	TryFailed TryState = "failed"
	// TryUnknown: the process ended between intent and outcome. It is sent again.
	TryUnknown TryState = "unknown"
)

// ToldKind says what a destination is told of a condition.
type ToldKind string

// The kinds.
const (
	ToldOpened   ToldKind = "opened"
	ToldRepeated ToldKind = "repeated" // it still holds (alert-repeat)
	ToldResolved ToldKind = "resolved"
)

// Told is one condition in a [Notification].
type Told struct {
	Kind      ToldKind `json:"kind"`
	Condition string   `json:"condition"` // [Condition] of the subject
	Seq       uint64   `json:"seq"`       // of its edge on StreamAlerts
}

// Notification is the beginning or the end of a try to tell a destination something, on StreamNotifications. The end
// repeats what the beginning said. It holds no address and no secret of the destination.
type Notification struct {
	State       TryState `json:"state"`
	Destination string   `json:"destination"`
	// Notification is the same in every try to tell the same, so that a receiver can know a repetition by it.
	Notification string    `json:"notification"`
	Try          int       `json:"try"` // from 1, since the last success
	Test         bool      `json:"test,omitempty"`
	Told         []Told    `json:"told"`
	Title        string    `json:"title"`
	Text         string    `json:"text"`
	Error        string    `json:"error,omitempty"`
	Actor        string    `json:"actor,omitempty"`
	Type         string    `json:"type"`
	ID           string    `json:"id"`
	Time         time.Time `json:"time"`
}

// NotifyTestRequest asks for a test message.
type NotifyTestRequest struct {
	Destination string `json:"destination"`
	By          string `json:"by"`
}
