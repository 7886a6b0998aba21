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
	var checks []Check
	waiting := false
	// open is a condition that may still come true; fixed is one that will not change any more.
	open := func(name string, held bool, note string) {
		checks = append(checks, Check{name, held, note})
		waiting = waiting || !held
	}
	refuted := false
	fixed := func(name string, held bool, note string) {
		checks = append(checks, Check{name, held, note})
		refuted = refuted || !held
	}

	end, inLog := t.Format.EndLine()
	if len(j.Evidence.Exit) > 0 {
		fixed("exit status", allZero(j.Evidence.Exit), fmt.Sprint(j.Evidence.Exit))
	}
	if j.Evidence.Finding != "" {
		fixed("finding", false, j.Evidence.Finding)
	}
	if t.Flow == FlowIn {
		s := j.Stream
		switch {
		case s == nil || s.Opened.IsZero():
			open("stream", false, "no stream came")
		case s.Err != "":
			fixed("stream", false, s.Err)
		default:
			open("stream", s.Complete, "stream not ended")
		}
		if s != nil && s.Complete {
			if j.Evidence.Sent != nil {
				fixed("bytes", *j.Evidence.Sent == s.Bytes, fmt.Sprintf("sent %d, received %d", *j.Evidence.Sent, s.Bytes))
			}
			if t.Kind == KindBackup {
				fixed("size", s.Bytes > 0, "empty stream")
			}
			if endsInStream := end != "" && !inLog; endsInStream {
				fixed("format", s.Format == FormatGood, cmp.Or(s.Format, fmt.Sprintf("nobody looked for the tool's end (%q)", end)))
			} else if s.Format != "" {
				fixed("format", !s.Broken, s.Format)
			}
			if j.Evidence.SentSHA256 != "" && s.Algo == "sha256" {
				fixed("hash", strings.EqualFold(j.Evidence.SentSHA256, s.Hash), "hash of the sent bytes differs")
			}
		}
	}
	if t.Flow == FlowOut {
		switch s := j.Stream; {
		case s == nil || s.Opened.IsZero():
			open("stream", false, "nothing was sent")
		case s.Err != "":
			fixed("stream", false, s.Err)
		default:
			open("stream", s.Complete, "not sent to its end")
			if s.Complete && j.Evidence.Sent != nil {
				fixed("bytes", *j.Evidence.Sent == s.Bytes, fmt.Sprintf("sent %d, received %d", s.Bytes, *j.Evidence.Sent))
			}
			if s.Complete && j.Evidence.SentSHA256 != "" {
				fixed("hash", strings.EqualFold(j.Evidence.SentSHA256, s.Hash), "hash of the received bytes differs")
			}
		}
	}
	if end != "" && inLog {
		open("end line", j.Evidence.Completed, fmt.Sprintf("the tool's line %q did not come", end))
	}

	v := Verdict{Checks: checks}
	switch {
	case refuted, waiting && late:
		v.Event, v.Reason = Refute, missing(checks)
	case waiting:
		v.Reason = "waits for: " + missing(checks)
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
