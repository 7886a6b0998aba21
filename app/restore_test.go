package app

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"drydock/internal/backuptest"
	"drydock/internal/bustest"
	"drydock/internal/mariadbd"
	"drydock/job"
	"drydock/receiver/recovery"
	"drydock/receiver/sink"
	"drydock/restore"
	"drydock/store"
)

// restoring is a restore of a backup on a shelf to a new folder.
func (s *shelf) restoring(found Found) RestoreOptions {
	s.t.Helper()
	place, err := recovery.NewPlace(filepath.Join(s.t.TempDir(), "restored"))
	if err != nil {
		s.t.Fatal(err)
	}
	said := func(string) {}
	return RestoreOptions{Found: found, Place: place, Away: []string{s.folder}, Memory: 64 << 20, By: "test", Step: said, Line: said}
}

// patient is a context for the work of tools and servers on a machine that does much else.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// content is the stream of a backup that was taken in the test.
func content(t *testing.T, b recovery.Backup) []byte {
	t.Helper()
	data, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// verdicts are the looks of a plan that are not fine.
func verdicts(p RestorePlan) (out []string) {
	for _, f := range p.Findings {
		if f.Verdict != restore.Fine {
			out = append(out, string(f.Verdict)+" "+f.What+": "+f.Why)
		}
	}
	return out
}

// apply restores what nothing stands against.
func apply(t *testing.T, o RestoreOptions) RestoreNote {
	t.Helper()
	p, err := PlanRestore(patient(t), o, Known{Err: errors.New("no bus")})
	if err != nil || p.Refused() {
		t.Fatalf("%v, %v", verdicts(p), err)
	}
	note, err := Restore(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	checkPlace(t, o, true)
	return note
}

// checkPlace looks that data are there or not, and that nothing lies beside them.
func checkPlace(t *testing.T, o RestoreOptions, there bool) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(o.Place.Path()))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name() != "restored" || info.Mode().Perm() != 0o700 || !there {
			t.Errorf("%s is there, %v, %v", e.Name(), info, err)
		}
	}
	if there && len(entries) != 1 {
		t.Errorf("%d entries", len(entries))
	}
}

// startOn lets a server that has been stopped go on with restored data, as an operator would.
func startOn(t *testing.T, m *mariadbd.Server, data string) {
	t.Helper()
	ctx := patient(t)
	if err := errors.Join(m.Stop(ctx), os.RemoveAll(m.DataDir()), os.Rename(data, m.DataDir()), m.Restart(ctx)); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, m *mariadbd.Server, table string) (n int) {
	t.Helper()
	db, err := m.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(bustest.Context(t), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		t.Fatalf("count %s: %v", table, err)
	}
	return n
}

// sealed is a form of file, and the key that opens it.
func sealed(t *testing.T) (sink.Spec, []age.Identity) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return sink.Spec{Compress: sink.Zstd, Encrypted: true, Recipients: []age.Recipient{key.Recipient()}}, []age.Identity{key}
}

