package config

import (
	"log/slog"
	"time"
)

// Scope says where a key may stand.
type Scope string

const (
	// ScopeGlobal keys stand in [Default] only: there is one value per process.
	ScopeGlobal Scope = "global"
	// ScopeCluster keys stand in a cluster's section, or in [Default] for every cluster that does not set them.
	ScopeCluster Scope = "cluster"
)

// Key is one row of the table of keys, as documentation and tools see it.
type Key struct {
	Name    string
	Scope   Scope
	Group   string // heading in the documentation
	Values  string // type, unit and permitted values, for people
	Default string // as one would write it in TOML without quotes; "" = empty
	Doc     string // what it does, one or two sentences
	Secret  bool   // never printed; accepts env:NAME and file:PATH
	Require bool   // must be set for every cluster
}

// Keys returns the whole table in the order of the documentation.
func Keys() []Key {
	var out []Key
	for _, k := range globalKeys(new(globals)) {
		out = append(out, k.Key)
	}
	for _, k := range clusterKeys(new(Cluster)) {
		out = append(out, k.Key)
	}
	return out
}

// globals is what the global keys fill: Global itself and the two halves of its users, joined by joinUsers.
type globals struct {
	Global
	credentials []User
	acl         []User // names and grants only
}

// globalKeys binds the global half of the table to g and sets every default there.
func globalKeys(g *globals) []key {
	t := &table{scope: ScopeGlobal}

	t.group = "Process and files"
	t.text("monitoring-datadir", &g.Datadir, "/var/lib/drydock", "a folder",
		"Folder of everything drydock keeps: logs, backups, the bus and generated keys. One process owns it.", notEmpty)
	t.text("include", &g.Include, "", "a folder",
		"Folder of further *.toml files, read in the order of their names; a later file wins. Relative to the main file.")
	t.enum("log-format", &g.LogFormat, "text", []string{"text", "json"}, "Form of drydock's own log on standard error.")
	t.logLevel("log-level", &g.LogLevel, slog.LevelInfo, "Least level of drydock's own log.")
	t.duration("monitoring-ticker", &g.Ticker, 2*time.Second, bounds[time.Duration]{min: 100 * time.Millisecond},
		"How often drydock looks at rows, leases, ports and conditions that it follows.")

	t.group = "REST API"
	t.text("monitoring-address", &g.Address, "", "an address or host name",
		"Address that the database hosts stream to. Empty: this machine's first non-loopback address.", emptyOr(bareHost))
	t.text("bind-address", &g.BindAddress, "0.0.0.0", "an IP address",
		"Address that the HTTP, HTTPS and stream ports listen on.", ipAddress)
	t.boolean("http-server", &g.HTTPServer, true, "Serve the API in clear on http-port.")
	t.number("http-port", &g.HTTPPort, 10001, bounds[int]{min: 0, max: 65535}, "a port, 0 = any free one", "Port of the API in clear.")
	t.number("api-port", &g.APIPort, 10005, bounds[int]{min: 0, max: 65535}, "a port, 0 = any free one",
		"Port of the API over HTTPS. Deployed scripts speak TLS to ports 443 and 10005 only.")
	t.number("http-max-connections", &g.MaxConnections, 4096, bounds[int]{min: 16, max: 1_000_000}, "at least 16",
		"Connections of http-port and api-port together. Beyond it the one that has been idle longest is closed.")
	t.text("api-https-cert", &g.APICert, "", "a PEM file", "Certificate of the API. Empty: self-signed, made on first start.")
	t.text("api-https-key", &g.APIKey, "", "a PEM file", "Private key of api-https-cert.")
	t.credentials("api-credentials", &g.credentials, "Users of the API: user:password, comma separated or a list. Empty: nobody can log in.")
	t.grants("api-credentials-acl-allow", &g.acl,
		"What each user may do, as in admin:cluster db prov proxy,dba:db proxy. A word covers every grant that starts with it.")
	t.boolean("api-credentials-secure-config", &g.SecureConfig, true,
		"Give a database container its script and environment, which hold the database password, to callers with the grant db-config only. "+
			"false: to everybody, without the password.")
	t.prefixes("api-trusted-proxies", &g.TrustedProxies,
		"Reverse proxies that are believed when they say, in X-Forwarded-For, where a caller is. Empty: nobody is.")
	t.duration("api-token-lifetime", &g.TokenLifetime, 12*time.Hour, bounds[time.Duration]{min: time.Minute}, "How long a login is good for; that of a script (secret-login) 7 days at least.")

	t.group = "Receiver"
	t.freeSpace("disk-reserve", &g.Receiver.Reserve, gib,
		"Space that backups leave free on the disk of monitoring-datadir. A backup that is not expected to fit beside it waits.")
	t.text("receiver-name", &g.Receiver.Name, "", "letters, digits, dot, - and _",
		"Name of this process on the bus. Empty: the machine's host name at the first start, which the data folder then keeps.", emptyOr(plainName))
	t.ports("scheduler-db-servers-sender-ports", &g.Receiver.Ports, nil,
		"Ports that streams arrive on, one per concurrent stream. Empty: any free port, 4096 at a time.")
	t.prefixes("receiver-allow-from", &g.Receiver.AllowFrom,
		"Further addresses that may send streams, besides the addresses of the server the stream belongs to.")
	t.duration("receiver-accept-timeout", &g.Receiver.AcceptTimeout, 2*time.Minute, bounds[time.Duration]{min: 100 * time.Millisecond},
		"How long a reserved port waits for its connection.")
	t.duration("receiver-idle-timeout", &g.Receiver.IdleTimeout, 10*time.Minute, bounds[time.Duration]{min: 100 * time.Millisecond},
		"How long an open stream may be silent before it is cut.")
	t.duration("receiver-drain-timeout", &g.Receiver.DrainTimeout, 30*time.Second, bounds[time.Duration]{zero: "cut at once"},
		"How long open streams may go on when drydock stops.")

	t.group = "Notifications"
	notifyKeys(t, &g.Notify)

	t.group = "SSH"
	t.number("scheduler-jobs-ssh-max-sessions", &g.SSHSessions, 64, bounds[int]{min: 1, max: 10000}, "1 to 10000",
		"SSH sessions to database hosts that this process has open at a time; further hosts wait. One lasts as long as the jobs it started.")

	t.group = "Bus"
	natsKeys(t, &g.NATS)
	return t.keys
}

