package app

import (
	"strings"
	"testing"
	"time"

	"drydock/bus"
	"drydock/config"
)

func TestCheckSeesRightsThatAreMissing(t *testing.T) {
	t.Parallel()
	for grants, want := range map[string]string{
		"GRANT ALL PRIVILEGES ON *.* TO `drydock`@`%` WITH GRANT OPTION":                                          "",
		"GRANT BINLOG ADMIN ON *.* TO `d`@`%`\nGRANT ALL PRIVILEGES ON `replication_manager_schema`.* TO `d`@`%`": "",
		"GRANT ALL PRIVILEGES ON `replication\\_manager\\_schema`.* TO `d`@`%`":                                   "",
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER ON *.* TO `d`@`%`":                      "",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO `d`@`%`":                                                  "CREATE ALTER INDEX DROP",
		"GRANT BINLOG ADMIN ON *.* TO `d`@`%`":                                                                    strings.Join(jobsRights, " "),
		"GRANT ALL PRIVILEGES ON `other`.* TO `d`@`%`":                                                            strings.Join(jobsRights, " "),
		"GRANT USAGE ON *.* TO `d`@`%`\nGRANT ALL PRIVILEGES ON `replication_manager_schema`.`jobs` TO `d`@`%`":   strings.Join(jobsRights, " "),
	} {
		if got := strings.Join(tableRights(grants), " "); got != want {
			t.Errorf("%s\n lacks %q, want %q", grants, got, want)
		}
	}
}

// MariaDB 12 answers with a word, which the check took for a server that does not answer at all.
func TestCheckReadsTheWordsOfReadOnly(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"0": false, "1": true, "OFF": false, "ON": true, "NO_LOCK": true, "NO_LOCK_NO_ADMIN": true} {
		if isReadOnly(value) != want {
			t.Errorf("%s: %v", value, !want)
		}
	}
}

func TestCheckSaysThatTooFewFilesMayBeOpen(t *testing.T) {
	t.Parallel()
	few := &config.Config{Global: config.Global{MaxConnections: 100, Receiver: config.Receiver{Ports: []int{1, 2, 3, 4}}}, Clusters: []config.Cluster{
		{Name: "prod", JobsMode: "api", Servers: make([]config.Server, 3)},
		{Name: "logged", JobsMode: "sql", Servers: make([]config.Server, 2), Binlogs: config.Binlogs{Enabled: true}},
	}}
	if it := checkOpenFiles(few); it.Status != OK || frugal(few) {
		t.Errorf("%+v", it)
	}
	limit, wanted := openFiles(few)
	if wanted != filesBesides+100+4+3+2*3+2 {
		t.Errorf("%d are wanted", wanted)
	}
	many := &config.Config{} // of servers that are in memory once: a container may open a thousand million files
	for servers := make([]config.Server, 100_000); wanted <= limit; _, wanted = openFiles(many) {
		many.Clusters = append(many.Clusters, config.Cluster{Name: "prod", JobsMode: "sql", Servers: servers})
	}
	if it := checkOpenFiles(many); it.Status != Warn || !frugal(many) || !strings.Contains(it.Hint, "LimitNOFILE") {
		t.Errorf("%+v", it)
	}
}

func TestCheckMissesTheToolOfAScheduledLogicalBackup(t *testing.T) {
	t.Parallel()
	scheduled := config.Cluster{Name: "prod", Scheduler: true, LogicalBackup: config.Schedule{Enabled: true}, LogicalType: "mydumper"}
	there, missing, remote, off := scheduled, scheduled, scheduled, scheduled
	missing.Mydumper.Path = "/nowhere/mydumper"
	remote.Mydumper.Path, remote.ExecRemote = "/nowhere/mydumper", []string{"mydumper"}
	off.LogicalBackup.Enabled = false
	if items := checkDumpTool(there); len(items) != 1 || items[0].Status != OK {
		t.Errorf("%+v", items)
	}
	if items := checkDumpTool(missing); len(items) != 1 || items[0].Status != Fail || !strings.Contains(items[0].Detail, "backup-mydumper-path") {
		t.Errorf("%+v", items)
	}
	if items := append(checkDumpTool(remote), checkDumpTool(off)...); len(items) != 0 {
		t.Errorf("%+v", items)
	}
}

// A backup that somebody switched off for an hour and forgot is noticed by the monitoring, not at the restore.
func TestCheckWarnsOfASwitchThatWasForgotten(t *testing.T) {
	t.Parallel()
	now := time.Now()
	since := func(d time.Duration) *bus.Switch {
		return &bus.Switch{Task: "mariabackup", From: now.Add(-d), By: "alice", Note: "bug 17"}
	}
	for name, c := range map[string]struct {
		live bus.ScheduleInfo
		want Status // empty: no item
	}{
		"on":              {bus.ScheduleInfo{Cluster: "prod"}, ""},
		"another cluster": {bus.ScheduleInfo{Cluster: "test", Switch: since(48 * time.Hour)}, ""},
		"an hour":         {bus.ScheduleInfo{Cluster: "prod", Switch: since(time.Hour)}, OK},
		"two days":        {bus.ScheduleInfo{Cluster: "prod", Switch: since(48 * time.Hour)}, Warn},
	} {
		got := checkSwitches(config.Cluster{Name: "prod"}, []bus.ScheduleInfo{c.live}, now)
		if len(got) != map[bool]int{true: 1}[c.want != ""] {
			t.Errorf("%s: %+v", name, got)
		} else if c.want != "" && (got[0].Status != c.want || !strings.Contains(got[0].Detail, "by alice: bug 17")) {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
}