// What is restored must be what was backed up: a server runs on it and has every row. On the machine of the origin, its tables that
// lie elsewhere must be neither opened nor written.
func TestServersRunOnWhatIsRestored(t *testing.T) {
	t.Parallel()
	m := backuptest.Filled(t, mariadbd.Options{})
	elsewhere := t.TempDir()
	backuptest.Statements(t, m, "CREATE TABLE shop.far (i INT PRIMARY KEY) DATA DIRECTORY='"+elsewhere+"'", "INSERT INTO shop.far VALUES (1), (2), (3)",
		"FLUSH TABLES shop.far FOR EXPORT")
	s := newShelf(t)
	form, keys := sealed(t)
	tool := "mariadb-backup 10.11.1-MariaDB"
	physical := s.restoring(s.lay(store.Manifest{ID: "P", Task: "mariabackup", Tool: tool, GTID: "0-1-42"}, form, content(t, backuptest.Physical(t, m))))
	physical.Identities = keys
	dump := backuptest.Dump(t, m)
	loaded := s.restoring(s.lay(store.Manifest{ID: "D", Task: "mysqldump"}, form, content(t, dump)))
	loaded.Identities, loaded.Load = keys, true
	file := s.restoring(loaded.Found)
	file.Identities = keys

	if err := os.Mkdir(physical.Place.Path(), 0o755); err != nil { // an empty folder is as good as none
		t.Fatal(err)
	}
	note := apply(t, physical)
	var kept RestoreNote
	text, err := os.ReadFile(filepath.Join(physical.Place.Path(), restoreNote))
	if err = errors.Join(err, json.Unmarshal(text, &kept)); err != nil || kept.Backup != "P" || kept.GTID != "0-1-42" || kept.Restored != note.Restored {
		t.Errorf("the note: %s, %v", text, err)
	}
	apply(t, loaded)
	apply(t, file)
	if got, err := os.ReadFile(filepath.Join(file.Place.Path(), "dump.sql")); err != nil || string(got) != string(content(t, dump)) {
		t.Errorf("the dump's file has %d bytes, %v", len(got), err)
	}
	for _, o := range []RestoreOptions{physical, loaded} {
		backuptest.Statements(t, m, "DELETE FROM shop.plain", "DROP TABLE IF EXISTS shop.`odd ``name`")
		startOn(t, m, o.Place.Path())
		odd, plain, far := count(t, m, "shop.`odd ``name`"), count(t, m, "shop.plain"), count(t, m, "shop.far")
		if odd != 20_000 || plain != 2 || far != 3 {
			t.Errorf("%s: %d, %d and %d rows", o.Found.Manifest.ID, odd, plain, far)
		}
	}
	if files, err := filepath.Glob(filepath.Join(elsewhere, "*", "*")); err != nil || len(files) != 1 {
		t.Errorf("in the folder of the origin's table: %v, %v", files, err)
	}
}

func TestAFolderOfMydumperIsRestoredAsItWas(t *testing.T) {
	t.Parallel()
	m := backuptest.Filled(t, mariadbd.Options{})
	backuptest.Statements(t, m, "DROP TABLE shop.`odd ``name`") // mydumper cannot
	s := newShelf(t)
	o := s.restoring(s.lay(store.Manifest{ID: "M", Task: "mydumper"}, sink.Spec{Compress: sink.Gzip}, content(t, backuptest.Folder(t, m))))
	o.Owner = &recovery.Owner{UID: 12345, GID: 23456} // nobody here
	apply(t, o)
	files, err := filepath.Glob(filepath.Join(o.Place.Path(), "dump", "shop.plain*"))
	if err != nil || len(files) < 2 {
		t.Errorf("%v, %v", files, err)
	}
	for _, path := range append(files, o.Place.Path()) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Uid != 12345 || st.Gid != 23456 {
			t.Errorf("%s is of %d:%d, %v", path, st.Uid, st.Gid, err)
		}
	}
}

// Nobody may find a folder of that name with a part of the data in it.
func TestARestoreThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	good := content(t, backuptest.Physical(t, backuptest.Filled(t, mariadbd.Options{})))
	o := s.restoring(s.lay(store.Manifest{ID: "A", Task: "mariabackup"}, sink.Spec{}, good))
	rotten := slices.Clone(good)
	rotten[len(rotten)/2] ^= 1
	s.write(o.Found.File, rotten)
	if _, err := Restore(patient(t), o); !errors.Is(err, recovery.ErrBackup) {
		t.Errorf("one bit flipped: %v", err)
	}
	checkPlace(t, o, false)
	s.write(o.Found.File, good)
	ended := errors.New("interrupted")
	for _, step := range []string{"unpack", "prepare", lastStep} {
		ctx, cancel := context.WithCancelCause(patient(t))
		o.Step = func(what string) {
			if what == step {
				cancel(ended)
			}
		}
		if _, err := Restore(ctx, o); !errors.Is(err, ended) {
			t.Errorf("interrupted in %s: %v", step, err)
		}
		cancel(nil)
		checkPlace(t, o, false)
	}
}

