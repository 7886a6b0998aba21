package app

import (
	"slices"

	"drydock/config"
	"drydock/job"
	"drydock/pruning"
	"drydock/scheduler"
)

// schedules lists every task that a cluster's keys can schedule, the ones that are off with the key that switches
// them on: switching off is recorded in the ledger too.
func schedules(c config.Cluster) []scheduler.Schedule {
	entry := func(task, key string, s config.Schedule) scheduler.Schedule {
		e := scheduler.Schedule{Task: task, Spec: s.Cron, Enabled: s.Enabled && c.Scheduler}
		switch {
		case !c.Scheduler:
			e.Why = "monitoring-scheduler is false"
		case !s.Enabled:
			e.Why = key + " is false"
		}
		return e
	}
	out := []scheduler.Schedule{
		entry("optimize", "scheduler-db-servers-optimize", c.Optimize),
		entry("analyze", "scheduler-db-servers-analyze", c.Analyze),
		entry("checksum", "scheduler-db-servers-checksum", c.Checksum),
		entry("logstablerotate", "scheduler-db-servers-logs-table-rotate", c.LogsTableRotate),
		entry("schemamonitor", "scheduler-db-servers-schema-monitor", c.SchemaMonitor),
		entry("rollingrestart", "scheduler-rolling-restart", c.Rolling.Restart),
		entry("rollingreprov", "scheduler-rolling-reprov", c.Rolling.Reprov),
		entry("backupdrill", "scheduler-backup-drill", c.Drill.Schedule),
	}
	out = append(out, entry(pruning.Task, "scheduler-backup-prune", c.Prune))
	for _, e := range []scheduler.Schedule{
		entry("archiveprune", "scheduler-backup-restic-prune", c.Archive.Prune),
		entry("archivecheck", "scheduler-backup-restic-check", c.Archive.Check),
	} {
		if e.Enabled && !c.Archive.Enabled {
			e.Enabled, e.Why = false, "backup-restic is false"
		}
		out = append(out, e)
	}
	for _, tool := range []string{"mariabackup", "xtrabackup"} {
		e := entry(tool, "scheduler-db-servers-physical-backup", c.PhysicalBackup)
		if tool != c.BackupType {
			e.Enabled, e.Why = false, "backup-physical-type is "+c.BackupType
		}
		out = append(out, e)
	}
	for _, tool := range []string{"mysqldump", "mydumper"} {
		e := entry(tool, "scheduler-db-servers-logical-backup", c.LogicalBackup)
		if tool != c.LogicalType {
			e.Enabled, e.Why = false, "backup-logical-type is "+c.LogicalType
		}
		out = append(out, e)
	}
	for _, t := range job.Tasks() {
		if t.Kind != job.KindLog {
			continue
		}
		e := entry(t.Name, "scheduler-db-servers-logs", c.Logs)
		if e.Why == "" && !slices.Contains(c.LogsTasks, t.Name) {
			e.Enabled, e.Why = false, "scheduler-db-servers-logs-tasks does not name it"
		}
		out = append(out, e)
	}
	return out
}
