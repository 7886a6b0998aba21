package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"drydock/config"
	"drydock/internal/bustest"
	"drydock/job"
	"drydock/restore"
	"drydock/store"
)

// Somebody in need copies the command line of a plan into a shell: it must name the backup that the plan was made for, one that
// nothing bad is known of and that is not beyond the wanted point, and survive the shell.
func TestAPlanFromTheCatalogueNamesARestorableBackupAndItsCommand(t *testing.T) {
	t.Parallel()
	conn, ctx := bustest.Start(t), bustest.Context(t)
	catalog := store.NewCatalog(conn)
	db1, db2 := job.Server{Host: "db1", Port: 3306}, job.Server{Host: "db2", Port: 3306}
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	put := func(id, task string, ended time.Time) store.Manifest {
		m := store.Manifest{
			Type: store.ManifestType, ID: id, Cluster: "prod", Server: db1, Task: task, Receiver: "rx", Ended: ended, Size: 4 << 30, Stored: 1 << 30, GTID: "0-1-42", Path: "/b/" + id,
		}
		if err := catalog.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	drilled := put("1", "mariabackup", noon.Add(-48*time.Hour))
	put("2", "mariabackup", noon.Add(-24*time.Hour))
	damaged := put("3", "mariabackup", noon)
	if err := catalog.AddDrill(ctx, drilled, store.Drill{Time: noon, Restore: 60}); err != nil {
		t.Fatal(err)
	}
	if err := catalog.AddVerification(ctx, damaged, store.Verification{Time: noon.Add(time.Hour), Problem: "the file is missing"}); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Clusters: []config.Cluster{{Name: "prod", Servers: []config.Server{{Host: "db1", Port: 3306}, {Host: "db2", Port: 3306}}}}}
	q := func(change func(*restore.Question)) restore.Question {
		q := restore.Question{Cluster: "prod", Of: db1, Directory: "/srv/x"}
		change(&q)
		return q
	}
	for name, c := range map[string]struct {
		q       restore.Question
		command string
		refused bool
		says    string // a finding
	}{
		"the newest good one": {q(func(*restore.Question) {}), "drydock restore apply 2 --to-directory /srv/x --confirm /srv/x", false, "on the machine of receiver rx"},
		"a bad one by its id": {q(func(q *restore.Question) { q.Backup = "3" }), "drydock restore apply 3 --to-directory /srv/x --confirm /srv/x", false, "a verification found it damaged"},
		"to a time before the newest": {q(func(q *restore.Question) { q.To = "2026-11-24 11:00" }),
			"drydock restore apply 1 --to-directory /srv/x --to=2026-11-24T11:00:00Z --confirm /srv/x", true, "archive of binary logs"},
		"a folder for a shell": {q(func(q *restore.Question) { q.Directory = "/srv/it's; rm -rf $HOME" }),
			`drydock restore apply 2 --to-directory '/srv/it'\''s; rm -rf $HOME' --confirm '/srv/it'\''s; rm -rf $HOME'`, false, ""},
		"to a server nobody knows of": {q(func(q *restore.Question) { q.Directory, q.Server, q.Stay = "", db2, true }),
			"drydock restore apply 2 --to-server db2:3306 --no-replication --confirm db2:3306", true, "the role of db2:3306 is not known"},
	} {
		p, err := PlanQuestion(ctx, cfg, conn, c.q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := false
		for _, f := range p.Findings {
			found = found || strings.Contains(f.Why, c.says)
		}
		if p.Command != c.command || p.Refused() != c.refused || !found || p.Lost == "" || len(p.Steps) < 2 || p.Estimate == nil || *p.Estimate != 60 {
			t.Errorf("%s: %s\n%+v", name, p.Command, p)
		}
	}
	for name, c := range map[string]struct {
		q    restore.Question
		want error
	}{
		"another cluster":   {q(func(q *restore.Question) { q.Cluster = "lab" }), restore.ErrQuestion},
		"no point":          {q(func(q *restore.Question) { q.To = "yesterday" }), restore.ErrQuestion},
		"a relative folder": {q(func(q *restore.Question) { q.Directory = "x" }), restore.ErrQuestion},
		"before everything": {q(func(q *restore.Question) { q.To = "2020-01-01 00:00" }), store.ErrNoBackup},
		"an unknown one":    {q(func(q *restore.Question) { q.Backup = "9" }), store.ErrNoBackup},
	} {
		if _, err := PlanQuestion(ctx, cfg, conn, c.q); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
