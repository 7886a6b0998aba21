package binlog

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/receiver"
	"drydock/store"
)

// The catalogue may know of one new backup only, after the bus was lost: what the old ones need must outlive that, and so must what a
// backup needs that is about to go and may stay after all.
func TestPruneSparesWhatBackupsNeedThatTheCatalogueLost(t *testing.T) {
	conn := bustest.Start(t)
	ctx := bustest.Context(t)
	s := New(Config{Name: "one", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, conn)
	fill := func(from time.Time) {
		list := follows(piece(srvA, "b.1", 0, 0, 100, "", "0-1-5"), piece(srvA, "b.2", 1, 0, 100, "0-1-5", "0-1-9"), piece(srvA, "b.3", 2, 0, 100, "0-1-9", "0-1-12"))
		for i := range list {
			g := &list[i]
			g.Receiver, g.Taken, g.Created = "one", from.Add(time.Duration(i)*time.Second), from
			g.Path = filepath.Join(folderOf(s.cfg.Dir, "prod", srvA), g.Name())
			write(t, g.Path, nil)
			if err := s.binlogs.Put(ctx, *g); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func(what string, want int) {
		t.Helper()
		if err := s.prune(ctx, "prod"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		list, err := s.binlogs.List(ctx, "prod")
		if err != nil || len(list) != want {
			t.Errorf("%s: %d segments are left, want %d: %v", what, len(list), want, err)
		}
		for _, g := range list {
			if _, err := os.Stat(g.Path); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	later := time.Now().Add(time.Minute)
	backup := func(id, gtid string) store.Manifest {
		return store.Manifest{ID: id, Cluster: "prod", Server: srvA, Receiver: "one", GTID: gtid, Ended: later,
			Path: filepath.Join(s.cfg.Dir, "prod", "10.0.0.1_3306", id+".xbstream")}
	}
	young, old := backup("2", "0-1-10"), backup("1", "0-1-7")
	if err := s.catalog.Put(ctx, young); err != nil {
		t.Fatal(err)
	}

	fill(time.Now().Add(-time.Hour))
	left("taken before the catalogue was made", 3)
	s.clear(t)

	fill(later)
	text, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	write(t, old.Path, []byte("backup"))
	write(t, old.Path+receiver.ManifestSuffix, text)
	left("a backup in the folder only", 2)
	if err := os.Remove(old.Path); err != nil {
		t.Fatal(err)
	}
	if err := s.catalog.Put(ctx, old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.catalog.Remove(ctx, old, store.Removal{Time: later}, func(store.Manifest) error { return nil }); err != nil {
		t.Fatal(err)
	}
	left("a backup that is about to go", 2)

	// A description that names another file must not delete it.
	forged := piece(srvA, "b.0", 0, 0, 100, "", "")
	forged.Receiver, forged.Taken, forged.Path = "one", later.Add(-time.Second), old.Path+receiver.ManifestSuffix
	if err := s.binlogs.Put(ctx, forged); err != nil {
		t.Fatal(err)
	}
	if err := s.catalog.Removed(ctx, old); err != nil {
		t.Fatal(err)
	}
	left("all that needed them is gone", 2) // the newest, and the forged one
}

// clear forgets all segments.
func (s *Service) clear(t *testing.T) {
	t.Helper()
	list, err := s.binlogs.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range list {
		if err := remove(t.Context(), s.binlogs, g); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
