package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Check is one condition of the proof and whether it held.
type Check struct {
	Name string `json:"name"`
	Held bool   `json:"held"`
	Note string `json:"note,omitempty"`
}

// Verdict is what the facts of a finished job amount to.
type Verdict struct {
	Event  Event   // [Pass], [Refute], or empty while facts may still arrive
	Reason string  // why it is refuted, or what is awaited
	Checks []Check // every condition that applies to the task
}

// Judge decides whether a job whose worker said done is proven. It is pure: it looks at the facts gathered so far.
// late says that the time for stragglers is over, so that what is missing counts as failed: the last log batch and the
// end of the stream may arrive a little after done.
//
// A stream that ended is not proof (wire.md section 5): a killed backup tool closes it like a finished one. A backup
// passes only with the whole stream on disk, the tool's own end line (in its log, or in the stream where it writes it
// there: the check of the format finds it), no failed pipeline member, and the number of bytes the worker says it sent,
// where it says so. A restore passes only with the whole backup sent, checked against its manifest while it was read; what
// the worker says about bytes and hash is then about what it received.
func Judge(t Task, j Job, late bool) Verdict {
	var c trial
	if len(j.Evidence.Exit) > 0 {
		c.fixed("exit status", allZero(j.Evidence.Exit), fmt.Sprint(j.Evidence.Exit))
	}
	if j.Evidence.Finding != "" {
		c.fixed("finding", false, j.Evidence.Finding)
	}
	switch t.Flow {
	case FlowIn:
		c.received(t, j)
	case FlowOut:
		c.sent(j)
	}
	if end, inLog := t.Format.EndLine(); end != "" && inLog {
		c.open("end line", j.Evidence.Completed, fmt.Sprintf("the tool's line %q did not come", end))
	}
	return c.verdict(late)
}

// trial gathers the conditions that apply to one job.
type trial struct {
	checks  []Check
	waiting bool // an open condition does not hold
	refuted bool // a fixed one does not
}

// open adds a condition that may still come true.
func (c *trial) open(name string, held bool, note string) {
	c.checks = append(c.checks, Check{name, held, note})
	c.waiting = c.waiting || !held
}

// fixed adds a condition that will not change any more.
func (c *trial) fixed(name string, held bool, note string) {
	c.checks = append(c.checks, Check{name, held, note})
	c.refuted = c.refuted || !held
}

// stream adds the condition that a stream came to its end; none and unended say what is missing otherwise.
func (c *trial) stream(s *Stream, none, unended string) {
	switch {
	case s == nil || s.Opened.IsZero():
		c.open("stream", false, none)
	case s.Err != "":
		c.fixed("stream", false, s.Err)
	default:
		c.open("stream", s.Complete, unended)
	}
}

// received adds what a stream to a receiver has to be.
func (c *trial) received(t Task, j Job) {
	s := j.Stream
	c.stream(s, "no stream came", "stream not ended")
	if s == nil || !s.Complete {
		return
	}
	if j.Evidence.Sent != nil {
		c.fixed("bytes", *j.Evidence.Sent == s.Bytes, fmt.Sprintf("sent %d, received %d", *j.Evidence.Sent, s.Bytes))
	}
	if t.Kind == KindBackup {
		c.fixed("size", s.Bytes > 0, "empty stream")
	}
	if end, inLog := t.Format.EndLine(); end != "" && !inLog { // it ends in the stream
		c.fixed("format", s.Format == FormatGood, cmp.Or(s.Format, fmt.Sprintf("nobody looked for the tool's end (%q)", end)))
	} else if s.Format != "" {
		c.fixed("format", !s.Broken, s.Format)
	}
	if j.Evidence.SentSHA256 != "" && s.Algo == "sha256" {
		c.fixed("hash", strings.EqualFold(j.Evidence.SentSHA256, s.Hash), "hash of the sent bytes differs")
	}
}

// sent adds what a stream to the worker has to be.
func (c *trial) sent(j Job) {
	s := j.Stream
	c.stream(s, "nothing was sent", "not sent to its end")
	if s == nil || s.Err != "" || !s.Complete {
		return
	}
	if j.Evidence.Sent != nil {
		c.fixed("bytes", *j.Evidence.Sent == s.Bytes, fmt.Sprintf("sent %d, received %d", s.Bytes, *j.Evidence.Sent))
	}
	if j.Evidence.SentSHA256 != "" {
		c.fixed("hash", strings.EqualFold(j.Evidence.SentSHA256, s.Hash), "hash of the received bytes differs")
	}
}

func (c *trial) verdict(late bool) Verdict {
	v := Verdict{Checks: c.checks}
	switch {
	case c.refuted, c.waiting && late:
		v.Event, v.Reason = Refute, missing(c.checks)
	case c.waiting:
		v.Reason = "waits for: " + missing(c.checks)
	default:
		v.Event = Pass
	}
	return v
}

// Bounds are the sizes of a backup that are believed: one that is much smaller than those before it has lost something,
// whatever its tool said. Zero values bound nothing.
type Bounds struct {
	Min    int64   // bytes of the stream (backup-min-size)
	Ratio  float64 // of Median (backup-min-size-ratio)
	Median int64   // bytes of the last good backups of the server and tool; 0 when there is none
}

// boundsCheck is the name of the check by [Verdict.Within].
const boundsCheck = "size bounds"

// Within is the verdict on a backup of size bytes that also has to be within bounds. It is pure.
func (v Verdict) Within(b Bounds, size int64) Verdict {
	note, held := "", true
	switch least := int64(b.Ratio * float64(b.Median)); {
	case size < b.Min:
		note, held = fmt.Sprintf("%d bytes are less than backup-min-size = %d", size, b.Min), false
	case size < least:
		note, held = fmt.Sprintf("%d bytes are less than %g of the median of the last good ones, %d (backup-min-size-ratio; lower it when the data was removed on purpose)",
			size, b.Ratio, b.Median), false
	}
	v.Checks = append(slices.Clone(v.Checks), Check{boundsCheck, held, note})
	if !held {
		v.Event, v.Reason = Refute, missing(v.Checks)
	}
	return v
}

// TooSmall reports whether the job failed because its backup is smaller than is believed ([Verdict.Within]).
func (j Job) TooSmall() bool {
	return j.State == Failed && strings.Contains(j.Reason, boundsCheck+": ")
}

// Median is the middle one of sizes, the smaller one of two; 0 of none.
func Median(sizes []int64) int64 {
	if len(sizes) == 0 {
		return 0
	}
	sizes = slices.Sorted(slices.Values(sizes))
	return sizes[(len(sizes)-1)/2]
}

func allZero(codes []int) bool {
	for _, c := range codes {
		if c != 0 {
			return false
		}
	}
	return true
}

// missing lists the checks that do not hold, with their notes.
func missing(checks []Check) string {
	var out []string
	for _, c := range checks {
		if !c.Held {
			out = append(out, c.Name+": "+c.Note)
		}
	}
	return strings.Join(out, "; ")
}
