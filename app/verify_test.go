package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"drydock/config"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/receiver"
	"drydock/receiver/sink"
	"drydock/store"
)

// shelf is a backup folder with signed backups in it.
type shelf struct {
	t      *testing.T
	folder string
	signer store.Signer
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	signer, err := store.NewSigner(bustest.Context(t), bustest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{t, t.TempDir(), signer}
}

// put lays a backup down as a receiver does, and returns its file.
func (s *shelf) put(id string, data []byte) string { return s.putAs(id, data, sink.Spec{}) }

// putAs is put with the compression and encryption of spec.
func (s *shelf) putAs(id string, data []byte, spec sink.Spec) string {
	s.t.Helper()
	return s.lay(store.Manifest{ID: id, Task: "mariabackup"}, spec, data).File
}

// lay is put with what else shall stand in the manifest, and another form of the file.
func (s *shelf) lay(m store.Manifest, spec sink.Spec, data []byte) Found {
	s.t.Helper()
	task, err := job.TaskByName(m.Task)
	if err != nil {
		s.t.Fatal(err)
	}
	spec.Dir, spec.Name, spec.Tag, spec.Hash = filepath.Join(s.folder, "prod", "db1_3306"), m.Task+"-"+m.ID+"."+string(task.Format), m.ID, sink.BLAKE3
	f, err := sink.Create(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := f.Receive(s.t.Context(), bytes.NewReader(data), nil); err != nil {
		s.t.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil {
		s.t.Fatal(err)
	}
	if m.Path, err = sink.Publish(spec); err != nil {
		s.t.Fatal(err)
	}
	m.Type, m.Cluster, m.Server, m.Receiver = store.ManifestType, "prod", job.Server{Host: "db1", Port: 3306}, "rcv"
	m.Size, m.Stored, m.Algo, m.Hash, m.StoredHash = res.Received, res.Stored, res.Algo, res.Hash, res.StoredHash
	m.Compress, m.Encrypted = spec.Compress, spec.Encrypted
	if m, err = s.signer.Sign(m); err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(m.Path+receiver.ManifestSuffix, raw)
	return Found{Manifest: m, File: m.Path}
}

func (s *shelf) write(path string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) verify(keys ...store.PublicKey) (found []Found) {
	s.t.Helper()
	if keys == nil {
		keys = []store.PublicKey{s.signer.Public()}
	}
	if err := VerifyBackups(s.t.Context(), s.folder, "", keys, func(f Found) { found = append(found, f) }); err != nil {
		s.t.Fatal(err)
	}
	return found
}

func TestEveryDamageToABackupIsFound(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := make([]byte, 100_000)
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	path := s.put("A", data)
	other := s.put("B", []byte("another backup"))
	if found := s.verify(); len(found) != 2 || found[0].Problem != "" || found[1].Problem != "" {
		t.Fatalf("good backups: %+v", found)
	}
	manifest, err := os.ReadFile(path + receiver.ManifestSuffix)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string) {
		t.Helper()
		found := s.verify()
		if len(found) != 2 || !strings.Contains(found[0].Problem, want) || found[1].Problem != "" {
			t.Errorf("%s: %+v, want %q about the first", what, found, want)
		}
		s.write(path, data)
		s.write(path+receiver.ManifestSuffix, manifest)
	}
	for range 20 {
		flipped := bytes.Clone(data)
		flipped[rnd.IntN(len(data))] ^= 1 << rnd.IntN(8)
		s.write(path, flipped)
		expect("one bit flipped", "not what was received")
		s.write(path, data[:rnd.IntN(len(data))])
		expect("truncated", "bytes, the manifest says 100000")
	}
	s.write(path+receiver.ManifestSuffix, bytes.Replace(manifest, []byte(`"prod"`), []byte(`"test"`), 1))
	expect("the manifest changed", store.ErrSignature.Error())
	s.write(path+receiver.ManifestSuffix, []byte("{"))
	expect("the manifest cut", "cannot be read")
	swapped, err := os.ReadFile(other + receiver.ManifestSuffix)
	if err != nil {
		t.Fatal(err)
	}
	s.write(path+receiver.ManifestSuffix, swapped)
	expect("another backup's manifest", "the manifest is that of mariabackup-B")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("the file is gone", "the file is missing")
}

func TestBackupsOfAnotherInstallationAreNotTrusted(t *testing.T) {
	t.Parallel()
	s, theirs := newShelf(t), newShelf(t)
	s.put("A", []byte("data"))
	if found := s.verify(theirs.signer.Public()); len(found) != 1 || found[0].Problem != store.ErrOtherKey.Error() {
		t.Errorf("%+v", found)
	}
	if found := s.verify(theirs.signer.Public(), s.signer.Public()); len(found) != 1 || found[0].Problem != "" {
		t.Errorf("with an earlier key and the present one: %+v", found)
	}
}

func TestCatalogueIsRebuiltFromTheManifestsAlone(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.put("A", []byte("data"))
	short := s.put("B", []byte("data"))
	s.write(short, []byte("dat"))
	conn := bustest.Start(t) // a bus that has lost everything
	ctx := bustest.Context(t)
	for range 2 { // the second time changes nothing
		var problems []string
		err := RebuildCatalog(ctx, conn, s.folder, []store.PublicKey{s.signer.Public()}, func(f Found) { problems = append(problems, f.Problem) })
		if err != nil || len(problems) != 2 || problems[0] != "" || problems[1] == "" {
			t.Fatalf("%q, %v", problems, err)
		}
	}
	list, err := store.NewCatalog(conn).List(context.WithoutCancel(ctx), "prod", job.Server{})
	if err != nil || len(list) != 1 || list[0].ID != "A" || list[0].StoredHash == "" {
		t.Errorf("the catalogue: %+v, %v", list, err)
	}
}

// rebuild fills the catalogue of a fresh bus, and returns it and what was found.
func (s *shelf) rebuild(folder string) (list []store.Manifest, found []Found) {
	s.t.Helper()
	conn, ctx := bustest.Start(s.t), bustest.Context(s.t)
	err := RebuildCatalog(ctx, conn, folder, []store.PublicKey{s.signer.Public()}, func(f Found) { found = append(found, f) })
	if err != nil {
		s.t.Fatal(err)
	}
	if list, err = store.NewCatalog(conn).List(ctx, "", job.Server{}); err != nil {
		s.t.Fatal(err)
	}
	return list, found
}

// Whoever can write to the folder must not make a backup look restored, or as somebody else's.
func TestWhatNobodySignedIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	path := s.put("A", []byte("data"))
	manifest := path + receiver.ManifestSuffix
	raw, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	forged := `{"cluster":"test","trigger":{"by":"evil"},"drills":[{"problem":""}],"archives":[{"snapshot":"evil"}],`
	s.write(manifest, append([]byte(forged), raw[1:]...))
	check := func(who string, m store.Manifest) {
		t.Helper()
		if m.Cluster != "prod" || m.Trigger.By != "" || m.Drills != nil || m.Archives != nil || m.Signature == nil {
			t.Errorf("%s believes %+v", who, m)
		}
	}
	if found := s.verify(); len(found) != 1 || found[0].Problem != "" {
		t.Fatalf("%+v", found)
	} else {
		check("verify", found[0].Manifest)
	}
	list, found := s.rebuild(s.folder)
	if len(list) != 1 {
		t.Fatalf("the catalogue: %+v, found %+v", list, found)
	}
	check("the catalogue", list[0])
	drilled, err := FindBackup(s.folder, "A", []store.PublicKey{s.signer.Public()})
	if err != nil {
		t.Fatal(err)
	}
	check("the drill", drilled.Manifest)
	s.write(manifest, bytes.Replace(append([]byte(forged), raw[1:]...), []byte(`"prod"`), []byte(`"prod2"`), 1))
	if found := s.verify(); len(found) != 1 || found[0].Problem != store.ErrSignature.Error() || found[0].Manifest.Drills != nil {
		t.Errorf("forged: %+v", found)
	}
}

// A manifest moved beside another file of the same size must not put that file into the catalogue, or into a drill.
func TestManifestCountsOnlyBesideItsOwnFile(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	a, b := s.put("A", []byte("data")), s.put("B", []byte("atad"))
	if err := os.Rename(b+receiver.ManifestSuffix, a+receiver.ManifestSuffix); err != nil {
		t.Fatal(err)
	}
	list, found := s.rebuild(s.folder)
	if len(list) != 0 || len(found) != 1 || !strings.Contains(found[0].Problem, "the manifest is that of mariabackup-B") {
		t.Errorf("the catalogue: %+v, found %+v", list, found)
	}
	if f, err := FindBackup(s.folder, "B", []store.PublicKey{s.signer.Public()}); err == nil {
		t.Errorf("the drill takes %s for B", f.File)
	}
}

// The receiver reads the catalogue in another working folder than the operator who fills it.
func TestCatalogueHasWholePaths(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	path := s.put("A", []byte("data"))
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Rel(here, s.folder)
	if err != nil {
		t.Fatal(err)
	}
	if list, found := s.rebuild(folder); len(list) != 1 || list[0].Path != path {
		t.Errorf("the catalogue: %+v, found %+v", list, found)
	}
}

// "All is well" after looking at nothing is the worst answer: a link must be entered, an empty folder be an error.
func TestVerifyLooksAtSomething(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	keys := []store.PublicKey{s.signer.Public()}
	for _, id := range []string{"", "A"} {
		if err := VerifyBackups(t.Context(), s.folder, id, keys, func(Found) {}); err == nil {
			t.Errorf("backup %q in an empty folder is well", id)
		}
	}
	err := RebuildCatalog(bustest.Context(t), bustest.Start(t), s.folder, keys, func(Found) {})
	if err == nil || !strings.Contains(err.Error(), "find no backup in") {
		t.Errorf("a catalogue is rebuilt from nothing: %v", err)
	}
	s.put("A", []byte("data"))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.folder, link); err != nil {
		t.Fatal(err)
	}
	s.folder = link
	found := s.verify()
	if len(found) != 1 || found[0].Problem != "" || !strings.HasPrefix(found[0].File, link+"/") {
		t.Errorf("through a link: %+v", found)
	}
	if list, _ := s.rebuild(link); len(list) != 1 || list[0].Path != found[0].File {
		t.Errorf("the receiver does not find its folder in %+v", list)
	}
}

