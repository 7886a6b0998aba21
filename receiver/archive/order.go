package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/store"
)

// The tasks of this package and the argument of the first.
const (
	taskArchive = "archive"
	taskPrune   = "archiveprune"
	taskCheck   = "archivecheck"
	argBackup   = "backup" // id in the catalogue; without it, all of the server that is not archived
)

// order is what was ordered for a backup.
type order struct {
	times   int
	refused int       // by the bus, in a row
	until   time.Time // not ordered again before
}

const (
	// failedAgain is how long after a failed archive another one is ordered, and canceledAgain after a canceled one.
	failedAgain   = 10 * time.Minute
	canceledAgain = time.Hour
	// orderAgain is how long an order may take to become a job; it doubles with each that did not, up to orderAtMost. It is
	// longer than the bus remembers the id of a message, so that each order is in the ledger.
	orderAgain  = 3 * time.Minute
	orderAtMost = time.Hour
	// refusedAgain is how long after the second try that the bus did not take there is another; it doubles, up to orderAll.
	refusedAgain = 2 * time.Second
)

// orderFresh looks at the servers about which something is new.
func (r *Worker) orderFresh(ctx context.Context) {
	r.mu.Lock()
	fresh := r.fresh
	r.fresh = map[place]bool{}
	r.mu.Unlock()
	for p := range fresh {
		if p.server == (job.Server{}) || r.orderMissing(ctx, p) {
			continue
		}
		r.mu.Lock()
		r.fresh[p] = true // the bus did not answer
		r.mu.Unlock()
	}
}

// orderMissing orders an archive for each server with a backup of ours that has none: the oldest first, one at a time,
// because a slot has one job. The zero place is everywhere. done is false when the bus did not answer.
func (r *Worker) orderMissing(ctx context.Context, p place) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	list, err := r.catalog.List(ctx, p.cluster, p.server)
	if err != nil {
		r.log.Warn("look for backups without an archive", "err", err)
		return false
	}
	handled := map[place]bool{}
	for _, m := range slices.Backward(list) {
		at := place{m.Cluster, m.Server}
		c, known := r.clusters[m.Cluster]
		if !known || !c.On || m.Receiver != r.name || archived(m) || handled[at] || !slices.Contains(c.Servers, m.Server) {
			continue
		}
		if deleted(m) {
			r.giveUp(ctx, m)
			continue
		}
		last, _ := r.view.Get(job.Key{Cluster: m.Cluster, Server: m.Server, Task: taskArchive})
		if last.State.Live() {
			handled[at] = true // what comes after it is looked at when it ends
			continue
		}
		if !r.due(m, last, time.Now()) {
			continue
		}
		handled[at] = true
		if err := r.order(ctx, m, last); err != nil {
			r.log.Warn("order the archive of a backup", "cluster", m.Cluster, "server", m.Server, "backup", m.ID, "err", err)
			if r.notOrdered(m, time.Now()); ctx.Err() != nil {
				return false
			}
		}
	}
	return true
}

// archived reports whether there was ever an archive of a backup.
func archived(m store.Manifest) bool {
	return slices.ContainsFunc(m.Archives, func(a store.Archive) bool { return a.Snapshot != "" })
}

// deleted reports whether somebody took the files of a backup away. Where their folder is gone, too, it may be a mount that
// is missing.
func deleted(m store.Manifest) bool {
	for _, path := range []string{m.Path, m.Path + manifestSuffix} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	folder, err := os.Stat(filepath.Dir(m.Path))
	return err == nil && folder.IsDir()
}

// giveUp records that a backup was deleted before it was archived, so that nobody goes on to wait for that. Should its
// files come back, it is archived all the same.
func (r *Worker) giveUp(ctx context.Context, m store.Manifest) {
	if len(m.Archives) > 0 {
		return // known
	}
	err := r.catalog.SetArchives(ctx, m, func(was []store.Archive) []store.Archive {
		if len(was) > 0 {
			return was
		}
		return []store.Archive{{Gone: time.Now().UTC()}}
	})
	r.log.Warn("a backup was deleted before it was archived", "cluster", m.Cluster, "server", m.Server, "backup", m.ID, "path", m.Path, "err", err)
}

// due says whether the archive of a backup is to be ordered now; last is the last job of its slot.
func (r *Worker) due(m store.Manifest, last job.Job, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.orders[m.ID]
	if last.Args[argBackup] == m.ID && (last.State == job.Canceled || !last.Since.Before(r.up)) {
		again := failedAgain // what failed before this process started is tried at once: that is often why it was started
		if last.State == job.Canceled {
			again = canceledAgain
		}
		if until := last.Since.Add(again); until.After(o.until) {
			o.until = until
		}
	}
	if now.Before(o.until) {
		r.orders[m.ID] = o
		return false
	}
	r.orders[m.ID] = order{o.times + 1, o.refused, now.Add(min(orderAgain<<min(o.times, 10), orderAtMost))}
	return true
}

// notOrdered takes back what [Worker.due] noted: an order that the bus did not take is given again at once, then after longer and longer
// pauses, and no other server waits for it. Should it stand there after all, that is the same order.
func (r *Worker) notOrdered(m store.Manifest, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.orders[m.ID]
	again := order{times: o.times - 1, refused: o.refused + 1}
	if o.refused > 0 {
		again.until = now.Add(min(refusedAgain<<min(o.refused, 10), orderAll))
	}
	r.orders[m.ID] = again
	r.fresh[place{m.Cluster, m.Server}] = true
}

// order writes the tick. Its id and time come from the backup and the last job of the slot, so that the same order given
// twice, as by a process that was killed in between, starts one job; and one that comes after another job starts another.
func (r *Worker) order(ctx context.Context, m store.Manifest, last job.Job) error {
	id, due, reason := "archive-"+m.ID, m.Ended, "backup "+m.ID+" is not archived yet"
	if last.ID != "" {
		id += "-" + last.ID
	}
	if last.Since.After(due) {
		due = last.Since
	}
	if last.Args[argBackup] == m.ID {
		reason += "; the last try is " + string(last.State)
	}
	_, err := r.ledger.Run(ctx, store.Order{
		ID: strings.ToLower(id), Due: due, Cluster: m.Cluster, Task: taskArchive, Servers: []job.Server{m.Server},
		Args: map[string]string{argBackup: m.ID}, Trigger: job.Trigger{Kind: job.Cron}, Reason: reason,
	})
	return err
}

// ordered forgets the orders of a backup that is archived.
func (r *Worker) ordered(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.orders, id)
}
