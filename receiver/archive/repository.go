package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// manifestSuffix follows the name of the backup file, as the receiver writes it.
const manifestSuffix = ".manifest.json"

// The tags of a snapshot. restic joins tags by commas, which no value here can hold.
func clusterTag(cluster string) string { return "cluster=" + cluster }
func taskTag(task string) string       { return "task=" + task }
func backupTag(id string) string       { return "backup=" + id }
func tagsOf(m store.Manifest) string {
	return strings.Join([]string{"drydock", clusterTag(m.Cluster), "server=" + hostOf(m.Server), taskTag(m.Task), backupTag(m.ID)}, ",")
}

// hostOf is the host of the snapshots of a server. IPv6 has no brackets here, as in the envelope.
func hostOf(s job.Server) string { return s.String() }

// snapshot is an entry of `restic snapshots --json`.
type snapshot struct {
	ID   string   `json:"id"`
	Tags []string `json:"tags"`
}

// status is a line of `restic backup --json`. Fields of the two kinds that are of use here.
type status struct {
	Kind    string  `json:"message_type"` // "status" or "summary"; "error" too, which standard error repeats
	Percent float64 `json:"percent_done"` // 0 to 1
	Done    int64   `json:"bytes_done"`

	Snapshot string `json:"snapshot_id"` // shortened by older versions
	Added    int64  `json:"data_added"`
	Total    int64  `json:"total_bytes_processed"`
}