// One folder that is not ours to read, as lost+found, must not hide the damage in the others.
func TestFolderThatCannotBeReadIsARow(t *testing.T) {
	t.Parallel()
	denied := &fs.PathError{Op: "open", Path: "/b/lost+found", Err: syscall.EACCES}
	if f, err := unreadable("/b/", "/b/lost+found", denied); err != nil || f.File != "/b/lost+found" || f.Problem == "" {
		t.Errorf("below the root: %+v, %v", f, err)
	}
	if _, err := unreadable("/b/", "/b/", denied); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the root: %v", err)
	}
	if _, err := unreadable("/b/", "/b/prod", syscall.EIO); !errors.Is(err, syscall.EIO) {
		t.Errorf("a broken disk: %v", err)
	}
}

// A torn or hand-written manifest.pub must neither keep the receiver from starting nor swallow the key that is added.
func TestPublicKeysSurviveABadFile(t *testing.T) {
	t.Parallel()
	old, present := newShelf(t).signer.Public(), newShelf(t).signer.Public()
	both := old.String() + "\n" + present.String() + "\n"
	for _, c := range []struct {
		name, before, after string
		warnings            int
	}{
		{"no file", "", present.String() + "\n", 0},
		{"no newline at the end", old.String(), both, 0},
		{"torn", old.String() + "\n" + present.String()[:20], old.String() + "\n" + present.String()[:20] + "\n" + present.String() + "\n", 1},
		{"two in one line", old.String() + present.String(), old.String() + present.String() + "\n" + present.String() + "\n", 1},
		{"a remark", "# ours\n" + both, "# ours\n" + both, 1},
		{"already there, without newline", strings.TrimSpace(both), strings.TrimSpace(both), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := &config.Config{}
			cfg.Global.Datadir = t.TempDir()
			if c.before != "" {
				if err := os.WriteFile(keysFile(cfg), []byte(c.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second start changes nothing
				told := 0
				if err := keepPublicKey(cfg, present, func(string) { told++ }); err != nil {
					t.Fatal(err)
				}
				if told != c.warnings {
					t.Errorf("the receiver is told of %d lines, want %d", told, c.warnings)
				}
				if text, err := os.ReadFile(keysFile(cfg)); err != nil || string(text) != c.after {
					t.Errorf("the file says %q, %v; want %q", text, err, c.after)
				}
			}
			if left, err := os.ReadDir(cfg.Global.Datadir); err != nil || len(left) != 1 {
				t.Errorf("it leaves %v, %v", left, err)
			}
			warnings := 0
			keys, err := Keys(cfg, "", func(string) { warnings++ })
			if err != nil || warnings != c.warnings || !slices.ContainsFunc(keys, func(k store.PublicKey) bool { return k.String() == present.String() }) {
				t.Errorf("keys %v, %d warnings, %v", keys, warnings, err)
			}
			if _, err := Keys(cfg, keysFile(cfg), nil); (err != nil) != (c.warnings > 0) {
				t.Errorf("named with --key: %v", err)
			}
		})
	}
}

// Two keys without a line break between them must not look like no key at all.
func TestGluedKeysAreNamed(t *testing.T) {
	t.Parallel()
	key := newShelf(t).signer.Public().String()
	path := filepath.Join(t.TempDir(), "glued.pub")
	for text, want := range map[string]string{
		key + key + "\n":               "line 1 has several public keys",
		key + "\n" + key + " " + key:   "line 2 has several public keys",
		key + key[:40] + "\n":          "line 1 is not a public key",
		strings.Repeat("x", 88) + "\n": "line 1 is not a public key",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Keys(&config.Config{}, path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestFileWithoutAKeyVouchesForNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "empty.pub")
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := Keys(&config.Config{}, path, nil); err == nil {
		t.Errorf("%v", keys)
	}
}