// natsKeys adds the nats-* keys.
func natsKeys(t *table, n *NATS) {
	t.text("nats-listen", &n.Listen, "127.0.0.1:4222", "host:port, port 0 = any free one",
		"Where the embedded NATS server listens for the nats CLI and further parts of drydock.", listenAddress)
	t.text("nats-user", &n.User, "drydock", "letters, digits, dot, - and _", "User name on the bus.", plainName)
	t.secret("nats-password", &n.Password, "Password on the bus. Empty: generated on first start, readable by the owner only.")
	t.text("nats-url", &n.URL, "", "nats:// or tls:// URLs, comma separated",
		"External NATS servers. Empty: the embedded server.", emptyOr(natsURLs))
	t.number("nats-replicas", &n.Replicas, 1, bounds[int]{min: 1, max: 5}, "1, 3 or 5",
		"Copies of each stream; more than one needs an external cluster (nats-url).")
	t.text("nats-tls-cert", &n.TLSCert, "", "a PEM file", "Certificate of the embedded server, or of this client with nats-url.")
	t.text("nats-tls-key", &n.TLSKey, "", "a PEM file", "Private key of nats-tls-cert.")
	t.text("nats-tls-ca", &n.TLSCA, "", "a PEM file", "Authority that the other side's certificate must be signed by.")
	t.size("nats-max-store", &n.MaxStore, 16*gib, "Space of the embedded server. All nats-*-max-bytes together must fit, and 2160MiB more for the buckets.")

	const day = 24 * time.Hour
	t.stream("tasks", &n.Tasks, Limit{400 * day, gib}, "the tick ledger")
	t.stream("jobs", &n.Jobs, Limit{400 * day, 4 * gib}, "the history of the jobs")
	t.stream("logs", &n.Logs, Limit{30 * day, 4 * gib}, "the log lines of the scripts")
	t.stream("alerts", &n.Alerts, Limit{400 * day, 256 * mib}, "the alerts")
	t.stream("notifications", &n.Notifications, Limit{400 * day, 128 * mib}, "the record of what was notified")
	t.stream("audit", &n.Audit, Limit{400 * day, 256 * mib}, "the audit: who changed what")
	t.stream("deadletters", &n.DeadLetters, Limit{90 * day, 64 * mib}, "the messages that could not be processed")
}