// snapshots lists those with all of these tags. It takes no lock, so nothing keeps it waiting.
func (x restic) snapshots(ctx context.Context, tags ...string) (list []snapshot, err error) {
	var bad error
	err = x.call(ctx, func(out io.Reader) { bad = json.NewDecoder(out).Decode(&list) }, // one line, of any length
		"snapshots", "--json", "--no-lock", "--tag", strings.Join(tags, ","))
	if err == nil && bad != nil {
		err = fmt.Errorf("read the list of snapshots: %w", bad)
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// initialize makes a repository where there is none. used says that archives are known to have been there: then an
// empty place is not a new one, but a wrong or an unmounted one.
func (x restic) initialize(ctx context.Context, used bool, absent error) error {
	if used {
		return fmt.Errorf("%w; archives were made in %s before: is it mounted, and is backup-restic-repository right?", absent, x.Shown())
	}
	if dir, local := x.Local(); local {
		found, err := os.ReadDir(dir)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("look at the repository: %w", err)
		case len(found) > 0:
			return fmt.Errorf("%w; the folder %s is not empty, so none is made in it", absent, dir)
		}
	}
	if err := x.run(ctx, nil, "init"); err != nil && !errors.Is(err, errExists) {
		return err
	}
	return nil
}

// find is the whole snapshot of a backup, if there is one; a part of one, which a crash left behind, is not found.
func (x restic) find(ctx context.Context, m store.Manifest) (id string, err error) {
	list, err := x.snapshots(ctx, clusterTag(m.Cluster), backupTag(m.ID))
	if err != nil {
		return "", err
	}
	for _, s := range list {
		_, err := x.verify(ctx, s.ID, m)
		if err == nil {
			return s.ID, nil
		}
		if !errors.Is(err, errIncomplete) {
			return "", err
		}
	}
	return "", nil
}

// verify reads from the repository whether a snapshot has the backup, in its full size, and its manifest; id may be
// shortened, whole is not. Errors: [errIncomplete].
func (x restic) verify(ctx context.Context, id string, m store.Manifest) (whole string, err error) {
	var size int64
	var manifest bool
	err = x.run(ctx, func(line []byte) {
		var node struct {
			ID         string // of the snapshot, which comes first
			Path, Type string
			Size       int64
		}
		if json.Unmarshal(line, &node) != nil {
			return
		}
		switch {
		case strings.HasPrefix(node.ID, id):
			whole = node.ID
		case node.Type != "file":
		case node.Path == m.Path+manifestSuffix:
			manifest = true
		case node.Path == m.Path, strings.HasPrefix(node.Path, m.Path+"/"):
			size += node.Size
		}
	}, "ls", "--json", "--no-lock", id)
	switch {
	case err != nil:
		return "", err
	case whole == "":
		return "", fmt.Errorf("%w: snapshot %q is not listed", errIncomplete, id)
	case !manifest:
		return "", fmt.Errorf("%w: it lacks the manifest", errIncomplete)
	case size != m.Stored:
		return "", fmt.Errorf("%w: %d of %d bytes", errIncomplete, size, m.Stored)
	}
	return whole, nil
}

// backup makes a snapshot of a backup and its manifest, and proves that it has both.
func (x restic) backup(ctx context.Context, m store.Manifest, tell func(status)) (store.Archive, error) {
	held, err := sink.OpenHeld(m.Path) // or it could be deleted meanwhile
	if err != nil {
		return store.Archive{}, fmt.Errorf("look at the backup: %w", err)
	}
	defer held.Close()
	if err := present(m); err != nil {
		return store.Archive{}, err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	still := standstill{repository: x.Repository}
	var sum status
	err = x.run(ctx, func(line []byte) {
		var s status
		if json.Unmarshal(line, &s) != nil {
			return
		}
		if s.Kind == "summary" {
			sum = s
		}
		tell(s)
		if err := still.see(s, time.Now()); err != nil {
			end(err)
		}
	}, "backup", "--json", "--host", hostOf(m.Server), "--tag", tagsOf(m), "--time", m.Ended.Local().Format("2006-01-02 15:04:05"),
		"--", m.Path, m.Path+manifestSuffix)
	if err != nil && !errors.Is(err, errIncomplete) {
		return store.Archive{}, err
	}
	var id string
	if err == nil {
		id, err = x.verify(ctx, sum.Snapshot, m)
	}
	if errors.Is(err, errIncomplete) && sum.Snapshot != "" {
		return store.Archive{}, errors.Join(err, x.run(ctx, nil, "forget", sum.Snapshot))
	}
	return store.Archive{Snapshot: id, Bytes: sum.Total, Added: sum.Added}, err
}

// present refuses what is not the backup that the catalogue has.
func present(m store.Manifest) error {
	if _, err := os.Lstat(m.Path + manifestSuffix); err != nil {
		return fmt.Errorf("look at the manifest: %w", err)
	}
	var size int64
	err := filepath.WalkDir(m.Path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the backup: %w", err)
	}
	if size != m.Stored {
		return fmt.Errorf("look at the backup: %s has %d bytes, its manifest says %d", m.Path, size, m.Stored)
	}
	return nil
}

// taskTags are the tags by which the tasks of these snapshots are told apart, each once.
func taskTags(list []snapshot) (tags []string) {
	for _, s := range list {
		for _, tag := range s.Tags {
			if strings.HasPrefix(tag, taskTag("")) && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// forget removes the snapshots of a cluster's servers and of one task that keep lets go of; each server's are kept by
// themselves. The newest of each stays, whatever keep says.
func (x restic) forget(ctx context.Context, cluster, taskTag string, keep []string) error {
	return x.run(ctx, nil, append([]string{
		"forget", "--quiet", "--group-by", "host", "--tag", strings.Join([]string{"drydock", clusterTag(cluster), taskTag}, ","),
	}, keep...)...)
}

// Probe says what is at a repository, without changing anything there: the program, and whether the password opens it.
func Probe(ctx context.Context, r Repository, dataDir string) (found string, err error) {
	x := restic{r.ready(dataDir)}
	var version string
	err = x.run(ctx, func(line []byte) {
		words := strings.Fields(string(line)) // restic 0.14.0 compiled with ...
		version = strings.Join(words[:min(2, len(words))], " ")
	}, "version")
	if err != nil {
		return "", err
	}
	err = x.run(ctx, nil, "cat", "config", "--no-lock", "--no-cache")
	switch {
	case errors.Is(err, errAbsent):
		return fmt.Sprintf("%s, %s: no repository yet, the first archive makes it", version, x.Shown()), nil
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("%s, %s: opened", version, x.Shown()), nil
}
