// Package config turns drydock's TOML files and environment into one checked [Config].
//
// It owns the table of keys (keys.go): name, scope, type, default, meaning. Reading, the DRYDOCK_ environment
// variables, docs/configuration.md and [Explain] all derive from that table. It opens no sockets and starts nothing;
// whoever needs a value gets it from package app, which fills each service's own Config.
package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"drydock/window"
)

// Config is one complete, checked configuration.
type Config struct {
	// File is the path given to Load, or the name given to Parse.
	File string
	// Global holds what exists once per process ([Default] and the environment only).
	Global Global
	// Clusters are in the order of their first section; names are unique without regard to case.
	Clusters []Cluster
	// Ignored lists keys of replication-manager that were passed over, with the reason.
	Ignored []Note
	// Warnings lists what is legal but probably not meant.
	Warnings []Note
}

// Cluster returns the cluster of that exact name; false when there is none.
func (c *Config) Cluster(name string) (Cluster, bool) {
	for _, cl := range c.Clusters {
		if cl.Name == name {
			return cl, true
		}
	}
	return Cluster{}, false
}

// Global is what exists once per process. Each field names its key; docs/configuration.md has the meanings.
type Global struct {
	Datadir        string // monitoring-datadir, absolute or relative to the working directory
	Address        string // monitoring-address, "" = see AdvertisedAddress
	BindAddress    string // bind-address
	HTTPServer     bool   // http-server
	HTTPPort       int    // http-port, 0 = any free port
	APIPort        int    // api-port, 0 = any free port
	MaxConnections int    // http-max-connections
	APICert        string // api-https-cert, "" together with APIKey = self-signed
	APIKey         string // api-https-key
	Users          []User // api-credentials joined with api-credentials-acl-allow
	// TrustedProxies is api-trusted-proxies.
	TrustedProxies []netip.Prefix

	SecureConfig  bool          // api-credentials-secure-config
	TokenLifetime time.Duration // api-token-lifetime
	Include       string        // include, resolved to a path; "" = none
	LogLevel      slog.Level    // log-level
	LogFormat     string        // log-format: "text" or "json"
	Ticker        time.Duration // monitoring-ticker

	SSHSessions int // scheduler-jobs-ssh-max-sessions

	Notify Notify // alert-* and mail-*

	NATS     NATS     // nats-*
	Receiver Receiver // receiver-* and scheduler-db-servers-sender-ports
}

// AdvertisedAddress is the address the database hosts are told to stream to: monitoring-address, or else the
// machine's first non-loopback address (IPv4 before IPv6). It fails when the machine has none.
func (g Global) AdvertisedAddress() (string, error) {
	if g.Address != "" {
		return g.Address, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("list network addresses: %w", err)
	}
	var v6 string
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if p.Addr().Is4() {
			return p.Addr().String(), nil
		}
		if v6 == "" {
			v6 = p.Addr().String()
		}
	}
	if v6 == "" {
		return "", fmt.Errorf("find a non-loopback address: none; set monitoring-address")
	}
	return v6, nil
}

// NATS holds the nats-* keys.
type NATS struct {
	Listen   string // nats-listen, host:port of the embedded server
	User     string // nats-user
	Password Secret // nats-password, "" = generated on first start
	URL      string // nats-url, comma separated; "" = embedded server
	Replicas int    // nats-replicas: 1, 3 or 5
	TLSCert  string // nats-tls-cert, PEM file
	TLSKey   string // nats-tls-key, PEM file
	TLSCA    string // nats-tls-ca, PEM file
	MaxStore int64  // nats-max-store, bytes

	Tasks         Limit // nats-tasks-*
	Jobs          Limit // nats-jobs-*
	Logs          Limit // nats-logs-*
	Alerts        Limit // nats-alerts-*
	Notifications Limit // nats-notifications-*
	Audit         Limit // nats-audit-*
	DeadLetters   Limit // nats-deadletters-*
}

