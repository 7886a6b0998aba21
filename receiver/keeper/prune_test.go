package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/store"
)

const day = 24 * time.Hour

// The rules keep one backup, and there is an older one that something else keeps: each "never" alone, and it is named. That an
// older one goes otherwise is TestPruneDeletesWhatNothingKeeps.
func TestWhatIsNeverDeleted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(g *rig, m *store.Manifest)
		why  string
	}{
		"pinned":       {func(g *rig, m *store.Manifest) { g.pin(*m) }, "pinned"},
		"restored":     {func(g *rig, m *store.Manifest) { g.drilled(*m, "") }, "newest that a drill has restored"},
		"in a job":     {func(g *rig, m *store.Manifest) { g.live("reseedmariabackup", map[string]string{job.ArgBackup: m.ID}) }, "needs it"},
		"not archived": {func(g *rig, _ *store.Manifest) { g.cluster.Archive = true }, "not archived yet"},
		"being read": {func(g *rig, m *store.Manifest) {
			f, err := sink.OpenHeld(m.Path)
			g.must(err)
			g.t.Cleanup(func() { f.Close() })
		}, "in use"},
		"manifest changed": {func(g *rig, m *store.Manifest) {
			text, err := os.ReadFile(m.Path + receiver.ManifestSuffix)
			g.must(err)
			g.must(os.WriteFile(m.Path+receiver.ManifestSuffix, []byte(strings.Replace(string(text), `"attempt":0`, `"attempt":7`, 1)), 0o600))
		}, "not what was signed"},
		"manifest of another": {func(g *rig, m *store.Manifest) {
			other := g.publish("a", "xtrabackup", 3*day)
			g.must(os.Rename(other.Path+receiver.ManifestSuffix, m.Path+receiver.ManifestSuffix))
		}, "that of another backup"},
		"another size": {func(g *rig, m *store.Manifest) { g.must(os.Truncate(m.Path, 999)) }, "999 bytes"},
		"elsewhere": {func(g *rig, m *store.Manifest) {
			to := filepath.Join(g.data("a"), "elsewhere.xbstream")
			g.must(os.Rename(m.Path, to))
			m.Path = to
			g.must(g.catalog.Put(bustest.Context(g.t), *m))
		}, "not in the folder"},
		"of a server that is no longer configured": {func(g *rig, _ *store.Manifest) { g.cluster.Servers = nil }, "not in the configuration"},
		"of another task":                          {func(g *rig, m *store.Manifest) { *m = g.publish("a", "mysqldump", 3*day) }, "newest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			old := g.publish("a", "mariabackup", 2*day)
			g.publish("a", "mariabackup", day)
			c.edit(g, &old)
			k := g.start("a")
			bustest.Until(t, soon, "the plan keeps it for that reason", func() bool {
				items, err := k.Plan(bustest.Context(t), "prod")
				g.must(err)
				i := slices.IndexFunc(items, func(i bus.PlanItem) bool { return i.Backup == old.ID })
				return i >= 0 && items[i].Keep && strings.Contains(strings.Join(items[i].Why, ", "), c.why)
			})
			g.pruned()
			if _, err := os.Lstat(old.Path); err != nil {
				t.Fatal(err)
			}
			now, err := g.catalog.ByKey(bustest.Context(t), "prod", db1, old.ID)
			if err != nil || !now.Listed() {
				t.Errorf("the entry: %+v, %v", now.Removal, err)
			}
		})
	}
}

func TestPruneDeletesWhatNothingKeeps(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var all []store.Manifest
	for i := range 4 {
		all = append(all, g.publish("a", "mariabackup", time.Duration(i)*day))
	}
	g.drilled(all[2], "")
	g.start("a")
	r, lines := g.pruned()
	if r.Deleted != 2 || r.Freed != 2000 || r.Kept != 2 {
		t.Errorf("%+v\n%s", r, strings.Join(lines, "\n"))
	}
	if got := g.there(all...); !slices.Equal(got, ids(all[0], all[2])) {
		t.Errorf("there are %v", got)
	}
	if !slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "delete backup "+all[1].ID) }) {
		t.Errorf("the log does not say it:\n%s", strings.Join(lines, "\n"))
	}
	if r, _ := g.pruned(); r.Deleted != 0 {
		t.Errorf("the second time: %+v", r)
	}
}