// Each thing that would spoil a restore, or would be spoilt by one, is found before anything is changed.
func TestWhatStandsAgainstARestoreIsFoundBefore(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	form, keys := sealed(t)
	_, others := sealed(t)
	tool := "mariadb-backup 10.11.1-MariaDB"
	plain := s.lay(store.Manifest{ID: "A", Task: "mariabackup", Tool: tool}, sink.Spec{}, []byte("whatever"))
	secret := s.lay(store.Manifest{ID: "B", Task: "mariabackup", Tool: tool}, form, []byte("whatever"))
	move := func(dir string) func(*RestoreOptions) {
		return func(o *RestoreOptions) {
			var err error
			if o.Place, err = recovery.NewPlace(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	root := t.TempDir()
	mk := func(path ...string) string {
		dir := filepath.Join(append([]string{root}, path...)...)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	full, strange := filepath.Dir(mk("full", "x")), mk("strange")
	mk(".strange"+".drydock-partial", "somebodys")
	link, mount := filepath.Join(root, "link"), mk("mount")
	if err := errors.Join(os.Symlink(mk("elsewhere"), link), os.WriteFile(filepath.Join(root, "file"), nil, 0o600), unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name  string
		found Found
		set   func(*RestoreOptions)
		want  string // empty: not refused
	}{
		{"all well", plain, func(*RestoreOptions) {}, ""},
		{"an empty folder", plain, move(mk("empty")), ""},
		{"the right key", secret, func(o *RestoreOptions) { o.Identities = keys }, ""},
		{"no key", secret, func(*RestoreOptions) {}, "refused key"},
		{"another key", secret, func(o *RestoreOptions) { o.Identities = others }, "refused key"},
		{"no file", plain, func(o *RestoreOptions) { o.Found.File += ".gone" }, "refused backup"},
		{"another size", plain, func(o *RestoreOptions) { o.Found.Manifest.Stored++ }, "refused backup"},
		{"another version", plain, func(o *RestoreOptions) { o.Found.Manifest.Tool = "mariadb-backup 10.6.9-MariaDB" }, "refused version"},
		{"a newer patch", plain, func(o *RestoreOptions) { o.Found.Manifest.Tool = "mariadb-backup 10.11.999-MariaDB" }, ""},
		{"no tool", plain, func(o *RestoreOptions) { o.Found.Manifest.Task = "xtrabackup" }, "refused tools"},
		{"no space", plain, func(o *RestoreOptions) { o.Found.Manifest.Size = 1 << 60 }, "refused space"},
		{"no space beside the reserve", plain, func(o *RestoreOptions) { o.Reserve = 1 << 60; o.Away = []string{root} }, "refused space"},
		{"not empty", plain, move(full), "refused target"},
		{"a file", plain, move(filepath.Join(root, "file")), "refused target"},
		{"a link", plain, move(link), "refused target"},
		{"through a link", plain, move(filepath.Join(link, "x")), "refused target"},
		{"a mount point", plain, move(mount), "refused target"},
		{"among the backups", plain, move(filepath.Join(s.folder, "x")), "refused target"},
		{"the backups", plain, move(s.folder), "refused target"},
		{"no parent", plain, move(filepath.Join(root, "gone", "x")), "refused target"},
		{"what is not a restore's", plain, func(o *RestoreOptions) { move(strange)(o); o.Clean = true }, "refused target"},
		{"a load of data", plain, func(o *RestoreOptions) { o.Load = true }, "refused load"},
	} {
		o := s.restoring(c.found)
		c.set(&o)
		p, err := PlanRestore(patient(t), o, Known{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		said := strings.Join(verdicts(p), "\n")
		if p.Refused() != (c.want != "") || !strings.Contains(said, c.want) {
			t.Errorf("%s: %s, want %q", c.name, said, c.want)
		}
	}
	for _, dir := range []string{"", "/", "relative", "../x"} {
		if _, err := recovery.NewPlace(dir); !errors.Is(err, recovery.ErrPlace) {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

// A time that was not measured must not look like one that was.
func TestTheTimeComesFromDrills(t *testing.T) {
	t.Parallel()
	server := job.Server{Host: "db1", Port: 3306}
	backup := func(id string, size int64, drills ...store.Drill) store.Manifest {
		return store.Manifest{ID: id, Cluster: "prod", Server: server, Task: "mariabackup", Size: size, Drills: drills}
	}
	wanted := backup("A", 200)
	for _, c := range []struct {
		name  string
		known []store.Manifest
		want  float64 // 0: not measured
		proof string
	}{
		{"its own", []store.Manifest{backup("B", 100, store.Drill{Restore: 7}), backup("A", 200, store.Drill{Restore: 5})}, 5, "restored"},
		{"another's, by size", []store.Manifest{backup("A", 200), backup("B", 100, store.Drill{Restore: 7})}, 14, "hash"},
		{"one that failed", []store.Manifest{backup("A", 200, store.Drill{Restore: 5, Problem: "rotten"})}, 0, "does not restore"},
		{"none", nil, 0, "hash"},
		{"another tool's", []store.Manifest{{ID: "C", Cluster: "prod", Server: server, Task: "mysqldump", Size: 10, Drills: []store.Drill{{Restore: 1}}}}, 0, "hash"},
	} {
		p := newPlan(wanted, "/x", Known{Manifests: c.known})
		var got float64
		if p.Estimate != nil {
			got = *p.Estimate
		}
		if got != c.want || !strings.HasPrefix(p.Proof, c.proof) {
			t.Errorf("%s: %v (%s), %s", c.name, got, p.Measured, p.Proof)
		}
	}
}

// At 3 a.m. one wants to know that there is an older one that was seen to restore.
func TestAProvenBackupIsNamedBesideOneThatIsNot(t *testing.T) {
	t.Parallel()
	now := time.Now()
	chosen := store.Manifest{ID: "NEW", Cluster: "prod", Task: "mariabackup", Ended: now}
	older := store.Manifest{ID: "OLD", Cluster: "prod", Task: "mariabackup", Ended: now.Add(-time.Hour), Drills: []store.Drill{{Restore: 1}}}
	p := newPlan(chosen, "/x", Known{Manifests: []store.Manifest{chosen, older}})
	if said := strings.Join(verdicts(p), ""); p.Refused() || !strings.Contains(said, "OLD") {
		t.Error(said)
	}
}

// A backup that was seen not to restore is nobody's choice unless it is named.
func TestTheNewestBackupIsNotOneThatADrillFoundBad(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	now := time.Now()
	old := s.lay(store.Manifest{ID: "OLD", Task: "mariabackup", Ended: now.Add(-time.Hour)}, sink.Spec{}, []byte("old")).Manifest
	bad := s.lay(store.Manifest{ID: "NEW", Task: "mariabackup", Ended: now}, sink.Spec{}, []byte("new")).Manifest
	keys := []store.PublicKey{s.signer.Public()}
	if f, err := LatestBackup(s.folder, "prod", old.Server, Point{}, keys, Known{}); err != nil || f.Manifest.ID != "NEW" {
		t.Fatalf("%s, %v", f.Manifest.ID, err)
	}
	bad.Drills = []store.Drill{{Problem: "1 table is missing"}}
	if f, err := LatestBackup(s.folder, "prod", old.Server, Point{}, keys, Known{Manifests: []store.Manifest{bad, old}}); err != nil || f.Manifest.ID != "OLD" {
		t.Errorf("%s, %v", f.Manifest.ID, err)
	}
}
