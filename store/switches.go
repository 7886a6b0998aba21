package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/bus"
)

// Switches are the times for which schedules of a cluster are or were switched off, in the order in which they began.
type Switches []bus.Switch

// Off is who keeps the schedule of a task switched off.
func (s Switches) Off(task string) (bus.Switch, bool) {
	i := slices.IndexFunc(s, func(x bus.Switch) bool { return x.Task == task && x.To.IsZero() })
	if i < 0 {
		return bus.Switch{}, false
	}
	return s[i], true
}

// At is why a tick of a task that fell due at t is not run: its schedule is off now, or it was off then.
func (s Switches) At(task string, t time.Time) (bus.Switch, bool) {
	if off, ok := s.Off(task); ok {
		return off, true
	}
	i := slices.IndexFunc(s, func(x bus.Switch) bool { return x.Task == task && !t.Before(x.From) && t.Before(x.To) })
	if i < 0 {
		return bus.Switch{}, false
	}
	return s[i], true
}

// ErrNoSchedule is returned for a task that the configuration gives no schedule that is on. There is nothing to switch.
var ErrNoSchedule = errors.New("no such schedule")

// ErrSwitched is returned for a schedule that is already as it was to be.
var ErrSwitched = errors.New("nothing is switched")

// ErrNote is returned for a note that is too long. A shorter one may be tried.
var ErrNote = errors.New("note is too long")

const (
	keySwitches = "_switches"
	// maxNote bounds what somebody may say to a switch, bytes: every tick says it again.
	maxNote = 500
	// keptSwitches bounds the document that every tick reads: of more, the oldest that have ended are forgotten.
	keptSwitches = 500
)

// Switches reads those of a cluster: what is off now, and what was off within the last week.
func (c *Control) Switches(ctx context.Context, cluster string) (Switches, error) {
	kv, err := c.c.Bucket(ctx, bus.BucketControl)
	if err != nil {
		return nil, err
	}
	v, _, err := readControl[Switches](ctx, kv, bus.ControlKey(cluster, keySwitches))
	return v, err
}

// SwitchOff switches the schedule of s.Task off from now on, by s.By with s.Note. Whether there is such a schedule is for a
// scheduler to say. Errors: [ErrNote], [ErrNoSchedule], [ErrSwitched], [bus.ErrNobody].
func (c *Control) SwitchOff(ctx context.Context, s bus.Switch) (bus.Switch, error) {
	if s.Note = strings.TrimSpace(s.Note); len(s.Note) > maxNote {
		return s, fmt.Errorf("%w: it has %d bytes, at most %d are kept", ErrNote, len(s.Note), maxNote)
	}
	if err := c.hasSchedule(ctx, s.Cluster, s.Task); err != nil {
		return s, err
	}
	s.From, s.To = time.Now().UTC().Truncate(time.Millisecond), time.Time{}
	err := c.switches(ctx, s.Cluster, func(v *Switches) (bool, error) {
		off, is := v.Off(s.Task)
		switch {
		case is && off.By == s.By && off.Note == s.Note: // asked for twice, or an earlier try did it after all
			s = off
			return false, nil
		case is:
			return false, fmt.Errorf("%w: %s already", ErrSwitched, off)
		}
		*v = append(*v, s)
		return true, nil
	})
	return s, err
}

// SwitchOn ends the time for which a schedule is switched off, and returns it. What fell due in it is not made up for.
// Errors: [ErrSwitched].
func (c *Control) SwitchOn(ctx context.Context, cluster, task, by string) (ended bus.Switch, err error) {
	now := time.Now().UTC().Truncate(time.Millisecond).Add(time.Millisecond) // what is due now counts as due before
	err = c.switches(ctx, cluster, func(v *Switches) (bool, error) {
		i := slices.IndexFunc(*v, func(x bus.Switch) bool { return x.Task == task && x.To.IsZero() })
		switch {
		case i >= 0:
			(*v)[i].To, (*v)[i].OnBy = now, by
			ended = (*v)[i]
			return true, nil
		case ended.By != "":
			return false, nil // an earlier try did it after all
		}
		return false, fmt.Errorf("%w: that of %s on cluster %s is not switched off; `drydock next` says why it does not run", ErrSwitched, task, cluster)
	})
	return ended, err
}

// switches changes the document of a cluster and drops what ended long ago.
func (c *Control) switches(ctx context.Context, cluster string, change func(*Switches) (changed bool, err error)) error {
	return updateControl(ctx, c.c, bus.ControlKey(cluster, keySwitches), func(v *Switches) (bool, error) {
		ended := func(s bus.Switch) bool { return !s.To.IsZero() }
		*v = slices.DeleteFunc(*v, func(s bus.Switch) bool { return ended(s) && time.Since(s.To) > keepEnded })
		for len(*v) >= keptSwitches && slices.ContainsFunc(*v, ended) {
			i := slices.IndexFunc(*v, ended)
			*v = slices.Delete(*v, i, i+1)
		}
		return change(v)
	})
}

// hasSchedule asks the schedulers whether the configuration gives a task a schedule that is on.
func (c *Control) hasSchedule(ctx context.Context, cluster, task string) error {
	rep, err := bus.Request[bus.NextReply](ctx, c.c, bus.SubjectNext, struct{}{})
	if err != nil {
		return fmt.Errorf("ask the schedulers for the schedule of %s: %w", task, err)
	}
	i := slices.IndexFunc(rep.Schedules, func(s bus.ScheduleInfo) bool { return s.Cluster == cluster && s.Task == task })
	switch {
	case i < 0:
		return fmt.Errorf("%w: the configuration of cluster %s has none for %s", ErrNoSchedule, cluster, task)
	case !rep.Schedules[i].Enabled:
		return fmt.Errorf("%w: that of %s on cluster %s is off by the configuration: %s", ErrNoSchedule, task, cluster, rep.Schedules[i].Why)
	}
	return nil
}
