package sink

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Fatalf("%s is %q (%v), want %q", filepath.Base(path), data, err, want)
	}
}

func TestPublishRepeatedAfterACrashIsSuccess(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	receive(t, spec, []byte("backup"))
	for range 3 {
		final, err := Publish(spec)
		if err != nil || final != spec.Final() {
			t.Fatalf("Publish: %s, %v", final, err)
		}
		wantContent(t, final, "backup")
		wantFiles(t, spec.Dir, spec.Name)
	}
}

func TestPublishNeverReplacesAnotherBackup(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	receive(t, spec, []byte("old and proven"))
	if _, err := Publish(spec); err != nil {
		t.Fatal(err)
	}
	next := spec.withTag("job2-1")
	receive(t, next, []byte("new"))
	if _, err := Publish(next); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Publish over another backup: %v", err)
	}
	wantContent(t, spec.Final(), "old and proven")
	wantContent(t, next.Temp(), "new")
}

func TestPublishOfNothingIsNotSuccess(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	if _, err := Publish(spec); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Publish without any file: %v", err)
	}
	if err := os.MkdirAll(spec.Final(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(spec); err == nil {
		t.Fatal("a folder was taken for the published file")
	}
}

func TestPublishByLinkSurvivesACrashBetweenItsSteps(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	receive(t, spec, []byte("backup"))
	if err := os.Link(spec.Temp(), spec.Final()); err != nil { // half of linkNew
		t.Fatal(err)
	}
	if _, err := Publish(spec); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, spec.Dir, spec.Name)

	next := spec.withTag("job2-1")
	receive(t, next, []byte("new"))
	if err := linkNew(next.Temp(), next.Final()); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("linkNew over another backup: %v", err)
	}
	next.Name = "other"
	if err := linkNew(spec.withTag("job2-1").Temp(), next.Final()); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, spec.Dir, spec.Name, "other")
}

func TestDiscardKeepsWhatIsPublished(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	if err := Discard(spec); err != nil {
		t.Fatalf("nothing there: %v", err)
	}
	receive(t, spec, []byte("one"))
	if _, err := Publish(spec); err != nil {
		t.Fatal(err)
	}
	receive(t, spec, []byte("two"))
	for range 2 {
		if err := Discard(spec); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, spec.Dir, spec.Name)
	}
}

func TestSweepKeepsWantedStreamsAndForeignFiles(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	for _, tag := range []string{"wanted-1", "cut-1", "cut-2"} {
		receive(t, spec.withTag(tag), []byte(tag))
	}
	for _, name := range []string{"backup.part", ".log_error.log.journal", ".log_error.log.last", ".x.y z.part"} {
		if err := os.WriteFile(filepath.Join(spec.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(spec.Dir, ".folder.cut-1.part"), 0o700); err != nil {
		t.Fatal(err)
	}
	removed, err := Sweep(spec.Dir, func(tag string) bool { return tag == "wanted-1" })
	if err != nil || len(removed) != 2 || removed[0] != spec.withTag("cut-1").Temp() {
		t.Fatalf("removed %q, %v", removed, err)
	}
	wantFiles(t, spec.Dir, ".folder.cut-1.part", ".log_error.log.journal", ".log_error.log.last",
		".log_error.log.wanted-1.part", ".x.y z.part", "backup.part")

	if removed, err := Sweep(filepath.Join(spec.Dir, "none"), nil); err != nil || removed != nil {
		t.Fatalf("missing folder: %q, %v", removed, err)
	}
}