// clusterKeys binds the cluster half of the table to c and sets every default there.
func clusterKeys(c *Cluster) []key {
	t := &table{scope: ScopeCluster}

	t.group = "Servers"
	t.servers("db-servers-hosts", &c.Servers, true,
		"Database servers of the cluster: host or host:port (port 3306 if left out), IPv6 in brackets.")
	t.credential("db-servers-credential", &c.User, &c.Password,
		"Database account, user:password. The scripts prove who they are with the same password.")
	t.grants("api-credentials-acl-cluster", &c.acl,
		"What users of api-credentials may do on this cluster, in place of api-credentials-acl-allow for those it names, as in dba:db-backup db-logs,guest: for two of them.")
	t.duration("monitoring-max-clock-skew", &c.MaxClockSkew, 5*time.Second, bounds[time.Duration]{min: 100 * time.Millisecond, zero: "clocks may differ"},
		"How far the clock of a database host may be from drydock's before the condition DOCK0503 (clock skew) opens.")
	t.servers("db-servers-backup-hosts", &c.BackupHosts, false,
		"Servers that backups are taken from, out of db-servers-hosts: physical ones from each of them, a logical one from the first that is up. Empty: physical ones from every server, a logical one from a replica or else the primary.")

	t.group = "Schedules"
	scheduleKeys(t, c)

	t.group = "Jobs"
	jobKeys(t, c)

	t.group = "SSH"
	sshKeys(t, &c.SSH)

	t.group = "Orchestrators"
	orchestratorKeys(t, &c.Orchestrator)

	t.group = "Tasks over SQL"
	localKeys(t, c)

	t.group = "Rolling operations"
	rollingKeys(t, &c.Rolling)
	t.group = "Reseeds"
	reseedKeys(t, c)

	t.group = "Backups"
	t.enum("backup-physical-type", &c.BackupType, "mariabackup", []string{"mariabackup", "xtrabackup"}, "Tool of the physical backup.")
	t.enum("backup-logical-type", &c.LogicalType, "mysqldump", []string{"mysqldump", "mydumper"}, "Tool of the logical backup.")
	t.text("backup-mysqldump-path", &c.Mysqldump.Path, "", "a program",
		"mysqldump or mariadb-dump on drydock's host. Empty: mariadb-dump, else mysqldump, where the shell would find it.")
	t.options("backup-mysqldump-options", &c.Mysqldump.Options, "--all-databases --single-transaction --quick --hex-blob --routines --events --triggers",
		notForMysqldump, "Options of mysqldump beside the connection and the position in the binary log, which drydock adds. Quoted as in a shell; no shell reads them.")
	t.duration("backup-mydumper-stall-timeout", &c.MydumperStall, 2*time.Minute, bounds[time.Duration]{min: time.Second},
		"A mydumper that writes nothing and uses no processor time for so long is ended and run again, up to three times: version 0.10 sometimes waits for itself for ever.")
	t.text("backup-mydumper-path", &c.Mydumper.Path, "", "a program", "mydumper on drydock's host. Empty: mydumper, where the shell would find it.")
	t.options("backup-mydumper-options", &c.Mydumper.Options, `--triggers --events --routines --regex '^(?!(mysql|sys)\.)'`,
		notForMydumper, "Options of mydumper beside the connection and the folder, which drydock adds. Quoted as in a shell; no shell reads them.")
	t.enum("compress-backups", &c.Compress, "none", []string{"none", "gzip", "zstd"},
		"Compression of backup files while they arrive. true means gzip and false none, as in replication-manager.",
		alias{"true", "gzip"}, alias{"false", "none"})
	t.enum("backup-hash", &c.BackupHash, "sha256", []string{"sha256", "blake3"}, "Hash that goes into a backup's manifest. drydock's script sends a sha256, which is compared with it; blake3 is faster, and then the sent hash is compared with nothing.")
	t.freeSpace("backup-min-size", &c.BackupMinSize, 0, "A backup of fewer bytes, as its tool sent them, fails and is kept aside.")
	t.ratio("backup-min-size-ratio", &c.BackupMinRatio, 0.25,
		"A backup smaller than this part of the median of the last seven good ones of its server and tool fails and is kept aside. "+
			"Lower it while data was removed on purpose.")
	t.recipients("backup-encrypt-recipients", &c.EncryptRecipients,
		"Public keys that backups are encrypted for with age, as in age1...; any one of their private keys reads them. Empty: not encrypted.")
	t.text("backup-encrypt-identity", &c.EncryptIdentity, "", "a file with private keys of age",
		"What a receiver reads encrypted backups with to send them to a server (reseed). Backups are taken without it.")
	t.duration("backup-max-age", &c.BackupMaxAge, 0, bounds[time.Duration]{min: time.Second, zero: "never overdue"},
		"How old the cluster's newest proven backup may become before the condition DOCK0201 (backup overdue) opens.")

	t.group = "Binary logs"
	binlogKeys(t, &c.Binlogs)

	t.group = "Archive"
	t.schedule("scheduler-backup-prune", &c.Prune, "0 30 12 * * *",
		"Delete the backups on the receivers that the backup-keep keys let go of. Never the last good or the last restored one.")
	drillKeys(t, &c.Drill)
	archiveKeys(t, &c.Archive)

	t.group = "Notifications"
	t.schedule("scheduler-alert-disable", &c.AlertDisable, "0 0 0 * * 0-4", "Begin a quiet time: nothing about the cluster is notified.")
	t.duration("scheduler-alert-disable-time", &c.AlertDisableTime, time.Hour, bounds[time.Duration]{min: time.Second},
		"How long a quiet time lasts. What is still open at its end is notified then.")
	t.secret("alert-ping-url", &c.PingURL,
		"URL pinged when a job succeeds, with /fail behind its path when it fails and /start when it begins (Healthchecks and alike). {cluster}, {task} and {server} in it are replaced.")
	return t.keys
}

