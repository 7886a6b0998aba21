package config

import (
	"slices"
	"strings"
	"testing"
)

func TestUnsetExecRemoteIsNotTheSameAsNamingNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                    nil,
		`scheduler-jobs-exec-remote = ""`:     nil, // as replication-manager writes its own default
		`scheduler-jobs-exec-remote = "none"`: {},
		`scheduler-jobs-exec-remote = "mysqldump,optimize"`: {"mysqldump", "optimize"},
		`scheduler-jobs-exec-remote = ["mariabackup"]`:      {"mariabackup"},
	} {
		got := mustParse(t, good+text+"\n").Clusters[0].ExecRemote
		if !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %#v, want %#v", text, got, want)
		}
	}
	for _, text := range []string{`"optimise"`, `"none,optimize"`, `"analyze"`} {
		if _, err := parse(good + "scheduler-jobs-exec-remote = " + text + "\n"); err == nil || !strings.Contains(err.Error(), "scheduler-jobs-exec-remote") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
