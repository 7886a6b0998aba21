package app

import (
	"slices"
	"strings"
	"testing"

	"drydock/config"
)

func TestReloadSaysWhatItLeavesAsItWas(t *testing.T) {
	t.Parallel()
	const base = `
[Default]
monitoring-address = "10.0.0.1"
[prod]
db-servers-hosts = "a:1,b:1"
db-servers-credential = "u:p"
`
	parse := func(text string) *config.Config {
		t.Helper()
		cfg, err := config.Parse("x.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	for add, want := range map[string]string{
		"":                                 "",
		"scheduler-db-servers-logs = true": "",
		"scheduler-jobs-retry = 3":         "",
		"scheduler-jobs-ssh-cron = \"* * * * *\"":                           "",
		"backup-max-age = \"1h\"":                                           "",
		"db-servers-backup-hosts = \"a:1\"":                                 "the API",
		"scheduler-jobs-mode = \"api\"":                                     "the API, the dispatch of jobs",
		"scheduler-jobs-log-level = \"DEBUG\"":                              "the API",
		"scheduler-db-servers-receiver-ports = \"1\"":                       "the API, the streams",
		"backup-hash = \"sha256\"":                                          "the streams",
		"compress-backups = \"gzip\"":                                       "the streams",
		"scheduler-jobs-lease = \"1h\"":                                     "the tasks over SQL, rolling operations",
		"maintenance-max-pause = \"1h\"":                                    "the tasks over SQL",
		"maintenance-max-lag = \"1h\"":                                      "the API, the tasks over SQL, rolling operations",
		"prov-orchestrator-wait = \"1h\"":                                   "the tasks over SQL, the orchestrator",
		"rolling-gate-timeout = \"1h\"":                                     "rolling operations",
		"backup-restic-timeout = \"1h\"":                                    "the archive",
		"maintenance-windows = \"mon 00:00-01:00\"":                         "the tasks over SQL",
		"scheduler-timezone = \"Asia/Tokyo\"":                               "the tasks over SQL",
		"scheduler-db-servers-logs-table-keep = 1":                          "the tasks over SQL",
		"[more]\ndb-servers-hosts = \"c\"\ndb-servers-credential = \"u:p\"": "new cluster more",
	} {
		got := needRestart(parse(base), parse(base+add+"\n"))
		if (want == "") != (len(got) == 0) || want != "" && !strings.HasSuffix(strings.Join(got, "; "), want) {
			t.Errorf("%s: %q, want %q", add, got, want)
		}
	}
	if got := needRestart(parse(base), parse(strings.ReplaceAll(base, "[prod]", "[other]"))); !slices.Equal(got, []string{"cluster prod is gone", "new cluster other"}) {
		t.Errorf("another name: %q", got)
	}
	if got := needRestart(parse(base), parse(strings.ReplaceAll(base, "u:p", "u:q"))); len(got) != 1 || strings.Contains(got[0], "u:q") {
		t.Errorf("another password: %q", got)
	}
	if got := needRestart(parse(base), parse(strings.ReplaceAll(base, "10.0.0.1", "10.0.0.2"))); len(got) != 1 || !strings.Contains(got[0], "[Default]") {
		t.Errorf("another address: %q", got)
	}
}
