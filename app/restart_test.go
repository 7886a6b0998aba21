package app

import (
	"reflect"
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
		"backup-hash = \"blake3\"":                                          "the streams",
		"compress-backups = \"gzip\"":                                       "the streams, the archive of binary logs",
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

// Each setting of a cluster is either taken over by a reload or named as one that needs a restart.
func TestEverySettingIsTakenOverOrNamed(t *testing.T) {
	t.Parallel()
	fresh := func() *config.Config {
		cfg, err := config.Parse("x.toml", []byte("[Default]\nmonitoring-address = \"10.0.0.1\"\n[prod]\n"+
			"db-servers-hosts = \"a:1,b:1\"\ndb-servers-credential = \"u:p\"\nmonitoring-scheduler = true\nscheduler-db-servers-logs = true\nscheduler-alert-disable = true\nbackup-restic-password = \"p\"\n"+
			"backup-restic = true\nbackup-restic-aws = true\nbackup-restic-aws-access-key-id = \"k\"\nbackup-restic-aws-access-secret = \"s\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	reloaded := func(cfg *config.Config) any {
		ssh, err := sshConfig(cfg, quietLog())
		return []any{schedulerConfig(cfg, "", quietLog()).Clusters, ssh.Clusters, err, alertConfig(cfg, "", quietLog()).Clusters, notifyConfig(cfg, "", quietLog()).Clusters}
	}
	old := fresh()
	seen := 0
	for _, path := range leaves(reflect.TypeFor[config.Cluster]()) {
		name := reflect.TypeFor[config.Cluster]().FieldByIndex(path[:1]).Name
		changed := fresh()
		f := reflect.ValueOf(&changed.Clusters[0]).Elem().FieldByIndex(path)
		if !other(f) {
			continue
		}
		seen++
		if name == "Name" || len(path) > 1 && name == "SSH" && reflect.TypeFor[config.SSH]().FieldByIndex(path[1:]).Name == "OnPremise" {
			continue // another cluster; what is only checked
		}
		if len(needRestart(old, changed)) == 0 && reflect.DeepEqual(reloaded(old), reloaded(changed)) {
			t.Errorf("%s%v: a change goes unnoticed", name, path[1:])
		}
	}
	if seen < 100 {
		t.Errorf("only %d settings were tried", seen)
	}
}

// leaves are the index paths of what is no struct.
func leaves(of reflect.Type) (out [][]int) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Type.Kind() != reflect.Struct || !f.IsExported() {
			if f.IsExported() {
				out = append(out, []int{i})
			}
			continue
		}
		for _, rest := range leaves(f.Type) {
			out = append(out, append([]int{i}, rest...))
		}
	}
	return out
}

// other gives a setting another value; false for what is not made up easily.
func other(f reflect.Value) bool {
	switch f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Int, reflect.Int64:
		f.SetInt(f.Int() + 1)
	case reflect.Slice:
		one := reflect.New(f.Type().Elem()).Elem()
		if one.Kind() == reflect.String {
			one.SetString("auditlog")
		}
		f.Set(reflect.Append(f, one))
	default:
		return false
	}
	return true
}
