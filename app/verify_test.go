package app

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
func (s *shelf) put(id string, data []byte) string {
	s.t.Helper()
	spec := sink.Spec{Dir: filepath.Join(s.folder, "prod", "db1_3306"), Name: "mariabackup-" + id + ".xbstream", Tag: id, Hash: sink.BLAKE3}
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
	path, err := sink.Publish(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := s.signer.Sign(store.Manifest{
		Type: store.ManifestType, ID: id, Cluster: "prod", Server: job.Server{Host: "db1", Port: 3306}, Task: "mariabackup",
		Path: path, Size: res.Received, Stored: res.Stored, Algo: res.Algo, Hash: res.Hash, StoredHash: res.StoredHash,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(path+receiver.ManifestSuffix, raw)
	return path
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
	expect("the file is gone", "no such file")
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
