package sink

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newSpec is a valid Spec in a folder of its own.
func newSpec(t testing.TB) Spec {
	return Spec{Dir: filepath.Join(t.TempDir(), "server"), Name: "log_error.log", Tag: "job1-1", Hash: BLAKE3}
}

func (s Spec) withTag(tag string) Spec {
	s.Tag = tag
	return s
}

// sample is size bytes, half noise and half text, the same for the same size.
func sample(size int) []byte {
	data := bytes.Repeat([]byte("2026-11-22 10:00:00 0 [Note] ready for connections\n"), size/51+1)[:size]
	rnd := rand.NewChaCha8([32]byte{1})
	for at := 0; at < size; at += 2 << 16 {
		_, _ = rnd.Read(data[at:min(at+1<<16, size)])
	}
	return data
}

// receive takes data through Create, Receive and Finish.
func receive(t testing.TB, spec Spec, data []byte) Result {
	t.Helper()
	f, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Receive(t.Context(), bytes.NewReader(data), nil); err != nil {
		t.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// wantFiles fails unless dir holds exactly these base names.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("files are %q, want %q", got, want)
	}
}

func TestNameThatLeavesTheFolderIsRefused(t *testing.T) {
	t.Parallel()
	good := newSpec(t)
	bad := map[string]func(*Spec){
		"empty folder":         func(s *Spec) { s.Dir = "" },
		"empty name":           func(s *Spec) { s.Name = "" },
		"parent":               func(s *Spec) { s.Name = ".." },
		"hidden":               func(s *Spec) { s.Name = ".log.journal" },
		"separator":            func(s *Spec) { s.Name = "a/../../b" },
		"backslash":            func(s *Spec) { s.Name = `a\b` },
		"zero byte":            func(s *Spec) { s.Name = "a\x00b" },
		"newline":              func(s *Spec) { s.Name = "a\nb" },
		"too long":             func(s *Spec) { s.Name = strings.Repeat("a", 250) },
		"empty tag":            func(s *Spec) { s.Tag = "" },
		"separator in tag":     func(s *Spec) { s.Tag = "a/b" },
		"dot in tag":           func(s *Spec) { s.Tag = "a.b" },
		"unknown compression":  func(s *Spec) { s.Compress = "lz4" },
		"unknown hash":         func(s *Spec) { s.Hash = "md5" },
		"hash not said at all": func(s *Spec) { s.Hash = "" },
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			spec := good
			spoil(&spec)
			if f, err := Create(spec); err == nil {
				_ = f.Abort()
				t.Fatalf("Create accepted %+v", spec)
			}
			if spec.Hash != good.Hash {
				return // only Create hashes
			}
			if _, err := Publish(spec); err == nil || strings.Contains(err.Error(), "no such file") {
				t.Errorf("Publish: %v", err)
			}
			if _, _, err := AppendLog(spec); err == nil || strings.Contains(err.Error(), "no such file") {
				t.Errorf("AppendLog: %v", err)
			}
			if err := Discard(spec); err == nil {
				t.Error("Discard accepted it")
			}
		})
	}
	if _, err := os.Stat(good.Dir); !os.IsNotExist(err) {
		t.Errorf("a refused name made the folder: %v", err)
	}
}

func TestTagIsReadBackFromTheTemporaryName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "log_error.log", "a.part", "x.y.z", "backup 2026"} {
		spec := Spec{Dir: "/d", Name: name, Tag: "01JX_9-2"}
		if tag, ok := TagOf(filepath.Base(spec.Temp())); !ok || tag != spec.Tag {
			t.Errorf("name %q: got %q, %v", name, tag, ok)
		}
	}
	for _, base := range []string{"", ".part", "..part", "a.t.part", ".a.part", ".a..part", ".a.t.journal", ".a.b c.part"} {
		if tag, ok := TagOf(base); ok {
			t.Errorf("%q is taken for a temporary file of %q", base, tag)
		}
	}
}
