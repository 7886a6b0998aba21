package store

import (
	"context"
	"slices"
	"time"
)

// Verification is one look at the bytes of a stored backup: whether manifest and file are those that were signed.
type Verification struct {
	Time    time.Time `json:"time"`              // when it ended
	By      string    `json:"by"`                // who asked for it
	Problem string    `json:"problem,omitempty"` // why the backup is not what was signed; empty when it is
	Bytes   int64     `json:"bytes"`             // read of the file
	Seconds float64   `json:"seconds"`
}

// same reports whether both tell of one look.
func (v Verification) same(w Verification) bool { return v.Time.Equal(w.Time) && v.By == w.By }

// Unverified says that a look at the bytes of a stored backup could not be done: nothing is known against it, and nothing for it.
type Unverified struct {
	Time time.Time `json:"time"`
	By   string    `json:"by"` // who asked for it
	Why  string    `json:"why"`
}

// Unseen is the last verification if it could not be done; nil when one was done after it, or a drill.
func (m Manifest) Unseen() *Unverified {
	if n := len(m.Drills); m.Unverified == nil || n > 0 && m.Drills[n-1].Time.After(m.Unverified.Time) {
		return nil
	}
	return m.Unverified
}

// verificationsKept bounds what is remembered of them: the last ones.
const verificationsKept = 10

func lastVerifications(list []Verification) []Verification {
	return list[max(0, len(list)-verificationsKept):]
}

// Verified is the newest verification that found every byte in place, unless a later one did not; ok is false when there is none.
func (m Manifest) Verified() (v Verification, ok bool) {
	if len(m.Verifications) == 0 {
		return Verification{}, false
	}
	v = m.Verifications[len(m.Verifications)-1]
	return v, v.Problem == ""
}

// Fault is why a backup is bad.
type Fault struct {
	Time    time.Time
	By      string
	Drill   bool // a drill found it; otherwise a verification did
	Problem string
}

// Fault is what the last drill or the last verification found wrong with the backup, of two faults the later one. A drill that
// restored it has read all of its bytes, and outdoes a verification before it; a verification outdoes no drill. ok is false for
// a backup that nothing is known against.
func (m Manifest) Fault() (f Fault, ok bool) {
	var drill Drill
	if n := len(m.Drills); n > 0 {
		drill = m.Drills[n-1]
	}
	if drill.Problem != "" {
		f, ok = Fault{drill.Time, drill.By, true, drill.Problem}, true
	}
	if n := len(m.Verifications); n > 0 {
		if v := m.Verifications[n-1]; v.Problem != "" && !v.Time.Before(drill.Time) {
			f, ok = Fault{v.Time, v.By, false, v.Problem}, true
		}
	}
	return f, ok
}

// How says what found the fault, for a sentence.
func (f Fault) How() string {
	if f.Drill {
		return "a drill could not restore it"
	}
	return "a verification found it damaged"
}

// AddVerification records a verification of a backup, unless the catalogue has it no more.
func (c *Catalog) AddVerification(ctx context.Context, m Manifest, v Verification) error {
	return c.update(ctx, m, func(now Manifest, exists bool) (Manifest, bool) {
		now.Unverified = nil
		now.Verifications = lastVerifications(append(slices.Clone(now.Verifications), v))
		return now, exists
	})
}

// SetUnverified records that a verification of a backup could not be done, unless the catalogue has it no more.
func (c *Catalog) SetUnverified(ctx context.Context, m Manifest, u Unverified) error {
	return c.update(ctx, m, func(now Manifest, exists bool) (Manifest, bool) {
		now.Unverified = &u
		return now, exists
	})
}
