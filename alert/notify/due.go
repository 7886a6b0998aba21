package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"drydock/bus"
	"drydock/store"
)

// condition is the last edge of a condition.
type condition struct {
	alert bus.Alert
	seq   uint64
}

// item is one thing to tell.
type item struct {
	kind bus.ToldKind
	name string // [bus.Condition]
	condition
	before time.Time // when it was told last, zero: never
}

const (
	// resolvedFor is how long it is tried to tell that a condition is gone, quiet times aside.
	resolvedFor = 24 * time.Hour
	// mostItems bounds one message on the bus; what is more goes into the next one.
	mostItems = 1000
)

// due lists what a destination is to be told at now, were nothing acknowledged: what is open and it does not know, what it
// knows and is closed, and errors that it was told of long ago. Most important first.
func due(d Destination, told map[string]mark, conds map[string]condition, repeat time.Duration, s *setup, now time.Time) (out []item) {
	own := failureOf(d.Name)
	for name, c := range conds {
		m, known := told[name]
		if name == own || s.at(c.alert.Cluster, now) {
			continue
		}
		it := item{name: name, condition: c, before: m.at}
		switch {
		case c.alert.State == bus.AlertClosed:
			if !known || now.Sub(c.alert.Time) > resolvedFor+s.quiet[c.alert.Cluster].lasts {
				continue
			}
			it.kind = bus.ToldResolved
		case !d.wants(c.alert):
			continue
		case !known || m.seq != c.seq:
			it.kind = bus.ToldOpened
		case repeat > 0 && c.alert.Severity == bus.SeverityError && now.Sub(m.at) >= repeat:
			it.kind = bus.ToldRepeated
		default:
			continue
		}
		out = append(out, it)
	}
	order := []bus.ToldKind{bus.ToldOpened, bus.ToldRepeated, bus.ToldResolved}
	slices.SortFunc(out, func(a, b item) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)),
			cmp.Compare(weight(b.alert.Severity), weight(a.alert.Severity)), cmp.Compare(a.name, b.name))
	})
	return out
}

// unacknowledged drops what somebody looks after already, and then what is too much for one message.
func unacknowledged(items []item, acks store.Acks, now time.Time) []item {
	items = slices.DeleteFunc(items, func(it item) bool {
		return it.kind != bus.ToldResolved && acks[it.name].Holds(it.alert.ID, now)
	})
	return items[:min(len(items), mostItems)]
}

// asks reports whether acknowledgements matter for any of them.
func asks(items []item) bool {
	return slices.ContainsFunc(items, func(it item) bool { return it.kind != bus.ToldResolved })
}

// identify gives the same things to tell the same name, in every try and every process.
func identify(destination string, items []item) string {
	h := sha256.New()
	fmt.Fprintln(h, destination)
	for _, it := range items {
		fmt.Fprintln(h, it.kind, it.name, it.seq, it.before.UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
