package job

import (
	"errors"
	"slices"
)

// ErrUnknownTask is returned for a task name that is not in the table.
var ErrUnknownTask = errors.New("unknown task")

// MaxName is the longest task name: the task column is VARCHAR(20) (maintenance.txt section 6.1.2.1).
const MaxName = 20

// Kind groups tasks by what their result is.
type Kind string

// The kinds of task.
const (
	KindLog         Kind = "log"         // collects a log file
	KindBackup      Kind = "backup"      // makes a backup
	KindMaintenance Kind = "maintenance" // works on tables
	KindRestore     Kind = "restore"     // reseed, flashback
	KindService     Kind = "service"     // stop, start, restart
	KindMonitor     Kind = "monitor"     // only reads
	KindRolling     Kind = "rolling"     // one server of a cluster after the other
	KindArchive     Kind = "archive"     // works on stored backups, and on no server
)

// Flow says which way the bytes of a task go.
type Flow string

// The flows.
const (
	FlowNone Flow = ""    // nothing is streamed
	FlowIn   Flow = "in"  // the database host streams to drydock
	FlowOut  Flow = "out" // drydock streams to the database host
)

// Place says who can do a task (maintenance.txt section 6.1.8.5).
type Place string

// The places.
const (
	OnHost Place = ""       // the script: it needs the database host's files or processes
	Here   Place = "here"   // drydock: over SQL, or with client tools on its own host
	Either Place = "either" // the script, or drydock where scheduler-jobs-exec-remote is set and does not name the task
	// EitherHere is drydock, or the script where scheduler-jobs-exec-remote names the task.
	EitherHere Place = "either-here"
	// AtReceiver is a receiver: it has the backup files.
	AtReceiver Place = "receiver"
)

// Task is one kind of work on one server.
type Task struct {
	Name    string // as in the jobs table and the routes
	Kind    Kind
	Flow    Flow
	LogFile string // file the stream is appended to, for KindLog (architecture.md section 4)
	Format  Format // of the stream, which the receiver checks as it passes by; empty when there is nothing to check
	Built   bool   // false: named by the protocol, comes with a later version
	Place   Place  // who can do it
	// Whole: one job does the whole cluster. Its slot is that of the zero [Server]; a server somebody names is [ArgServer].
	Whole bool
	// Narrow: a task of the whole cluster can be run on one server that somebody names.
	Narrow bool
}

// Format is the format of a task's stream. It is also how the name of a backup's file ends.
type Format string

// The formats.
const (
	// XBStream is what mariabackup and xtrabackup send. That they came to their end stands in their log.
	XBStream Format = "xbstream"
	// SQLText is the text of mysqldump, with the tool's end marker as its last line.
	SQLText Format = "sql"
	// Tar is a tar archive of the folder that mydumper made, with the tool's metadata file in it.
	Tar Format = "tar"
)

// EndLine is what the tool itself says when it is done, as part of the proof; empty when there is no such thing. inLog
// tells that it stands in the tool's log and not in the stream.
func (f Format) EndLine() (text string, inLog bool) {
	switch f {
	case XBStream:
		return "completed OK!", true
	case SQLText:
		return "-- Dump completed", false
	case Tar:
		return "Finished dump at", false
	}
	return "", false
}

// tasks is in the order in which a client asks for them (wire.md sections 3 and 4); those that no client does come last.
var tasks = []Task{
	{Name: "xtrabackup", Kind: KindBackup, Flow: FlowIn, Format: XBStream, Built: true},
	{Name: "mariabackup", Kind: KindBackup, Flow: FlowIn, Format: XBStream, Built: true},
	{Name: "errorlog", Kind: KindLog, Flow: FlowIn, LogFile: "log_error.log", Built: true},
	{Name: "slowquery", Kind: KindLog, Flow: FlowIn, LogFile: "log_slow_query.log", Built: true},
	{Name: "auditlog", Kind: KindLog, Flow: FlowIn, LogFile: "log_audit.log", Built: true},
	{Name: "sqlerrorlog", Kind: KindLog, Flow: FlowIn, LogFile: "log_sql_error.log", Built: true},
	{Name: "zfssnapback", Kind: KindRestore, Built: true},
	{Name: "optimize", Kind: KindMaintenance, Built: true, Place: Either},
	{Name: "reseedxtrabackup", Kind: KindRestore, Flow: FlowOut, Built: true},
	{Name: "reseedmariabackup", Kind: KindRestore, Flow: FlowOut, Built: true},
	{Name: "flashbackxtrabackup", Kind: KindRestore, Flow: FlowOut, Built: true},
	{Name: "flashbackmariabackup", Kind: KindRestore, Flow: FlowOut, Built: true},
	{Name: "stop", Kind: KindService, Built: true, Place: Either},
	{Name: "restart", Kind: KindService, Built: true, Place: Either},
	{Name: "start", Kind: KindService, Built: true, Place: Either},
	{Name: "mysqldump", Kind: KindBackup, Flow: FlowIn, Format: SQLText, Built: true, Place: EitherHere},
	{Name: "mydumper", Kind: KindBackup, Flow: FlowIn, Format: Tar, Built: true, Place: EitherHere},
	{Name: "analyze", Kind: KindMaintenance, Built: true, Place: Here},
	{Name: "logstablerotate", Kind: KindMaintenance, Built: true, Place: Here},
	{Name: "schemamonitor", Kind: KindMonitor, Built: true, Place: Here},
	{Name: "checksum", Kind: KindMaintenance, Built: true, Place: Here, Whole: true, Narrow: true},
	{Name: "reseedlogical", Kind: KindRestore, Built: true, Place: Here},
	{Name: "reseedlogicalmaster", Kind: KindRestore, Built: true, Place: Here},
	{Name: "rollingrestart", Kind: KindRolling, Built: true, Place: Here, Whole: true},
	{Name: "rollingreprov", Kind: KindRolling, Built: true, Place: Here, Whole: true},
	{Name: "archive", Kind: KindArchive, Built: true, Place: AtReceiver},
	{Name: "archiveprune", Kind: KindArchive, Built: true, Place: AtReceiver, Whole: true},
	{Name: "archivecheck", Kind: KindArchive, Built: true, Place: AtReceiver, Whole: true},
	{Name: "backupdrill", Kind: KindArchive, Built: true, Place: AtReceiver, Whole: true, Narrow: true},
	{Name: "backupverify", Kind: KindArchive, Built: true, Place: AtReceiver, Whole: true, Narrow: true},
	{Name: "backupprune", Kind: KindArchive, Built: true, Place: AtReceiver, Whole: true},
	{Name: "pointrestore", Kind: KindRestore, Built: true, Place: AtReceiver},
}