// scheduleKeys adds what decides when tasks fire.
func scheduleKeys(t *table, c *Cluster) {
	t.boolean("monitoring-scheduler", &c.Scheduler, false, "Main switch of the cluster's schedules. Off: nothing fires by itself.")
	t.timezone("scheduler-timezone", &c.Timezone, time.Local, "Time zone of the cluster's cron specs.")
	t.enum("scheduler-catch-up", &c.CatchUp, "last", []string{"none", "last", "all"},
		"Which of the ticks that fell due while drydock was down are run afterwards.")
	t.duration("scheduler-max-lateness", &c.MaxLateness, time.Hour, bounds[time.Duration]{min: time.Second},
		"A tick later than this counts as missed.")
	t.windows("maintenance-windows", &c.Windows,
		"When scheduled jobs may begin, in scheduler-timezone. Empty: at any time. A run by hand is not bound to it.")
	t.enum("maintenance-window-policy", &c.WindowPolicy, "skip", []string{"skip", "wait"},
		"What becomes of a tick outside the windows, in a blackout or during a hold: recorded as skipped, or queued until the cluster opens.")
	t.number("scheduler-max-concurrent-backups", &c.MaxBackups, 0, bounds[int]{min: 0, max: 10_000}, "a number, 0 = no limit",
		"How many backups of the cluster may run at a time; the others wait in the queue.")
	t.duration("scheduler-splay", &c.Splay, 0, bounds[time.Duration]{min: time.Second, zero: "all at once"},
		"Spreads the jobs of a tick: each server begins after a delay of its own, always the same, below this.")
	t.schedule("scheduler-db-servers-logs", &c.Logs, "0 0 */6 * * *", "Fetch the log files of every server.")
	t.choices("scheduler-db-servers-logs-tasks", &c.LogsTasks, []string{"errorlog", "slowquery"},
		[]string{"errorlog", "slowquery", "auditlog", "sqlerrorlog"}, "Which logs scheduler-db-servers-logs fetches.")
	t.schedule("scheduler-db-servers-physical-backup", &c.PhysicalBackup, "0 0 1 * * *", "Take a physical backup.")
	t.schedule("scheduler-db-servers-logical-backup", &c.LogicalBackup, "0 0 1 * * *",
		"Take a logical backup of one server of the cluster, chosen when it runs (docs/backups.md).")
	t.schedule("scheduler-db-servers-optimize", &c.Optimize, "0 0 3 * * 0", "Optimize the tables of every server.")
	t.schedule("scheduler-db-servers-analyze", &c.Analyze, "0 0 4 * * 0", "Analyze the tables of every server.")
	t.schedule("scheduler-db-servers-checksum", &c.Checksum, "0 30 5 * * 0",
		"Compare the tables of the primary with those of its replicas.")
	t.schedule("scheduler-db-servers-logs-table-rotate", &c.LogsTableRotate, "0 0 */6 * * *",
		"Rotate mysql.general_log and mysql.slow_log of every server.")
	t.schedule("scheduler-db-servers-schema-monitor", &c.SchemaMonitor, "0 0 5 * * *",
		"Read which tables every server has, and report what changed.")
}

