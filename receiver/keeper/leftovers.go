package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/bus"
	"drydock/job"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/store"
)

const (
	// NotesSuffix follows the name of the backup file.
	NotesSuffix = ".notes.json"
	// draftSuffix is that of files that are to get another name.
	draftSuffix = ".tmp"
	// settled is how old something unfinished must be before it is taken for left behind.
	settled = time.Hour
	// rejectedKept is how long what was not believed is kept for somebody to look at.
	rejectedKept = 14 * 24 * time.Hour
)

// leftovers lists what lies in a server's backup folder and belongs to no backup. What is provably nobody's is to be deleted;
// the rest is reported.
func (k *Keeper) leftovers(cluster string, s job.Server, list []store.Manifest) (out []bus.PlanItem, err error) {
	folder, safe := receiver.BackupsOf(k.cfg.DataDir, cluster, s)
	if !safe {
		return nil, nil
	}
	look := left{keeper: k, folder: folder, known: map[string]bool{}, live: map[string]bool{}}
	for _, m := range list {
		if m.Receiver == k.cfg.Name {
			look.known[filepath.Base(m.Path)] = true
		}
	}
	for _, j := range k.view.Select(func(j job.Job) bool { return j.Cluster == cluster && j.State.Live() }) {
		look.live[j.ID] = true
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rejected, err := os.ReadDir(filepath.Join(folder, sink.AsideFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	add := func(dir string, e fs.DirEntry, judge func(name string, age time.Duration) (why string, keep, is bool)) {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return // it went meanwhile, or is none of ours
		}
		why, keep, is := judge(e.Name(), time.Since(info.ModTime()))
		if !is {
			return
		}
		item := bus.PlanItem{
			Receiver: k.cfg.Name, Cluster: cluster, Server: s, File: filepath.Join(dir, e.Name()), Ended: info.ModTime().UTC(),
			Bytes: info.Size(), Keep: keep, Why: []string{why},
		}
		out = append(out, item)
	}
	for _, e := range entries {
		add(folder, e, look.judge)
	}
	for _, e := range rejected {
		add(filepath.Join(folder, sink.AsideFolder), e, rejectedVerdict)
	}
	return out, nil
}

func rejectedVerdict(_ string, age time.Duration) (why string, keep, is bool) {
	if age > rejectedKept {
		return fmt.Sprintf("it was rejected, more than %d days ago", int(rejectedKept.Hours()/24)), false, true
	}
	return fmt.Sprintf("it was rejected: kept for %d days to be looked at", int(rejectedKept.Hours()/24)), true, true
}

// left is a look at one folder.
type left struct {
	keeper *Keeper
	folder string
	known  map[string]bool // names of backup files in the catalogue, whatever becomes of them
	live   map[string]bool // ids of live jobs
}

// judge says what becomes of a file that belongs to no backup; is is false for all others.
func (l left) judge(name string, age time.Duration) (why string, keep, is bool) {
	if tag, unfinished := sink.TagOf(name); unfinished {
		switch {
		case l.anyLive(tag):
			return "", true, false // a stream that comes in
		case age < settled:
			return "unfinished, of a job that ended less than an hour ago", true, true
		}
		return "unfinished, of a job that is over", false, true
	}
	if rest, draft := strings.CutSuffix(name, draftSuffix); draft && strings.HasPrefix(name, ".") {
		of, isManifest := strings.CutSuffix(rest[1:], receiver.ManifestSuffix)
		of, isNotes := strings.CutSuffix(of, NotesSuffix)
		switch {
		case !isManifest && !isNotes, l.anyLive(name), age < settled:
			return "", true, false
		case isManifest && l.there(of) && !l.there(of+receiver.ManifestSuffix):
			return "the draft of a manifest whose backup has none", true, true
		}
		return "a draft that was never finished", false, true
	}
	if of, ok := strings.CutSuffix(name, NotesSuffix); ok {
		return l.beside(of, name)
	}
	if of, ok := strings.CutSuffix(name, receiver.ManifestSuffix); ok {
		return l.beside(of, name)
	}
	if !strings.HasPrefix(name, ".") && !l.known[name] && age > settled {
		return "not in the catalogue (see drydock backups rebuild)", true, true
	}
	return "", true, false
}

// beside judges a manifest or notes whose backup is gone. They go when notes that the installation signed say that a prune was
// deleting it: nothing else shows that it was drydock's doing.
func (l left) beside(of, name string) (why string, keep, is bool) {
	if l.known[of] || l.there(of) {
		return "", true, false
	}
	if l.removing(of) {
		return "its backup was deleted", false, true
	}
	return "its backup is gone, and not by drydock", true, true
}

// removing says whether the notes beside where a backup was are signed and say that it was to go.
func (l left) removing(of string) bool {
	raw, err := os.ReadFile(filepath.Join(l.folder, of+NotesSuffix))
	if err != nil {
		return false
	}
	var claim store.Notes
	if json.Unmarshal(raw, &claim) != nil || !strings.Contains(of, claim.ID) || claim.ID == "" {
		return false
	}
	about := store.Manifest{ID: claim.ID, Signature: &store.Signature{Value: claim.Of}}
	return slices.ContainsFunc(l.keeper.cfg.Keys, func(key store.PublicKey) bool {
		n, err := store.VerifyNotes(raw, key, about)
		return err == nil && n.Removal != nil
	})
}

func (l left) there(name string) bool {
	_, err := os.Lstat(filepath.Join(l.folder, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// anyLive says whether a name has the id of a live job in it.
func (l left) anyLive(name string) bool {
	for id := range l.live {
		if strings.Contains(name, id) {
			return true
		}
	}
	return false
}
