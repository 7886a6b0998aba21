package alert

import (
	"fmt"
	"math"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/store"
)

const (
	// grace is how long a server or a replication thread must have been as it is before that is an edge: one that comes
	// and goes does not open and close its condition with every look. The facts come every ten seconds or more seldom, so it takes
	// two of them that agree.
	grace = 8 * time.Second
	// freshFor is how long facts count, in rounds of the facts.
	freshFor = 3
)

// server judges what a database server said of itself. Without fresh facts, as when no scheduler runs, everything stays
// as it is.
func (h *holding) server(c Cluster, s job.Server) {
	about := bus.Alert{Cluster: c.Name, Server: s}
	f, fresh := h.Servers[bus.StateKey(c.Name, s.Host, s.Port, store.DocFacts)]
	if !fresh {
		for _, code := range []Code{serverDown, notReplicating, clockSkew} {
			h.keep(code, about, "not known at present")
		}
		return
	}
	h.lasting(serverDown, about, !f.Up, f.Time, f.Since, "the server does not answer: "+orUnknown(f.Err))
	if !f.Up {
		h.keep(notReplicating, about, "the server does not answer")
		h.keep(clockSkew, about, "the server does not answer")
		return
	}
	if f.Err != "" { // the account may not see it, say
		h.keep(notReplicating, about, "not known at present")
	} else {
		h.replication(about, f)
	}
	h.clock(c, about, f)
}

// keep lets a condition stay open that is.
func (h *holding) keep(code Code, about bus.Alert, text string) {
	if h.open(code, about) {
		about.Text = text
		h.hold(code, about)
	}
}

// lasting holds a condition whose cause is there, or not there, since some time by the clock that both times are of.
func (h *holding) lasting(code Code, about bus.Alert, is bool, now, since time.Time, text string) {
	lasts := now.Sub(since) >= grace
	if is && lasts || h.open(code, about) && (is || !lasts) {
		about.Text, about.Since = text, since
		h.hold(code, about)
	}
}

// replication judges the channels of a server together.
func (h *holding) replication(about bus.Alert, f store.Facts) {
	var said []string
	var stopped, running time.Time // the oldest that stands, the newest that runs
	for _, s := range f.Sources {
		text := s.Stopped()
		if text == "" {
			if s.Since.After(running) {
				running = s.Since
			}
			continue
		}
		if s.Name != "" {
			text = "channel " + s.Name + ": " + text
		}
		said = append(said, text)
		if stopped.IsZero() || s.Since.Before(stopped) {
			stopped = s.Since
		}
	}
	if len(said) > 0 {
		h.lasting(notReplicating, about, true, f.Time, stopped, strings.Join(said, "; "))
		return
	}
	h.lasting(notReplicating, about, false, f.Time, running, "replication runs again")
}

// clock judges how far the clock of the server's host is from the scheduler's. What the way of the question may have
// added does not count; an open condition closes a little below the limit.
func (h *holding) clock(c Cluster, about bus.Alert, f store.Facts) {
	if c.MaxClockSkew <= 0 || f.Clock == nil {
		return
	}
	limit := c.MaxClockSkew.Seconds()
	if h.open(clockSkew, about) {
		limit *= 0.8
	}
	if math.Abs(f.Clock.Ahead)-f.Clock.Error <= limit {
		return
	}
	way := "ahead of"
	if f.Clock.Ahead < 0 {
		way = "behind"
	}
	about.Text = fmt.Sprintf("the clock of the database host is %s %s drydock's (monitoring-max-clock-skew = %s)",
		time.Duration(math.Abs(f.Clock.Ahead)*float64(time.Second)).Round(10*time.Millisecond), way, c.MaxClockSkew)
	h.hold(clockSkew, about)
}

// checksum judges what the last comparison of the cluster's servers found.
func (h *holding) checksum(c Cluster) {
	doc, known := h.Checksums[bus.StateKey(c.Name, "", 0, store.DocChecksum)]
	if !known { // somebody emptied the bucket: that makes no table equal
		h.keep(tablesDiffer, bus.Alert{Cluster: c.Name, Task: "checksum"}, "not known at present")
		return
	}
	if len(doc.Differs) == 0 {
		return
	}
	about := bus.Alert{Cluster: c.Name, Task: "checksum", JobID: doc.Differs[0].JobID, Since: doc.Differs[0].Seen, Text: store.Findings(doc.Differs)}
	h.hold(tablesDiffer, about)
}

// freshness remembers when the facts of each server last changed, by this process's clock: that of the scheduler may be
// another. The loop's own.
type freshness map[string]heard

type heard struct {
	said time.Time // by the scheduler's clock
	at   time.Time // by ours
}

// fresh is what of the facts is not older than limit. What is seen for the first time may be of any age: its own clock
// decides then.
func (x freshness) fresh(all map[string]store.Facts, now time.Time, limit time.Duration) map[string]store.Facts {
	out := map[string]store.Facts{}
	for key, f := range all {
		last, known := x[key]
		switch {
		case !known:
			last = heard{f.Time, f.Time}
			if f.Time.After(now) {
				last.at = now
			}
		case !f.Time.Equal(last.said):
			last = heard{f.Time, now}
		}
		x[key] = last
		if now.Sub(last.at) <= limit {
			out[key] = f
		}
	}
	return out
}