// Limit bounds one stream.
type Limit struct {
	MaxAge   time.Duration // 0 = no limit by age
	MaxBytes int64         // always positive
}

// Receiver holds what the receiver pool needs.
type Receiver struct {
	Name          string         // receiver-name, "" = the name kept in the data folder
	Ports         []int          // scheduler-db-servers-sender-ports in the order given; empty = any free port
	AllowFrom     []netip.Prefix // receiver-allow-from
	AcceptTimeout time.Duration  // receiver-accept-timeout
	IdleTimeout   time.Duration  // receiver-idle-timeout
	DrainTimeout  time.Duration  // receiver-drain-timeout, 0 = cut at once
	Reserve       int64          // disk-reserve, bytes; 0 = none
}

// User may call the REST API. Grants are grant words such as "cluster" or "db" (wire.md section 6): a word covers
// every grant that starts with it.
type User struct {
	Name     string
	Password Secret
	Grants   []string
}

// Cluster is one section of the file, with [Default] and the built-in defaults filled in.
type Cluster struct {
	Name        string   // the section's name: letters, digits, "-", "_"
	Servers     []Server // db-servers-hosts, unique, at least one
	BackupHosts []Server // db-servers-backup-hosts, a subset of Servers; empty = any
	User        string   // user part of db-servers-credential
	Password    Secret   // password part of db-servers-credential, never empty

	// Grants are those of users on this cluster, in place of what [User] has: api-credentials-acl-cluster. nil: there are none.
	Grants map[string][]string
	acl    []User

	AcceptSecret bool          // api-jobs-accept-secret
	FreshLogin   time.Duration // api-require-fresh-login, 0 = off

	Scheduler   bool           // monitoring-scheduler: nothing fires without it
	Timezone    *time.Location // scheduler-timezone
	CatchUp     string         // scheduler-catch-up: "none", "last" or "all"
	MaxLateness time.Duration  // scheduler-max-lateness

	Windows      window.Weekly // maintenance-windows, zero = always open
	WindowPolicy string        // maintenance-window-policy: "skip" or "wait"
	MaxBackups   int           // scheduler-max-concurrent-backups, 0 = no limit
	Splay        time.Duration // scheduler-splay, 0 = none

	Logs           Schedule // scheduler-db-servers-logs and -cron
	LogsTasks      []string // scheduler-db-servers-logs-tasks, task names of wire.md section 3
	PhysicalBackup Schedule // scheduler-db-servers-physical-backup and -cron
	LogicalBackup  Schedule // scheduler-db-servers-logical-backup and -cron
	Optimize       Schedule // scheduler-db-servers-optimize and -cron

	Analyze         Schedule // scheduler-db-servers-analyze and -cron
	Checksum        Schedule // scheduler-db-servers-checksum and -cron
	LogsTableRotate Schedule // scheduler-db-servers-logs-table-rotate and -cron
	SchemaMonitor   Schedule // scheduler-db-servers-schema-monitor and -cron

	ExecRemote    []string      // scheduler-jobs-exec-remote, nil = unset; empty and not nil = none
	LogsTableKeep int           // scheduler-db-servers-logs-table-keep, 0 = truncate
	MaxLag        time.Duration // maintenance-max-lag, 0 = no limit
	MaxLoad       int           // maintenance-max-load, threads; 0 = no limit
	LockTimeout   time.Duration // maintenance-lock-timeout
	MaxPause      time.Duration // maintenance-max-pause

	JobsMode      string        // scheduler-jobs-mode: "sql" or "api"
	Lease         time.Duration // scheduler-jobs-lease
	PickupTimeout time.Duration // scheduler-jobs-pickup-timeout
	ClaimTimeout  time.Duration // scheduler-jobs-claim-timeout
	CheckTimeout  time.Duration // scheduler-jobs-check-timeout
	Retry         int           // scheduler-jobs-retry: further attempts after the first
	JobsLogLevel  string        // scheduler-jobs-log-level: "DEBUG", "INFO", "WARN" or "ERROR"
	LogBatchSize  int           // scheduler-db-servers-log-batch-size, lines
	ReceiverPorts []int         // scheduler-db-servers-receiver-ports, ports on the database hosts

	SSH SSH // scheduler-jobs-ssh* and onpremise-ssh*

	Rolling Rolling // scheduler-rolling-* and rolling-*

	Orchestrator Orchestrator // prov-orchestrator and what it uses

	BackupType    string        // backup-physical-type: "mariabackup" or "xtrabackup"
	LogicalType   string        // backup-logical-type: "mysqldump" or "mydumper"
	Mysqldump     Tool          // backup-mysqldump-*
	Mydumper      Tool          // backup-mydumper-path and -options
	MydumperStall time.Duration // backup-mydumper-stall-timeout
	Compress      string        // compress-backups: "none", "gzip" or "zstd"
	BackupHash    string        // backup-hash: "blake3" or "sha256"
	// EncryptRecipients are the age public keys of backup-encrypt-recipients, none = not encrypted.
	EncryptRecipients []string
	BackupMinSize     int64   // backup-min-size, bytes
	BackupMinRatio    float64 // backup-min-size-ratio, 0 = any size
	EncryptIdentity   string  // backup-encrypt-identity, resolved to a path; "" = none

	ReplicationUser     string // user part of replication-credential, "" = unset
	ReplicationPassword Secret // password part of replication-credential
	ClientTool          string // backup-mysqlclient-path
	Myloader            Tool   // backup-myloader-*

	BackupMaxAge time.Duration // backup-max-age, 0 = a backup is never overdue
	MaxClockSkew time.Duration // monitoring-max-clock-skew, 0 = clocks may differ

	Prune   Schedule // scheduler-backup-prune and -cron
	Binlogs Binlogs  // backup-binlogs*
	Drill   Drill    // backup-drill-* and scheduler-backup-drill
	Archive Archive  // backup-restic*, backup-keep-* and scheduler-backup-restic-*

	AlertDisable     Schedule      // scheduler-alert-disable and -cron: when quiet times begin
	AlertDisableTime time.Duration // scheduler-alert-disable-time, how long each lasts
	PingURL          Secret        // alert-ping-url, "" = none
}

