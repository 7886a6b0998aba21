package app

import (
	"strings"
	"testing"

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
