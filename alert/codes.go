package alert

import "drydock/bus"

// Code is one kind of condition.
type Code struct {
	Name     string
	Severity bus.Severity
	// PerTask: every task of a server has it for itself. The name of its subject is `<code>-<task>` then.
	PerTask bool
	Title   string // what it means, in a few words
}

// The codes. Those of wire.md section 6 keep their names. drydock's own are DOCK and four digits, of which the first two
// are the group: 01 jobs, 02 backups, 03 receivers, 04 the script on the database hosts, 05 the database servers themselves,
// 06 rolling operations, 07 notifications.
var (
	optimizePending  = Code{"WARN0072", bus.SeverityInfo, false, "optimize pending"}
	physicalPending  = Code{"WARN0073", bus.SeverityInfo, false, "physical backup pending"}
	reseedPending    = Code{"WARN0074", bus.SeverityInfo, false, "physical reseed pending"}
	logicalPending   = Code{"WARN0075", bus.SeverityInfo, false, "logical reseed pending"}
	flashbackPending = Code{"WARN0076", bus.SeverityInfo, false, "physical flashback pending"}
	noSpace          = Code{"WARN0100", bus.SeverityError, false, "no space left"}
	noBackup         = Code{"WARN0101", bus.SeverityWarn, false, "the cluster has no backup"}
	backupHeld       = Code{"WARN0110", bus.SeverityInfo, false, "a backup waits for another job"}

	jobFailed        = Code{"DOCK0101", bus.SeverityError, true, "the last run of the task did not succeed"}
	jobStuck         = Code{"DOCK0102", bus.SeverityWarn, true, "the job gives no sign of life"}
	backupOverdue    = Code{"DOCK0201", bus.SeverityError, false, "backup overdue"}
	notArchived      = Code{"DOCK0202", bus.SeverityError, false, "backups are not archived"}
	binlogGap        = Code{"DOCK0211", bus.SeverityError, false, "the archive of the binary log has a gap"}
	binlogLate       = Code{"DOCK0212", bus.SeverityError, false, "the binary log is not archived"}
	dumpPending      = Code{"DOCK0203", bus.SeverityInfo, false, "logical backup pending"}
	doesNotRestore   = Code{"DOCK0204", bus.SeverityError, false, "a backup does not restore"}
	notProven        = Code{"DOCK0205", bus.SeverityWarn, false, "no backup is shown to restore"}
	poolExhausted    = Code{"DOCK0301", bus.SeverityWarn, false, "every port of the pool is taken"}
	noReceiver       = Code{"DOCK0302", bus.SeverityError, false, "no receiver answers"}
	scriptOutdated   = Code{"DOCK0401", bus.SeverityWarn, false, "the script is another one than drydock's"}
	scriptNotChecked = Code{"DOCK0402", bus.SeverityInfo, false, "the script is not known"}
	rollingFailed    = Code{"DOCK0601", bus.SeverityError, true, "the last rolling operation ended before its end"}
	rollingPaused    = Code{"DOCK0602", bus.SeverityWarn, true, "the rolling operation is paused for long"}
	serverDown       = Code{"DOCK0501", bus.SeverityError, false, "the database server does not answer"}
	notReplicating   = Code{"DOCK0502", bus.SeverityError, false, "replication stopped"}
	clockSkew        = Code{"DOCK0503", bus.SeverityWarn, false, "the clocks differ"}

	// NotificationsFail is written by package notify, for no cluster and no server.
	NotificationsFail = Code{"DOCK0701", bus.SeverityError, false, "a destination cannot be notified"}

	tablesDiffer = Code{"DOCK0504", bus.SeverityError, false, "tables of replicas differ from the primary's"}
)

// Codes lists every code, in the order of the document.
func Codes() []Code {
	return []Code{
		optimizePending, physicalPending, reseedPending, logicalPending, flashbackPending, noSpace, noBackup, backupHeld,
		jobFailed, jobStuck, backupOverdue, notArchived, binlogGap, binlogLate, dumpPending, doesNotRestore, notProven, poolExhausted, noReceiver, scriptOutdated, scriptNotChecked,
		serverDown, notReplicating, clockSkew, tablesDiffer, rollingFailed, rollingPaused,
		NotificationsFail,
	}
}

// pending are the codes of tasks that are due and not done.
var pending = map[string]Code{
	"optimize":             optimizePending,
	"mariabackup":          physicalPending,
	"xtrabackup":           physicalPending,
	"mysqldump":            dumpPending,
	"mydumper":             dumpPending,
	"reseedmariabackup":    reseedPending,
	"reseedxtrabackup":     reseedPending,
	"reseedlogical":        logicalPending,
	"reseedlogicalmaster":  logicalPending,
	"flashbackmariabackup": flashbackPending,
	"flashbackxtrabackup":  flashbackPending,
	"pointrestore":         flashbackPending,
}

// factual tells the codes that are judged by what is read from time to time.
func factual(code string) bool {
	switch code {
	case noBackup.Name, backupOverdue.Name, notArchived.Name, binlogGap.Name, binlogLate.Name, doesNotRestore.Name, notProven.Name, scriptOutdated.Name, scriptNotChecked.Name,
		serverDown.Name, notReplicating.Name, clockSkew.Name, tablesDiffer.Name:
		return true
	}
	return false
}

// subject is where the edges of a condition stand.
func (c Code) subject(a bus.Alert) string {
	name := c.Name
	if c.PerTask {
		name += "-" + a.Task
	}
	return bus.AlertSubject(a.Cluster, a.Server.Host, a.Server.Port, name)
}