// A copy in the archive outlives the file: its entry stays and says so, until the archive forgets it.
func TestAnEntryStaysForItsCopyInTheArchive(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.cluster.Archive = true
	old := g.publish("a", "mariabackup", 2*day)
	g.publish("a", "mariabackup", day)
	ctx := bustest.Context(t)
	g.must(g.catalog.SetArchives(ctx, old, func([]store.Archive) []store.Archive {
		return []store.Archive{{Repository: "r", Snapshot: "s", Time: time.Now().UTC()}}
	}))
	g.start("a")
	g.pruned()
	now, err := g.catalog.ByKey(ctx, "prod", db1, old.ID)
	if err != nil || now.Removal == nil || now.Removal.Done.IsZero() {
		t.Fatalf("%+v, %v", now.Removal, err)
	}
	if _, err := g.catalog.Get(ctx, "prod", db1, old.ID); !errors.Is(err, store.ErrNoBackup) {
		t.Errorf("it can be asked for: %v", err)
	}
	if r, _ := g.pruned(); r.Deleted != 0 {
		t.Errorf("%+v", r)
	}
	g.must(g.catalog.SetArchives(ctx, old, func(was []store.Archive) []store.Archive {
		was = slices.Clone(was)
		was[0].Gone = time.Now().UTC()
		return was
	}))
	g.pruned()
	if _, err := g.catalog.ByKey(ctx, "prod", db1, old.ID); !errors.Is(err, store.ErrNoBackup) {
		t.Errorf("its entry is there: %v", err)
	}
}

// A prune that dies at any of its steps leaves no entry that tells of a good backup without its file, and the next one comes to the same end.
func TestAPruneThatDiesIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	died := errors.New("died here")
	var steps []string
	for dieAt := 0; ; dieAt++ {
		g := newRig(t)
		all := []store.Manifest{g.publish("a", "mariabackup", 2*day), g.publish("a", "mariabackup", day)}
		g.drilled(all[0], "it is broken")
		k, stop := g.startStop("a")
		n, over := 0, true
		k.step = func(name string) error {
			if n++; n > dieAt {
				over = false
				steps = append(steps, name)
				return died
			}
			return nil
		}
		_, _, err := g.prune()
		stop()
		if over {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if err == nil {
			t.Fatalf("died at %v, and nobody was told", steps)
		}
		list, err := g.catalog.List(bustest.Context(t), "prod", db1)
		g.must(err)
		for _, m := range list {
			if _, err := os.Lstat(m.Path); err != nil {
				t.Errorf("died at %s: the catalogue tells of a backup that is gone: %v", steps[len(steps)-1], err)
			}
		}
		g.start("a")
		g.pruned()
		if got := g.there(all...); !slices.Equal(got, ids(all[1])) {
			t.Errorf("died at %s: there are %v", steps[len(steps)-1], got)
		}
		if left, _ := filepath.Glob(all[0].Path + "*"); len(left) > 0 {
			t.Errorf("died at %s: left are %v", steps[len(steps)-1], left)
		}
	}
	if want := "record notes file sync file manifest sync manifest sidecar sync sidecar catalogue"; strings.Join(steps, " ") != want {
		t.Errorf("the steps were %v", steps)
	}
}

// Between the record and the deletion everything newer may be lost: what was about to go is then the last one.
func TestWhatWasAboutToGoIsSparedWhenItIsTheLast(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	old, newer := g.publish("a", "mariabackup", 2*day), g.publish("a", "mariabackup", day)
	k, stop := g.startStop("a")
	k.step = func(name string) error {
		if name == "file" {
			return errors.New("died here")
		}
		return nil
	}
	if _, _, err := g.prune(); err == nil {
		t.Fatal("it went through")
	}
	stop()
	g.must(os.Truncate(newer.Path, 3))
	g.start("a")
	g.pruned()
	if got := g.there(old); !slices.Equal(got, ids(old)) {
		t.Errorf("there are %v", got)
	}
}