// Binlogs is the archive of a cluster's binary logs.
type Binlogs struct {
	Enabled  bool          // backup-binlogs
	Flush    time.Duration // backup-binlogs-flush
	ServerID int           // backup-binlogs-server-id, 0 = made of the names of cluster and receiver
}

// Drill is how backups are shown to restore.
type Drill struct {
	Schedule               // scheduler-backup-drill and -cron
	Scratch  string        // backup-drill-scratch, resolved to a path; "" = the folder drills of monitoring-datadir
	Memory   int64         // backup-drill-memory, bytes
	Compare  bool          // backup-drill-compare
	MaxAge   time.Duration // backup-drill-max-age, 0 = never overdue
}

// Archive is the archive of a cluster's backups. When it is enabled there is a password.
type Archive struct {
	Enabled    bool
	Binary     string // backup-restic-binary-path
	Repository string // backup-restic-repository, "" = the folder archive/NAME of monitoring-datadir
	Password   Secret // backup-restic-password
	AWS        bool   // backup-restic-aws
	AWSKey     Secret // backup-restic-aws-access-key-id
	AWSSecret  Secret // backup-restic-aws-access-secret
	Args       []string
	Timeout    time.Duration
	Upload     int // KiB/s, 0 = no limit
	Download   int // KiB/s, 0 = no limit

	KeepLast, KeepHourly, KeepDaily, KeepWeekly, KeepMonthly, KeepYearly int // backup-keep-*

	Prune       Schedule // scheduler-backup-restic-prune and -cron
	Check       Schedule // scheduler-backup-restic-check and -cron
	CheckSubset string   // backup-restic-check-subset, "" = structure only
}

