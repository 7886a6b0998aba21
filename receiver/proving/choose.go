package proving

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// kind is what backups have in common that can stand for one another.
type kind struct {
	server job.Server
	task   string
}

// candidate is the backup of a kind that is to be drilled next.
type candidate struct {
	backup store.Manifest
	proof  time.Time // of the kind, the newest; zero: nothing of it was ever restored
	again  bool      // the backup is proven, and so is every other one of its kind
}

// choose lists which backups of a cluster are to be drilled, the first first: of each server and tool the newest that was
// never drilled, those first that have gone without a proof for longest; so no server with busy backups keeps another from
// its turn. After them come, of servers and tools with nothing unproven, the newest, the oldest proof first. A backup that
// was found bad, by a drill or a verification, is left out: its bytes are the same tomorrow. It is pure; list is newest first.
func choose(list []store.Manifest) (out []store.Manifest) {
	var kinds []kind
	of := map[kind]*candidate{}
	for _, m := range list {
		k := kind{m.Server, m.Task}
		c := of[k]
		if c == nil {
			c = &candidate{}
			of[k], kinds = c, append(kinds, k)
		}
		for _, d := range m.Drills {
			if d.Problem == "" && d.Time.After(c.proof) {
				c.proof = d.Time
			}
		}
		_, restored := m.Restored()
		_, bad := m.Fault()
		switch {
		case bad:
		case len(m.Drills) == 0 && (c.backup.ID == "" || c.again):
			c.backup, c.again = m, false
		case restored && c.backup.ID == "":
			c.backup, c.again = m, true
		}
	}
	kinds = slices.DeleteFunc(kinds, func(k kind) bool { return of[k].backup.ID == "" })
	slices.SortStableFunc(kinds, func(x, y kind) int {
		a, b := of[x], of[y]
		if a.again != b.again {
			if b.again {
				return -1
			}
			return 1
		}
		return cmp.Or(a.proof.Compare(b.proof), strings.Compare(b.backup.ID, a.backup.ID))
	})
	for _, k := range kinds {
		out = append(out, of[k].backup)
	}
	return out
}

// rank is the place of a receiver among those that hold something of the list, by what they hold first; ok is false when it
// holds nothing.
func rank(list []store.Manifest, receiver string) (n int, ok bool) {
	seen := map[string]bool{}
	for _, m := range list {
		if m.Receiver == receiver {
			return len(seen), true
		}
		seen[m.Receiver] = true
	}
	return 0, false
}
