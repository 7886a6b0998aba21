package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/job"
	"drydock/receiver/duty"
	"drydock/store"
)

// work is one attempt of a job that is ours.
type work struct {
	*Worker
	*duty.Work
	cluster Cluster
	restic  restic
}

// work does a started job. No secret is in what it returns.
func (r *Worker) work(ctx context.Context, d *duty.Work, c Cluster, backups []store.Manifest) (duty.Result, error) {
	w := &work{Worker: r, Work: d, cluster: c, restic: restic{c.Repository}}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within backup-restic-timeout = %s", c.Timeout))
	defer cancel()
	text, err := w.do(ctx, backups)
	if err != nil {
		err = errors.New(c.redact(err.Error()))
	}
	return duty.Result{Tool: "restic", Text: text}, err
}

func (w *work) do(ctx context.Context, backups []store.Manifest) (result string, err error) {
	if !w.cluster.On {
		return "", errors.New("backup-restic is false for this cluster")
	}
	switch w.Job().Task {
	case taskArchive:
		return w.archiveAll(ctx, backups)
	case taskPrune:
		return w.prune(ctx)
	case taskCheck:
		return w.check(ctx)
	}
	return "", errors.New("this version cannot do the task")
}

// archiveAll archives what the job means. One that fails does not keep the others from it.
func (w *work) archiveAll(ctx context.Context, backups []store.Manifest) (string, error) {
	if len(backups) == 0 {
		if id := w.Job().Args[argBackup]; id != "" {
			return "", fmt.Errorf("the catalogue has no backup %s of this server", id)
		}
		return "nothing to archive: every backup of the server is archived", nil
	}
	leave, err := w.turn(ctx, false)
	if err != nil {
		return "", err
	}
	defer leave()
	var errs []error
	done := 0
	for _, m := range backups {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		if err := w.archive(ctx, m); err != nil {
			errs = append(errs, fmt.Errorf("archive backup %s: %w", m.ID, err))
			continue
		}
		done++
	}
	return fmt.Sprintf("%d of %d backups archived in %s", done, len(backups), w.cluster.Shown()), errors.Join(errs...)
}

// turn waits until this process may start a restic in the repository, which is to have it for itself or not.
func (w *work) turn(ctx context.Context, alone bool) (leave func(), err error) {
	leave, err = w.turns[w.cluster.Location].enter(ctx, alone, func() { w.note("waits for other work on the repository") })
	if err == nil {
		w.note("")
	}
	return leave, err
}

// archive archives one backup, unless a snapshot of it is there already: an earlier attempt was ended between that and the
// record.
func (w *work) archive(ctx context.Context, m store.Manifest) error {
	id, err := w.restic.find(ctx, m)
	if errors.Is(err, errAbsent) {
		used, e := w.used(ctx)
		if e != nil {
			return e
		}
		if err = w.restic.initialize(ctx, used, err); err == nil {
			w.say("made the repository " + w.cluster.Shown())
		}
	}
	if err != nil {
		return err
	}
	a := store.Archive{Snapshot: id, Bytes: m.Stored}
	if id == "" {
		w.say(fmt.Sprintf("archiving %s (%d bytes)", m.Path, m.Stored))
		err := w.restic.unlocked(ctx, w.note, func() error {
			w.note("")
			var err error
			a, err = w.restic.backup(ctx, m, w.tell)
			return err
		})
		if err != nil {
			return err
		}
	}
	a.Repository, a.Time = w.cluster.Shown(), time.Now().UTC()
	w.say(fmt.Sprintf("backup %s is snapshot %s", m.ID, a.Snapshot))
	if err := w.record(ctx, m, a); err != nil {
		return err
	}
	w.ordered(m.ID)
	return nil
}

// record is made also when the job is being ended: the snapshot is there.
func (w *work) record(ctx context.Context, m store.Manifest, a store.Archive) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
	defer cancel()
	return w.catalog.SetArchives(ctx, m, func(was []store.Archive) []store.Archive {
		for _, x := range was {
			if x.Snapshot == a.Snapshot {
				return was
			}
		}
		return append(append([]store.Archive(nil), was...), a)
	})
}

