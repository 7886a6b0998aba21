package notify

import (
	"time"

	"drydock/bus"
)

// ledger is what the record says about one destination.
type ledger struct {
	seq   uint64 // of the last message on its subject
	last  bus.Notification
	fails int // tries in a row that failed
	told  map[string]mark
}

// mark is what a destination was told last of a condition, by [bus.Condition].
type mark struct {
	seq uint64 // of the edge
	at  time.Time
}

// apply takes a message of the record in. One that is known already changes nothing.
func (l *ledger) apply(seq uint64, n bus.Notification) {
	if seq <= l.seq {
		return
	}
	if l.told == nil {
		l.told = map[string]mark{}
	}
	l.seq, l.last = seq, n
	switch {
	case n.State == bus.TryFailed && !n.Test:
		l.fails++
	case n.State == bus.TrySent:
		l.fails = 0
		for _, t := range n.Told {
			if t.Kind == bus.ToldResolved {
				delete(l.told, t.Condition)
			} else {
				l.told[t.Condition] = mark{t.Seq, n.Time}
			}
		}
	}
}

const (
	retryFirst = 10 * time.Second
	retryMost  = 15 * time.Minute
)

// retryAt is before when nothing is tried again.
func (l *ledger) retryAt() time.Time {
	if l.fails == 0 {
		return time.Time{}
	}
	wait := retryMost
	if l.fails < 8 {
		wait = min(retryFirst<<(l.fails-1), retryMost)
	}
	return l.last.Time.Add(wait)
}
