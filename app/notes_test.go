package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/receiver/keeper"
	"drydock/store"
)

// What operators and drills said of a backup is not lost with the bus: it lies beside the file, as long as nobody else wrote it.
func TestPinsAndProofsOutliveTheBus(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := t.TempDir()
	s.folder = filepath.Join(data, "Backups")
	a, b := s.put("A", []byte("data")), s.put("B", []byte("more"))
	keys := []store.PublicKey{s.signer.Public()}
	conn, ctx := bustest.Start(t), bustest.Context(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(RebuildCatalog(ctx, conn, s.folder, keys, func(Found) {}))
	catalog := store.NewCatalog(conn)
	one, err := catalog.ByID(ctx, "A")
	must(err)
	two, err := catalog.ByID(ctx, "B")
	must(err)
	_, err = catalog.SetPin(ctx, one, store.Pin{On: true, Time: time.Now().UTC(), By: "jane", Reason: "year end"})
	must(err)
	must(catalog.AddDrill(ctx, one, store.Drill{Time: time.Now().UTC(), By: "drill", Tables: 3}))
	must(catalog.AddVerification(ctx, one, store.Verification{Time: time.Now().UTC(), By: "jane", Bytes: 4}))
	must(catalog.SetArchives(ctx, one, func([]store.Archive) []store.Archive { return []store.Archive{{Repository: "r", Snapshot: "s"}} }))
	_, err = catalog.SetPin(ctx, two, store.Pin{On: true, Time: time.Now().UTC(), By: "jane"})
	must(err)

	view := store.NewView(conn)
	k := keeper.New(keeper.Config{
		Name: one.Receiver, DataDir: data, Sign: s.signer.SignNotes, Keys: keys, Log: bustest.Log(t),
		Clusters: map[string]keeper.Cluster{one.Cluster: {Servers: []job.Server{one.Server}}},
	}, conn, view, catalog)
	stop := bustest.Run(t, view.Run, k.Run)
	bustest.Until(t, 20*time.Second, "the notes are there", func() bool {
		_, errA := os.Stat(a + keeper.NotesSuffix)
		_, errB := os.Stat(b + keeper.NotesSuffix)
		return errA == nil && errB == nil
	})
	stop()

	s.write(b+keeper.NotesSuffix, []byte(`{"id":"B","pin":{"on":true}}`)) // forged
	conn = bustest.Start(t)
	catalog = store.NewCatalog(conn)
	problems := map[string]string{}
	must(RebuildCatalog(ctx, conn, s.folder, keys, func(f Found) { problems[f.Manifest.ID] = f.Problem }))
	if problems["A"] != "" || problems["B"] == "" {
		t.Errorf("%q", problems)
	}
	got, err := catalog.ByID(ctx, "A")
	must(err)
	if _, restored := got.Restored(); !got.Pinned() || got.Pin.Reason != "year end" || !restored || got.Drills[0].Tables != 3 || len(got.Verifications) != 1 || len(got.Archives) != 1 {
		t.Errorf("%+v", got)
	}
	if got, err := catalog.ByID(ctx, "B"); err != nil || got.Pinned() {
		t.Errorf("believed forged notes: %+v, %v", got.Pin, err)
	}

	// The catalogue may know more than the notes: rebuilding takes no pin away, and brings none back that was.
	two, err = catalog.ByID(ctx, "B")
	must(err)
	_, err = catalog.SetPin(ctx, two, store.Pin{On: true, Time: time.Now().UTC(), By: "joe"})
	must(err)
	_, err = catalog.SetPin(ctx, got, store.Pin{Time: time.Now().UTC(), By: "joe"})
	must(err)
	must(RebuildCatalog(ctx, conn, s.folder, keys, func(Found) {}))
	one, err = catalog.ByID(ctx, "A")
	must(err)
	two, err = catalog.ByID(ctx, "B")
	must(err)
	if one.Pinned() || !two.Pinned() {
		t.Errorf("pinned: A %v, B %v", one.Pinned(), two.Pinned())
	}
	if len(one.Drills) != 1 || len(one.Archives) != 1 {
		t.Errorf("what stood there twice: %+v", one)
	}
}