// used says whether archives are known to be in the repository.
func (w *work) used(ctx context.Context) (bool, error) {
	all, err := w.catalog.All(ctx, "", job.Server{})
	if err != nil {
		return false, err
	}
	for _, m := range all {
		for _, a := range m.Archives {
			if a.Repository == w.cluster.Shown() {
				return true, nil
			}
		}
	}
	return false, nil
}

// prune forgets what the backup-keep keys let go of, removes the data that nothing refers to any more, and records which
// snapshots are gone.
func (w *work) prune(ctx context.Context) (string, error) {
	leave, err := w.turn(ctx, true)
	if err != nil {
		return "", err
	}
	defer leave()
	before, err := w.restic.snapshots(ctx, "drydock", clusterTag(w.cluster.Name))
	if err != nil {
		return "", err
	}
	strays, err := w.strays(ctx, before)
	if err != nil {
		return "", err
	}
	if len(strays) > 0 {
		w.say(fmt.Sprintf("forgets %d snapshots that are no whole backup, or one twice", len(strays)))
		err := w.restic.unlocked(ctx, w.note, func() error { return w.restic.run(ctx, nil, append([]string{"forget", "--quiet"}, strays...)...) })
		if err != nil {
			return "", err
		}
	}
	if keep, ok := w.cluster.Keep.args(); ok {
		for _, tag := range taskTags(before) {
			err := w.restic.unlocked(ctx, w.note, func() error { return w.restic.forget(ctx, w.cluster.Name, tag, keep) })
			if err != nil {
				return "", err
			}
		}
	} else {
		w.say("every backup-keep key is 0: nothing is forgotten")
	}
	left, err := w.settle(ctx)
	if err != nil {
		return "", err
	}
	err = w.restic.unlocked(ctx, w.note, func() error {
		w.note("")
		return w.restic.run(ctx, w.sayLine, "prune")
	})
	return fmt.Sprintf("%d of %d snapshots stay", left, len(before)), err
}

// strays are snapshots of backups that have another one on record, which is there: a crash left them behind, or a lock kept
// restic from taking an incomplete one away. Of the same time as the whole one, they could be kept in its place.
func (w *work) strays(ctx context.Context, list []snapshot) (ids []string, err error) {
	there := map[string]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	all, err := w.catalog.All(ctx, w.cluster.Name, job.Server{})
	if err != nil {
		return nil, err
	}
	recorded := map[string][]string{} // by tag
	for _, m := range all {
		for _, a := range m.Archives {
			if a.Gone.IsZero() && a.Repository == w.cluster.Shown() && there[a.Snapshot] {
				recorded[backupTag(m.ID)] = append(recorded[backupTag(m.ID)], a.Snapshot)
			}
		}
	}
	for _, s := range list {
		for _, tag := range s.Tags {
			if good := recorded[tag]; len(good) > 0 && !slices.Contains(good, s.ID) {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids, nil
}

// settle records which snapshots of the cluster are gone, and counts those that are there.
func (w *work) settle(ctx context.Context) (int, error) {
	list, err := w.restic.snapshots(ctx, "drydock", clusterTag(w.cluster.Name))
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	all, err := w.catalog.All(ctx, w.cluster.Name, job.Server{})
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if a, ok := m.Archived(); !ok || a.Repository != w.cluster.Shown() || there[a.Snapshot] {
			continue
		}
		err := w.catalog.SetArchives(ctx, m, func(was []store.Archive) []store.Archive {
			out := append([]store.Archive(nil), was...)
			for i, a := range out {
				if a.Gone.IsZero() && a.Repository == w.cluster.Shown() && !there[a.Snapshot] {
					out[i].Gone = time.Now().UTC()
				}
			}
			return out
		})
		if err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

// check has restic verify the repository.
func (w *work) check(ctx context.Context) (string, error) {
	leave, err := w.turn(ctx, true)
	if err != nil {
		return "", err
	}
	defer leave()
	args := []string{"check"}
	if w.cluster.CheckSubset != "" {
		args = append(args, "--read-data-subset", w.cluster.CheckSubset)
	}
	err = w.restic.unlocked(ctx, w.note, func() error {
		w.note("")
		return w.restic.run(ctx, w.sayLine, args...)
	})
	return "the repository " + w.cluster.Shown() + " is in order", err
}
