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
// are the group: 01 jobs, 02 backups, 03 receivers, 04 the script on the database hosts.
var (
	optimizePending  = Code{"WARN0072", bus.SeverityInfo, false, "optimize pending"}
	physicalPending  = Code{"WARN0073", bus.SeverityInfo, false, "physical backup pending"}
	reseedPending    = Code{"WARN0074", bus.SeverityInfo, false, "physical reseed pending"}
	flashbackPending = Code{"WARN0076", bus.SeverityInfo, false, "physical flashback pending"}
	noSpace          = Code{"WARN0100", bus.SeverityError, false, "no space left"}
	noBackup         = Code{"WARN0101", bus.SeverityWarn, false, "the cluster has no backup"}
	backupHeld       = Code{"WARN0110", bus.SeverityInfo, false, "a backup waits for another job"}

	jobFailed        = Code{"DOCK0101", bus.SeverityError, true, "the last run of the task did not succeed"}
	jobStuck         = Code{"DOCK0102", bus.SeverityWarn, true, "the job gives no sign of life"}
	backupOverdue    = Code{"DOCK0201", bus.SeverityError, false, "backup overdue"}
	logicalPending   = Code{"DOCK0202", bus.SeverityInfo, false, "logical backup pending"}
	poolExhausted    = Code{"DOCK0301", bus.SeverityWarn, false, "every port of the pool is taken"}
	noReceiver       = Code{"DOCK0302", bus.SeverityError, false, "no receiver answers"}
	scriptOutdated   = Code{"DOCK0401", bus.SeverityWarn, false, "the script is another one than drydock's"}
	scriptNotChecked = Code{"DOCK0402", bus.SeverityInfo, false, "the script is not known"}
)

// Codes lists every code, in the order of the document.
func Codes() []Code {
	return []Code{
		optimizePending, physicalPending, reseedPending, flashbackPending, noSpace, noBackup, backupHeld,
		jobFailed, jobStuck, backupOverdue, logicalPending, poolExhausted, noReceiver, scriptOutdated, scriptNotChecked,
	}
}

// pending are the codes of tasks that are due and not done.
var pending = map[string]Code{
	"optimize":             optimizePending,
	"mariabackup":          physicalPending,
	"xtrabackup":           physicalPending,
	"mysqldump":            logicalPending,
	"mydumper":             logicalPending,
	"reseedmariabackup":    reseedPending,
	"reseedxtrabackup":     reseedPending,
	"flashbackmariabackup": flashbackPending,
	"flashbackxtrabackup":  flashbackPending,
}

// factual tells the codes that are judged by what is read from time to time.
func factual(code string) bool {
	switch code {
	case noBackup.Name, backupOverdue.Name, scriptOutdated.Name, scriptNotChecked.Name:
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
