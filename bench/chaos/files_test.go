package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A backup whose bytes differ in any place must not pass for the tool's.
func TestOtherBytesAreNotTheBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, packed := filepath.Join(dir, "a"), filepath.Join(dir, "a.zst")
	if err := os.WriteFile(plain, []byte("what the tool wrote"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("zstd", "-q", plain, "-o", packed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	good := manifestRecord{Path: packed, Stored: int64(len(text)), StoredHash: sum(text), Hash: sum([]byte("what the tool wrote"))}
	if err := sameBytes(t.Context(), good, map[string]string{good.Hash: "0 0"}); err != nil {
		t.Errorf("the good one: %v", err)
	}
	for name, c := range map[string]struct {
		harm  func(*manifestRecord)
		wrote map[string]string
		want  string
	}{
		"file":        {func(m *manifestRecord) { m.StoredHash = sum(nil) }, nil, "in the manifest"},
		"size":        {func(m *manifestRecord) { m.Stored++ }, nil, "in the manifest"},
		"unpacked":    {func(m *manifestRecord) { m.Hash = sum(nil) }, nil, "it unpacks to"},
		"other tool":  {func(*manifestRecord) {}, map[string]string{sum(nil): "0 0"}, "no run of the tool"},
		"tool failed": {func(*manifestRecord) {}, map[string]string{good.Hash: "1 0"}, `status "1 0"`},
		"tool killed": {func(*manifestRecord) {}, map[string]string{good.Hash: ""}, `status ""`},
	} {
		m := good
		c.harm(&m)
		if err := sameBytes(t.Context(), m, c.wrote); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

// Of the files in a data folder those that belong to nothing are named, and no others.
func TestFilesOfNobodyAreFound(t *testing.T) {
	t.Parallel()
	s := &site{dir: t.TempDir(), staging: map[string]bool{}}
	for _, path := range []string{
		"data/nats/x.tmp", "data/work/.lock", "data/Backups/.binlogs.lock", "data/lab/h_1/log_error.log", "data/lab/h_1/.log_error.log.last",
		"data/Backups/lab/h_1/good", "data/Backups/lab/h_1/good.manifest.json", "data/Backups/lab/h_1/rejected/odd", "state/lab/h_1/log/J.out",
		"data/Backups/lab/h_1/stray", "data/Backups/lab/h_1/.good.J.part", "data/lab/h_1/.log_error.log.journal", "data/work/runner-1/x",
		"tmp/x", "state/lab/h_1/work/x", "state/lab/h_1/jobs/J",
	} {
		if err := os.MkdirAll(filepath.Dir(s.path(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{s.path("left"), s.path("gone")} { // of two runs that had groups of messages staged there
		link := s.path("data/nats/staging")
		if err := errors.Join(os.RemoveAll(link), os.Mkdir(dir, 0o700), os.Symlink(dir, link)); err != nil {
			t.Fatal(err)
		}
		s.noteStaging()
	}
	if err := os.Remove(s.path("gone")); err != nil {
		t.Fatal(err)
	}
	var v verdict
	v.checkFiles(s, []entry[manifestRecord]{{V: manifestRecord{Path: s.path("data/Backups/lab/h_1/good")}}})
	if len(v.Violations) != 8 {
		t.Errorf("it found %v, there are 8", v.Violations)
	}
}