// A mount that is missing takes no entry out of the catalogue: the files are there when it is back.
func TestAMissingFolderIsNoDeletedBackup(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	old := g.publish("a", "mariabackup", 2*day)
	g.publish("a", "mariabackup", day)
	_, err := g.catalog.Remove(bustest.Context(t), old, store.Removal{Time: time.Now()}, func(store.Manifest) error { return nil })
	g.must(err)
	g.must(os.Rename(g.folder("a"), g.folder("a")+".away"))
	g.start("a")
	g.pruned()
	if _, err := g.catalog.ByKey(bustest.Context(t), "prod", db1, old.ID); err != nil {
		t.Error(err)
	}
}

// Every receiver prunes what it has; the rules count what all have. One that does not answer keeps the others from nothing.
func TestEveryReceiverPrunesItsOwn(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var all []store.Manifest
	for i, name := range []string{"a", "b", "c", "a", "b"} {
		all = append(all, g.publish(name, "mariabackup", time.Duration(i+1)*day))
	}
	g.start("a")
	g.start("b")
	r, _, err := g.prune()
	if err == nil || !strings.Contains(err.Error(), "receiver c does not answer") {
		t.Errorf("%v", err)
	}
	if r.Deleted != 2 {
		t.Errorf("%+v", r)
	}
	if got := g.there(all...); !slices.Equal(got, ids(all[:3]...)) {
		t.Errorf("there are %v: each keeps the newest of its own", got)
	}
}