// localKeys adds what concerns the tasks that drydock does itself.
func localKeys(t *table, c *Cluster) {
	t.execRemote("scheduler-jobs-exec-remote", &c.ExecRemote,
		"Tasks that the script runs, out of those that either it or drydock can do; drydock does the others. "+
			"Empty: each where it runs by default (optimize: script). Tasks that only one of them can do stay there, named or not.")
	t.number("scheduler-db-servers-logs-table-keep", &c.LogsTableKeep, 12, bounds[int]{min: 0, max: 999}, "0 to 999, 0 = truncate",
		"Rotated copies of each log table that are kept.")
	t.duration("maintenance-max-lag", &c.MaxLag, 30*time.Second, bounds[time.Duration]{min: time.Second, zero: "no limit"},
		"Work on tables pauses while a running replica of the cluster lags more than this.")
	t.number("maintenance-max-load", &c.MaxLoad, 50, bounds[int]{min: 0, max: 1_000_000}, "threads, 0 = no limit",
		"Work on tables pauses while Threads_running of the server exceeds this.")
	t.duration("maintenance-max-pause", &c.MaxPause, 2*time.Hour, bounds[time.Duration]{min: time.Second},
		"How long work on tables may pause at a stretch; then the job ends as an error, so that the next one gets the server.")
	t.duration("maintenance-lock-timeout", &c.LockTimeout, 5*time.Second, bounds[time.Duration]{min: time.Second},
		"How long a statement on a table may wait for its metadata lock, with everybody else queued behind it.")
}

// reseedKeys adds what restores need beside a backup.
func reseedKeys(t *table, c *Cluster) {
	t.login("replication-credential", &c.ReplicationUser, &c.ReplicationPassword,
		"Account that a reseeded server replicates with if it did not replicate before. One that did keeps its own.")
	t.text("backup-mysqlclient-path", &c.ClientTool, "", "a program",
		"mariadb or mysql on drydock's host. Empty: mariadb, else mysql, where the shell would find it.")
	t.text("backup-myloader-path", &c.Myloader.Path, "", "a program", "myloader on drydock's host. Empty: myloader, where the shell would find it.")
	t.options("backup-myloader-options", &c.Myloader.Options, "", notForMyloader,
		"Options of myloader beside the connection and the folder, which drydock adds. Quoted as in a shell; no shell reads them.")
}