// Tasks returns the table of tasks in client order. The slice is the caller's.
func Tasks() []Task { return append([]Task(nil), tasks...) }

// TaskByName looks a task up. Errors: [ErrUnknownTask].
func TaskByName(name string) (Task, error) {
	for _, t := range tasks {
		if t.Name == name {
			return t, nil
		}
	}
	return Task{}, ErrUnknownTask
}

// ArgServer is the argument of a task of the whole cluster that names one server, HOST:PORT: the work is about that one only.
const ArgServer = "server"

// Slots are the servers whose slots the task's jobs take when servers are meant, and what its jobs must be told.
// named says that a person chose them and not the schedule.
func (t Task) Slots(servers []Server, named bool) (slots []Server, args map[string]string) {
	if !t.Whole {
		return servers, nil
	}
	if named && len(servers) == 1 {
		args = map[string]string{ArgServer: servers[0].String()}
	}
	return []Server{{}}, args
}

// Heavy reports whether the task must have the server for itself. A table rebuilt under a physical backup can make a
// backup that ends well and does not restore: mariabackup then streams one file twice.
func (t Task) Heavy() bool {
	return t.Kind != KindLog && t.Kind != KindMonitor && t.Kind != KindRolling && t.Place != AtReceiver
}

// OnServers reports whether the task has anything to do with a database server. A rolling operation and a task that has
// not do not wait for one another: an upload of hours needs no server, and cares for none that goes down.
func (t Task) OnServers() bool { return t.Kind != KindArchive }

// OneServer reports whether the task can be run on one server that somebody names.
func (t Task) OneServer() bool { return !t.Whole || t.Narrow }

// TakesBackup reports whether somebody who runs the task may say which backup it is about ([ArgBackup]).
func (t Task) TakesBackup() bool { return t.Name == "backupdrill" || t.Name == "backupverify" }

// Logical reports whether the task dumps a server over SQL. One server of the cluster is enough for it, whichever holds
// the data: it is chosen when the task runs.
func (t Task) Logical() bool { return t.Kind == KindBackup && t.Place == EitherHere }

// Ordered reports whether the task replaces the data of a server by what its arguments name: it is asked for with a
// confirmation (package restore), never merely run.
func (t Task) Ordered() bool {
	return t.Kind == KindRestore && (t.Flow == FlowOut || t.Place == Here || t.Place == AtReceiver)
}

// Local reports whether drydock does the task itself. remote is scheduler-jobs-exec-remote, nil when it is unset: set,
// the script does the tasks it names, and drydock the others that either can do (maintenance.txt section 6.1.8.5).
func (t Task) Local(remote []string) bool {
	named := slices.Contains(remote, t.Name)
	switch t.Place {
	case Here:
		return true
	case Either:
		return remote != nil && !named
	case EitherHere:
		return !named
	}
	return false
}

// Channels are the names a client logs under without a job behind them (wire.md section 3).
var Channels = []string{"main", "print-defaults", "jobs-check", "jobs-upgrade"}

// IsChannel reports whether name is one of [Channels].
func IsChannel(name string) bool {
	for _, c := range Channels {
		if c == name {
			return true
		}
	}
	return false
}

// LogName resolves a task or channel name of the log route, with the misspelling of one deployed client
// (wire.md section 3). Errors: [ErrUnknownTask].
func LogName(name string) (string, error) {
	if name == "flashbackmariadbackup" {
		return "flashbackmariabackup", nil
	}
	if IsChannel(name) {
		return name, nil
	}
	t, err := TaskByName(name)
	return t.Name, err
}
