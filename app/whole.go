package app

import (
	"slices"
	"strings"

	"drydock/config"
	"drydock/job"
)

// wholeBackups are the tasks whose backups hold every table of the users, as far as drydock can tell: what the script is told
// to dump it does not know, and of the options of its own dumps it knows some.
func wholeBackups(c config.Cluster) []string {
	out := []string{"mariabackup", "xtrabackup"}
	for task, whole := range map[string]bool{"mysqldump": wholeDump(c.Mysqldump.Options), "mydumper": wholeFolder(c.Mydumper.Options)} {
		if t, err := job.TaskByName(task); err == nil && t.Local(c.ExecRemote) && whole {
			out = append(out, task)
		}
	}
	slices.Sort(out)
	return out
}

// wholeDump reports whether these options have mysqldump write every table, with its rows. It is pure.
func wholeDump(options []string) bool {
	all := false
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case name == "--all-databases" || name == "-A":
			all = true
		case !slices.Contains(harmless, name):
			return false
		}
	}
	return all
}

// harmless are options of mysqldump that leave out no table and no row.
var harmless = []string{
	"--single-transaction", "--quick", "-q", "--hex-blob", "--routines", "-R", "--events", "-E", "--triggers", "--opt", "--extended-insert", "-e",
	"--default-character-set", "--max-allowed-packet", "--net-buffer-length", "--order-by-primary", "--gtid", "--flush-logs", "--lock-all-tables", "-x",
	"--skip-lock-tables", "--add-drop-database", "--add-drop-table", "--complete-insert", "-c", "--tz-utc", "--compress", "-C", "--disable-keys",
	"--no-autocommit", "--skip-dump-date", "--verbose", "-v", "--ssl", "--ssl-ca", "--ssl-verify-server-cert", "--skip-ssl",
}

// wholeFolder reports whether these options have mydumper write every table of the users. Only what drydock has it do by
// default is known to: a regular expression may leave out anything. It is pure.
func wholeFolder(options []string) bool {
	for i, o := range options {
		switch {
		case o == "--triggers" || o == "--events" || o == "--routines" || strings.HasPrefix(o, "--threads="):
		case o == "--regex" && i+1 < len(options) && options[i+1] == usersOnly:
		case o == usersOnly && i > 0 && options[i-1] == "--regex":
		default:
			return false
		}
	}
	return true
}

// usersOnly is the default of backup-mydumper-options for what is dumped.
const usersOnly = `^(?!(mysql|sys)\.)`
