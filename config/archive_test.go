package config

import (
	"strings"
	"testing"
)

func TestArchiveNeedsAPasswordAndIsToBeTended(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"backup-restic = true\n": "needs the password of the repository",
		"backup-restic = true\nbackup-restic-password = \"p\"\nbackup-restic-aws = true\n": "needs a key and its secret",
		"backup-restic-check-subset = \"half\"\n":                                          "is no share of a repository",
	} {
		if _, err := parse(good + text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	cfg := mustParse(t, good+"backup-restic = true\nbackup-restic-password = \"p\"\nbackup-restic-check-subset = \"1/7\"\n"+
		"backup-restic-additional-args = \"-o,s3.connections=10\"\nbackup-keep-daily = 3\n")
	a := cfg.Clusters[0].Archive
	if !a.Enabled || a.Password.Reveal() != "p" || a.CheckSubset != "1/7" || len(a.Args) != 2 || a.KeepDaily != 3 || a.KeepWeekly != 4 {
		t.Errorf("read as %+v", a)
	}
	if !hasNote(cfg.Warnings, "x.toml:4", "backup-restic") {
		t.Errorf("nothing says that the archive only grows: %v", cfg.Warnings)
	}
}