// SSH is how the script is run over SSH. With the schedule on, OnPremise is too, and there is a user with a key, a
// password or both.
type SSH struct {
	Schedule                 // scheduler-jobs-ssh and -cron
	Timeout    time.Duration // scheduler-jobs-ssh-timeout, of one session
	OnPremise  bool          // onpremise-ssh
	Port       int           // onpremise-ssh-port
	User       string        // user part of onpremise-ssh-credential
	Password   Secret        // password part of onpremise-ssh-credential, "" = key only
	Key        string        // onpremise-ssh-private-key, resolved to a path; "" = password only
	KnownHosts string        // onpremise-ssh-known-hosts, resolved to a path; "" = ~/.ssh/known_hosts
	Script     string        // onpremise-ssh-db-job-script, resolved to a path; "" = the built-in script
}

// Rolling is how the servers of a cluster are restarted or reprovisioned one after the other.
type Rolling struct {
	Restart         Schedule      // scheduler-rolling-restart and -cron
	Reprov          Schedule      // scheduler-rolling-reprov and -cron
	PreScript       string        // rolling-pre-script, resolved to a path; "" = none
	PostScript      string        // rolling-post-script, likewise
	ScriptTimeout   time.Duration // rolling-script-timeout
	GateTimeout     time.Duration // rolling-gate-timeout
	WaitTimeout     time.Duration // rolling-wait-timeout
	PrimaryReadOnly bool          // rolling-primary-read-only
	DrainTimeout    time.Duration // rolling-drain-timeout
	Seed            string        // rolling-reprov-seed, a task
}

// Orchestrator is what stops, starts, restarts and reprovisions the service of a server. Scripts are resolved to paths.
type Orchestrator struct {
	Kind    string        // prov-orchestrator: "", "onpremise", "local", "script", or one that is not built yet
	Timeout time.Duration // prov-orchestrator-timeout, of one action
	Wait    time.Duration // prov-orchestrator-wait, for the server afterwards

	Unit string // onpremise-ssh-db-unit
	Sudo bool   // onpremise-ssh-sudo

	OnPremise ServiceActions // onpremise-ssh-*-db-script, files here; Bootstrap is the reprovisioning
	Local     ServiceActions // local-db-*-command; Bootstrap is the reprovisioning
	Script    ServiceActions // prov-db-*-script
}

// ServiceActions are the user's own commands or script files; "" = not set.
type ServiceActions struct {
	Stop, Start, Restart string
	Cleanup, Bootstrap   string
}

// Tool is a program on drydock's own host.
type Tool struct {
	Path    string   // "" = found by its name
	Options []string // one argument each; none of them holds a password or says where the server is
}

// Schedule is one scheduled task: its switch and its cron spec of 5 or 6 fields, valid even when the switch is off.
type Schedule struct {
	Enabled bool
	Cron    string
}

// Server is one database server. Host is lower case: a DNS name, an IPv4 address, or an IPv6 address without
// brackets; it holds no path separator, so it may become part of a folder name or a subject.
type Server struct {
	Host string
	Port int
}

// String is "host:port", with brackets around IPv6.
func (s Server) String() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Note is one remark on the configuration. It never holds a secret.
type Note struct {
	// Pos is "file:line", the file alone, or the name of a DRYDOCK_ variable.
	Pos string
	// Key is the key it is about, "" for a whole file or section.
	Key string
	// Text says what is wrong and, after a semicolon, what to do.
	Text string
}

// String is `file:line: key "x": text`.
func (n Note) String() string {
	if n.Key == "" {
		return n.Pos + ": " + n.Text
	}
	return fmt.Sprintf("%s: key %q: %s", n.Pos, n.Key, n.Text)
}

// Problem is a [Note] that keeps the configuration from being used. Load and Parse return all of them in one
// errors.Join, in the order of the files and lines.
type Problem struct{ Note }

// Error is the note's text.
func (p Problem) Error() string { return p.String() }