func TestLeftoversThatAreNobodysGo(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m := g.publish("a", "mariabackup", day)
	g.live("mariabackup", nil)
	running := ""
	k := g.start("a")
	bustest.Until(t, soon, "the job is seen", func() bool {
		for _, j := range k.view.Select(func(j job.Job) bool { return j.State.Live() }) {
			running = j.Run()
		}
		return running != ""
	})
	lay := func(name string, age time.Duration) string {
		path := filepath.Join(g.folder("a"), name)
		g.must(os.MkdirAll(filepath.Dir(path), 0o700))
		g.must(os.WriteFile(path, []byte("x"), 0o600))
		g.must(os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
		return path
	}
	gone := []string{
		lay(".x.xbstream.01KAQ8AAAAAAAAAAAAAAAAAAAA-01.part", 2*time.Hour),
		lay(".y.xbstream.notes.json.tmp", 2*time.Hour),
		lay(".z.xbstream.manifest.json.tmp", 2*time.Hour),
		lay("rejected/mariabackup-1.xbstream", 15*day),
	}
	stay := []string{
		lay(".x.xbstream."+running+".part", 2*time.Hour),
		lay(".x.xbstream.01KAQ8AAAAAAAAAAAAAAAAAAAB-01.part", time.Minute),
		lay("w.xbstream", 2*time.Hour), lay(".w.xbstream.manifest.json.tmp", 2*time.Hour),
		lay("rejected/mariabackup-2.xbstream", 13*day),
		lay("v.xbstream.manifest.json", 2*time.Hour), lay("v.xbstream.notes.json", 2*time.Hour),
		lay("README", 0), m.Path, m.Path + receiver.ManifestSuffix,
	}
	g.pruned()
	for _, path := range gone {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	for _, path := range stay {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestAPinAndARemovalExcludeEachOther(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	ctx := bustest.Context(t)
	m, n := g.publish("a", "mariabackup", day), g.publish("a", "mariabackup", 2*day)
	g.pin(m)
	if _, err := g.catalog.Remove(ctx, m, store.Removal{}, func(store.Manifest) error { return nil }); !errors.Is(err, store.ErrPinned) {
		t.Errorf("%v", err)
	}
	_, err := g.catalog.Remove(ctx, n, store.Removal{}, func(store.Manifest) error { return nil })
	g.must(err)
	if _, err := g.catalog.SetPin(ctx, n, store.Pin{On: true}); !errors.Is(err, store.ErrRemoved) {
		t.Errorf("%v", err)
	}
}

// What the catalogue knows beyond the manifests is beside the backups, also what it learned while no keeper ran, and what it
// says is signed.
func TestNotesFollowTheCatalogue(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	m, other := g.publish("a", "mariabackup", day), g.publish("b", "mariabackup", day)
	g.pin(m)
	g.pin(other)
	g.start("a")
	notes := func(m store.Manifest) (store.Notes, error) {
		raw, err := os.ReadFile(m.Path + NotesSuffix)
		if err != nil {
			return store.Notes{}, err
		}
		return store.VerifyNotes(raw, g.keys[0], m)
	}
	bustest.Until(t, soon, "the pin is beside the backup", func() bool {
		n, err := notes(m)
		return err == nil && n.Pin != nil && n.Pin.On && n.Pin.Reason == "year end"
	})
	g.drilled(m, "")
	bustest.Until(t, soon, "the drill is, too", func() bool {
		n, err := notes(m)
		return err == nil && len(n.Drills) == 1 && n.Pin != nil
	})
	if _, err := notes(other); err == nil {
		t.Error("it wrote beside the backup of another receiver")
	}
	raw, err := os.ReadFile(m.Path + NotesSuffix)
	g.must(err)
	if _, err := store.VerifyNotes(raw, g.keys[0], other); !errors.Is(err, store.ErrOtherNotes) {
		t.Errorf("beside another backup: %v", err)
	}
	changed := strings.Replace(string(raw), "year end", "year's end", 1)
	if _, err := store.VerifyNotes([]byte(changed), g.keys[0], m); !errors.Is(err, store.ErrSignature) {
		t.Errorf("changed: %v", err)
	}
	if _, err := store.VerifyManifest(raw, g.keys[0]); !errors.Is(err, store.ErrSignature) {
		t.Errorf("taken for a manifest: %v", err)
	}
	// The clock of who pinned was ahead of that of who takes the pin away: the last word counts all the same.
	for _, p := range []store.Pin{{On: true, Time: time.Now().Add(time.Hour), By: "jane"}, {Time: time.Now(), By: "joe"}} {
		_, err := g.catalog.SetPin(bustest.Context(t), m, p)
		g.must(err)
		bustest.Until(t, soon, "the word of "+p.By+" is beside the backup", func() bool {
			n, err := notes(m)
			return err == nil && n.Pin != nil && n.Pin.By == p.By && n.Pin.On == p.On
		})
	}
}

// What the catalogue says of a receiver that does not answer may be all that is left of its disk: it takes the place of no backup here.
func TestNothingGoesForABackupOfAReceiverThatIsAway(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.cluster.Rules.Last = 2
	g.publish("c", "mariabackup", day)
	g.publish("c", "mariabackup", 2*day)
	newer, old := g.publish("a", "mariabackup", 3*day), g.publish("a", "mariabackup", 4*day)
	g.start("a")
	if r, _, err := g.prune(); err == nil || r.Deleted != 0 || len(g.there(newer, old)) != 2 {
		t.Errorf("while c is away: %+v %v", r, err)
	}
	g.start("c")
	if r, _ := g.pruned(); r.Deleted != 1 || len(g.there(newer)) != 1 {
		t.Errorf("when c is back: %+v", r)
	}
}

// The bus was got back from an older copy, or its catalogue was filled by somebody who did not have the key of the notes: the pin in
// them is the only one that is left.
func TestNotesAreNotOverwrittenByAnOlderCatalogue(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	pinned, strange := g.publish("a", "mariabackup", 3*day), g.publish("a", "mariabackup", 2*day)
	g.publish("a", "mariabackup", day)
	stranger, err := store.NewSigner(bustest.Context(t), bustest.Start(t))
	g.must(err)
	lay := func(m store.Manifest, s store.Signer) []byte {
		m.Pin = &store.Pin{On: true, Time: time.Now().UTC(), By: "jane"}
		n, _ := store.NotesOf(m)
		n, err := s.SignNotes(n)
		g.must(err)
		raw, err := json.Marshal(n)
		g.must(err)
		g.must(os.WriteFile(m.Path+NotesSuffix, raw, 0o600))
		return raw
	}
	lay(pinned, g.signer)
	foreign := lay(strange, stranger)
	g.start("a")
	bustest.Until(t, soon, "the catalogue has the pin again", func() bool {
		m, err := g.catalog.Get(bustest.Context(t), "prod", db1, pinned.ID)
		return err == nil && m.Pinned()
	})
	g.pruned()
	if got := g.there(pinned, strange); len(got) != 2 {
		t.Errorf("of a pinned one and one with notes of a stranger there are %v", got)
	}
	if raw, err := os.ReadFile(strange.Path + NotesSuffix); err != nil || string(raw) != string(foreign) {
		t.Errorf("the notes of a stranger were overwritten: %s %v", raw, err)
	}
}
