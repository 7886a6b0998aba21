package receiver

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/internal/bustest"
	"drydock/job"
	"drydock/store"
)

// A stream that its maker gave up, or that is none of a backup, must never be found as one: a server would be restored from it.
func TestWhatIsMadeHereIsABackupOnlyWhenItIsWhole(t *testing.T) {
	t.Parallel()
	physical := mustRead(t, filepath.Join("..", "xbstream", "testdata", "thinned.xbstream"))
	g := newRig(t, nil)
	j := g.queued("pointrestore")
	m := store.Manifest{
		ID: job.NewID(time.Now(), j.Run(), j.Key()), Cluster: "prod", Server: local, Task: "mariabackup", GTID: "0-1-42", Ended: time.Now(),
		Point: &store.Point{Base: "B", To: "0-1-42", Job: j.ID},
	}
	died := errors.New("the tool died")
	for name, give := range map[string]func(context.Context, io.Writer) error{
		"died after the whole": func(_ context.Context, w io.Writer) error { _, _ = w.Write(physical); return died },
		"died at once":         func(context.Context, io.Writer) error { return died },
		"cut":                  func(_ context.Context, w io.Writer) error { _, err := w.Write(physical[:len(physical)-1]); return err },
		"nothing":              func(context.Context, io.Writer) error { return nil },
	} {
		if _, err := g.pool.Deposit(bustest.Context(t), j, m, give); err == nil || strings.HasPrefix(name, "died") && !errors.Is(err, died) {
			t.Errorf("%s: %v", name, err)
		}
		left, err := filepath.Glob(filepath.Join(g.dir, "Backups", "prod", "*", ".*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
		if _, err := store.NewCatalog(g.conn).Get(bustest.Context(t), "prod", local, m.ID); !errors.Is(err, store.ErrNoBackup) {
			t.Errorf("%s: the catalogue has it: %v", name, err)
		}
	}
	made, err := g.pool.Deposit(bustest.Context(t), j, m, func(_ context.Context, w io.Writer) error { _, err := w.Write(physical); return err })
	if err != nil {
		t.Fatal(err)
	}
	data := mustRead(t, made.Path)
	if string(data) != string(physical) || made.Size != int64(len(data)) {
		t.Errorf("%d bytes of %d", len(data), made.Size)
	}
	if got, err := g.pool.sendable(bustest.Context(t), "prod", local, m.ID); err != nil || got.Point == nil || *got.Point != *m.Point {
		t.Errorf("%+v, %v", got, err)
	}
}
