package app

import (
	"slices"
	"strings"
	"testing"

	"drydock/config"
)

// A dump that leaves tables out on purpose must not be taken for one that has lost them.
func TestOnlyWholeBackupsAreComparedWithTheServer(t *testing.T) {
	t.Parallel()
	defaults := config.Cluster{Mysqldump: optionsOf("--all-databases --single-transaction --quick --hex-blob --routines --events --triggers"),
		Mydumper: config.Tool{Options: []string{"--triggers", "--events", "--routines", "--regex", usersOnly}}}
	remote := defaults
	remote.ExecRemote = []string{"mysqldump", "mydumper"}
	for _, c := range []struct {
		cluster config.Cluster
		want    string
	}{
		{defaults, "mariabackup mydumper mysqldump xtrabackup"},
		{remote, "mariabackup xtrabackup"},
		{config.Cluster{Mysqldump: optionsOf("--databases shop --quick"), Mydumper: optionsOf("--regex ^shop")}, "mariabackup xtrabackup"},
		{config.Cluster{Mysqldump: optionsOf("-A --ignore-table=shop.x"), Mydumper: optionsOf("--database shop")}, "mariabackup xtrabackup"},
		{config.Cluster{Mysqldump: optionsOf("-A --where=1=2"), Mydumper: optionsOf("--no-data")}, "mariabackup xtrabackup"},
	} {
		if got := wholeBackups(c.cluster); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%v, %v: %v, want %s", c.cluster.Mysqldump, c.cluster.Mydumper, got, c.want)
		}
	}
}

func optionsOf(text string) config.Tool { return config.Tool{Options: strings.Fields(text)} }