// jobKeys adds how jobs reach the database hosts and how long they may take.
func jobKeys(t *table, c *Cluster) {
	t.enum("scheduler-jobs-mode", &c.JobsMode, "sql", []string{"sql", "api"},
		"How jobs reach the scripts: rows in replication_manager_schema.jobs, or the REST API without any SQL.")
	t.boolean("api-jobs-accept-secret", &c.AcceptSecret, false,
		"In api mode, let the encrypted password serve in place of a token, for clients that send none.")
	t.duration("api-require-fresh-login", &c.FreshLogin, 0, bounds[time.Duration]{zero: "off", max: 15 * time.Minute},
		"Take a sealed identity (secret-login) only once, and only when its time is within this of drydock's clock, as in 2m. "+
			"Scripts that send neither time nor nonce are refused.")
	t.duration("scheduler-jobs-lease", &c.Lease, 10*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long a running job may give no sign of life before it is halted.")
	t.duration("scheduler-jobs-pickup-timeout", &c.PickupTimeout, time.Hour, bounds[time.Duration]{min: time.Second},
		"How long a job may wait for a script to take it before it expires.")
	t.duration("scheduler-jobs-claim-timeout", &c.ClaimTimeout, 2*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long a claimed job may show nothing before it is offered again.")
	t.duration("scheduler-jobs-check-timeout", &c.CheckTimeout, time.Minute, bounds[time.Duration]{min: time.Second},
		"How long the checks after a job may take before it fails.")
	t.number("scheduler-jobs-retry", &c.Retry, 0, bounds[int]{min: 0, max: 10}, "0 to 10", "How often a job that was halted, failed or expired is tried again.")
	t.enum("scheduler-jobs-log-level", &c.JobsLogLevel, "INFO", []string{"DEBUG", "INFO", "WARN", "ERROR"},
		"Least level of the log lines that the scripts send.")
	t.number("scheduler-db-servers-log-batch-size", &c.LogBatchSize, 5, bounds[int]{min: 1, max: 1000}, "1 to 1000 lines",
		"Log lines that drydock's own script sends per call; what has piled up meanwhile goes out in larger calls.")
	t.ports("scheduler-db-servers-receiver-ports", &c.ReceiverPorts, []int{4444},
		"Ports on the database hosts that drydock sends to; a list is spread over the servers.")
}

// rollingKeys adds what concerns the operations that take one server of a cluster after the other.
func rollingKeys(t *table, r *Rolling) {
	t.schedule("scheduler-rolling-restart", &r.Restart, "0 30 11 * * *", "Restart the servers one after the other: the replicas, then the primary.")
	t.schedule("scheduler-rolling-reprov", &r.Reprov, "0 30 10 * * 5", "Reprovision and seed the replicas one after the other; never the primary.")
	t.text("rolling-pre-script", &r.PreScript, "", "an executable file",
		"Runs on drydock's host before each server's turn; another exit status than 0 ends the operation. See rolling.md.")
	t.text("rolling-post-script", &r.PostScript, "", "an executable file", "Runs after each server's turn, as rolling-pre-script does.")
	t.duration("rolling-script-timeout", &r.ScriptTimeout, 10*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long such a script may run; then it is ended, and the operation with it.")
	t.duration("rolling-gate-timeout", &r.GateTimeout, 10*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long a server may take after its turn until it is as well as before; then the operation ends as an error.")
	t.duration("rolling-wait-timeout", &r.WaitTimeout, time.Hour, bounds[time.Duration]{min: time.Second},
		"How long an operation waits for jobs of the cluster that run; then it is skipped, or ends as an error when it had begun.")
	t.boolean("rolling-primary-read-only", &r.PrimaryReadOnly, false,
		"Make the primary read-only before its restart and wait for the transactions that have written; undone afterwards.")
	t.duration("rolling-drain-timeout", &r.DrainTimeout, 30*time.Second, bounds[time.Duration]{min: time.Second},
		"How long those transactions may take; then the operation ends as an error.")
	t.enum("rolling-reprov-seed", &r.Seed, "reseedlogicalmaster", []string{"reseedlogicalmaster", "reseedlogical"},
		"Task that fills a server after it was reprovisioned: from the primary, or from the newest logical backup.")
}

// binlogKeys adds the archive of binary logs.
func binlogKeys(t *table, b *Binlogs) {
	t.boolean("backup-binlogs", &b.Enabled, false, "Archive the binary log of the cluster's primary while it is written (docs/binlogs.md).")
	t.duration("backup-binlogs-flush", &b.Flush, time.Second, bounds[time.Duration]{min: 50 * time.Millisecond},
		"How long what was received of the binary log may wait before it is on disk. A loss of both machines costs that much.")
	t.number("backup-binlogs-server-id", &b.ServerID, 0, bounds[int]{min: 0, max: 1<<32 - 1}, "a number, 0 = made of the names of cluster and receiver",
		"The server_id that a receiver asks for the binary log with. No replica of the cluster may have it, and no other receiver.")
}

// DrillMemory is what a drill may use where nothing else is said, in bytes.
const DrillMemory = 256 * mib

// drillKeys adds how backups are restored for a trial.
func drillKeys(t *table, d *Drill) {
	t.schedule("scheduler-backup-drill", &d.Schedule, "0 30 4 * * *",
		"Restore one backup of the cluster into a scratch server and look through it (docs/proof.md).")
	t.text("backup-drill-scratch", &d.Scratch, "", "a folder on the receiver's machine",
		"Where drills work; an encrypted backup lies there in clear meanwhile. Empty: drills in monitoring-datadir.")
	t.size("backup-drill-memory", &d.Memory, DrillMemory, "Memory for the pools of a drill: of preparing, and of the scratch server.")
	t.boolean("backup-drill-compare", &d.Compare, true,
		"A drill looks for every table that the server had before and after the backup. False where backups leave tables out on purpose.")
	t.duration("backup-drill-max-age", &d.MaxAge, 14*24*time.Hour, bounds[time.Duration]{min: time.Second, zero: "never overdue"},
		"With scheduler-backup-drill: how long a server may have backups of which none was shown to restore.")
}

// archiveKeys adds the archive of backups in a repository of restic.
func archiveKeys(t *table, a *Archive) {
	t.boolean("backup-restic", &a.Enabled, false, "Archive every backup with restic, once it is proven and has its name.")
	t.text("backup-restic-binary-path", &a.Binary, "restic", "a program", "Restic on the receiver's machine, 0.14 or newer.", notEmpty)
	t.text("backup-restic-repository", &a.Repository, "", "a repository as restic spells it",
		"Where the archive is. Empty: the folder archive/CLUSTER of monitoring-datadir, which is no second place. "+
			"Receivers on several machines need one that all of them reach.")
	t.secret("backup-restic-password", &a.Password, "Password of the repository, which is encrypted with it. Lost, the archive is lost.")
	t.boolean("backup-restic-aws", &a.AWS, false, "The repository is in S3: hand the two keys below to restic.")
	t.secret("backup-restic-aws-access-key-id", &a.AWSKey, "Access key of S3.")
	t.secret("backup-restic-aws-access-secret", &a.AWSSecret, "Secret of the access key of S3.")
	t.words("backup-restic-additional-args", &a.Args, "list of flags, as in --cacert=/etc/ca.pem,-o,s3.connections=10",
		"Global flags for every call of restic. They can be seen in the list of processes: no secrets here.")
	t.duration("backup-restic-timeout", &a.Timeout, 24*time.Hour, bounds[time.Duration]{min: time.Second},
		"How long one archive, prune or check may take, waiting for others at the repository included.")
	t.number("backup-restic-limit-upload", &a.Upload, 0, bounds[int]{min: 0, max: 1 << 30}, "KiB/s, 0 = no limit", "Bandwidth to the repository.")
	t.number("backup-restic-limit-download", &a.Download, 0, bounds[int]{min: 0, max: 1 << 30}, "KiB/s, 0 = no limit", "Bandwidth from the repository.")
	keep := func(what string, p *int, def int) {
		t.number("backup-keep-"+what, p, def, bounds[int]{min: 0, max: 100_000}, "a number",
			"Backups and archives of each server and task that the prunes keep: the newest of so many "+keepUnits[what]+".")
	}
	keep("last", &a.KeepLast, 1)
	keep("hourly", &a.KeepHourly, 0)
	keep("daily", &a.KeepDaily, 7)
	keep("weekly", &a.KeepWeekly, 4)
	keep("monthly", &a.KeepMonthly, 12)
	keep("yearly", &a.KeepYearly, 0)
	t.schedule("scheduler-backup-restic-prune", &a.Prune, "0 0 12 * * *",
		"Forget the archives that the backup-keep keys let go of, and free their space.")
	t.schedule("scheduler-backup-restic-check", &a.Check, "0 0 14 * * 0", "Check the repository for damage.")
	t.text("backup-restic-check-subset", &a.CheckSubset, "", "as in 5%, 1/7 or 10G",
		"How much of the data the check reads back. Empty: structure only.", emptyOr(subset))
}

// keepUnits are the periods of the backup-keep keys, of each of which the newest stays.
var keepUnits = map[string]string{
	"last": "backups, whenever they were made", "hourly": "hours", "daily": "days", "weekly": "weeks", "monthly": "months", "yearly": "years",
}

// sshKeys adds how the script is run over SSH.
func sshKeys(t *table, s *SSH) {
	t.schedule("scheduler-jobs-ssh", &s.Schedule, "0 * * * * *",
		"Run the script on every server's host over SSH, instead of by a cron or a container there.")
	t.duration("scheduler-jobs-ssh-timeout", &s.Timeout, 24*time.Hour, bounds[time.Duration]{min: time.Second},
		"How long one SSH session may last, the jobs it started included, before it is ended.")
	t.boolean("onpremise-ssh", &s.OnPremise, false, "Permit drydock to log in to the database hosts over SSH.")
	t.number("onpremise-ssh-port", &s.Port, 22, bounds[int]{min: 1, max: 65535}, "a port", "Port of the database hosts' SSH servers.")
	t.login("onpremise-ssh-credential", &s.User, &s.Password, "Account on the database hosts. Without a password the key alone is used.")
	t.text("onpremise-ssh-private-key", &s.Key, "", "a private key file without a passphrase", "Key that onpremise-ssh-credential logs in with.")
	t.text("onpremise-ssh-known-hosts", &s.KnownHosts, "", "a known_hosts file of OpenSSH",
		"Keys of the database hosts; a host that is not in it is refused. Empty: ~/.ssh/known_hosts of the user that runs drydock.")
	t.text("onpremise-ssh-db-job-script", &s.Script, "", "a bash script", "Script to run over SSH in place of the built-in one.")
}

// orchestratorKeys adds how the service of a server is stopped and started.
func orchestratorKeys(t *table, o *Orchestrator) {
	t.enum("prov-orchestrator", &o.Kind, "none", []string{"none", "onpremise", "local", "script", "opensvc", "kube", "slapos"},
		"Who stops and starts a server when drydock does it: nobody, systemctl over SSH, commands or scripts on this host. "+
			"opensvc, kube and slapos are not built yet: they are refused when they are needed.", alias{"", "none"})
	t.duration("prov-orchestrator-timeout", &o.Timeout, 10*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long one command or script of the orchestrator may take before it is ended.")
	t.duration("prov-orchestrator-wait", &o.Wait, 2*time.Minute, bounds[time.Duration]{min: time.Second},
		"How long a server may take to answer again after a start, or to fall silent after a stop.")
	script := func(name string, p *string, what string) { t.text(name, p, "", "a file", what) }
	t.text("onpremise-ssh-db-unit", &o.Unit, "mariadb", "a systemd unit", "Unit of the database service on the hosts.", unitName)
	t.boolean("onpremise-ssh-sudo", &o.Sudo, false, "Call systemctl by sudo -n.")
	script("onpremise-ssh-stop-db-script", &o.OnPremise.Stop, "Bash script here that stops the server, run on its host in place of systemctl stop.")
	script("onpremise-ssh-start-db-script", &o.OnPremise.Start, "The same for start.")
	script("onpremise-ssh-restart-db-script", &o.OnPremise.Restart, "The same for restart. Empty: the two scripts above where they are set.")
	script("onpremise-ssh-reprov-db-script", &o.OnPremise.Bootstrap, "Bash script here that makes the server anew, run on its host.")
	command := func(name string, p *string, what string) { t.text(name, p, "", "a command", what) }
	command("local-db-stop-command", &o.Local.Stop, "Command on this host that stops the server. It is cut into words as a shell does, and no shell runs it.")
	command("local-db-start-command", &o.Local.Start, "The same for start.")
	command("local-db-restart-command", &o.Local.Restart, "The same for restart. Empty: stop, then start.")
	command("local-db-reprovision-command", &o.Local.Bootstrap, "Command on this host that makes the server anew.")
	script("prov-db-stop-script", &o.Script.Stop, "Program on this host that stops the server.")
	script("prov-db-start-script", &o.Script.Start, "The same for start.")
	script("prov-db-restart-script", &o.Script.Restart, "The same for restart. Empty: stop, then start.")
	script("prov-db-cleanup-script", &o.Script.Cleanup, "Program on this host that removes the server, the first half of a reprovisioning.")
	script("prov-db-bootstrap-script", &o.Script.Bootstrap, "Program on this host that makes the server anew, the second half.")
}
