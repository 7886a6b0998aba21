package config

import (
	"slices"
	"strings"
)

// later are the switches of maintenance.txt that a later version will have. Off they do no harm; on they are an
// error, because a schedule that never runs without a word is worse than a refused start.
var later = map[string]string{
	"scheduler-db-servers-receiver-use-ssl": "TLS on the stream ports",
}

// foreign are keys of replication-manager that drydock has no use for: names, or prefixes ending in "-". They are
// passed over, so that one file can serve both programs.
var foreign = foreignNames()

// foreignKeys are the same by why there is no use for them.
var foreignKeys = []struct {
	why   string
	names []string
}{
	{"topology, failover and replication: drydock never changes who is primary", []string{
		"failover-", "switchover-", "check-", "force-", "autorejoin", "autorejoin-", "autoseed",
		"replication-active-", "replication-delayed", "replication-dynamic-", "replication-error-", "replication-master-",
		"replication-multi-", "replication-multisource-", "replication-restart-", "replication-source-", "replication-use-ssl",
		"multi-master", "multi-master-", "multi-tier-slave", "topology-", "arbitration-", "prefered-master", "interactive",
		"db-servers-prefered-master", "db-servers-ignored-hosts", "db-servers-ignored-readonly", "db-servers-delayed-hosts",
		"db-servers-delayed-time", "db-servers-locality", "db-servers-binary-path", "db-servers-state-change-script",
		"db-servers-connect-timeout", "db-servers-read-timeout", "db-servers-tls-", "delay-stat-", "checksum-",
	}},
	{"proxies and service discovery are none of drydock's business", []string{
		"haproxy", "haproxy-", "maxscale", "maxscale-", "proxysql", "proxysql-", "proxyjanitor", "proxyjanitor-",
		"shardproxy", "shardproxy-", "mdbshardproxy", "mdbshardproxy-", "spider", "spider-", "sphinx", "sphinx-", "myproxy",
		"myproxy-", "extproxy", "extproxy-", "mysqlrouter", "mysqlrouter-", "proxy-servers-", "registry-", "consul",
	}},
	{"provisioning, other orchestrators, secret stores and benches are not drydock's", []string{
		"onpremise-ssh-start-proxy-script", "prov-", "opensvc-", "kube-", "slapos-", "local-", "vault-", "git-", "cloud18", "cloud18-", "tunnel-", "sysbench-", "test",
	}},
	{"monitoring beyond maintenance, and notification in replication-manager's way; docs/alerts.md has drydock's", []string{
		"graphite-", "monitoring-ignore-", "monitoring-save-config", "monitoring-schema-change", "monitoring-schema-change-",
		"monitoring-config-", "monitoring-confdir", "monitoring-sharedir", "monitoring-basedir", "monitoring-socket",
		"monitoring-tenant", "monitoring-capture", "monitoring-capture-", "monitoring-queries", "monitoring-processlist",
		"monitoring-variable-diff", "monitoring-innodb-status", "monitoring-pause", "monitoring-wait-retry",
		"monitoring-write-heartbeat", "monitoring-write-heartbeat-", "monitoring-key-path", "monitoring-long-query-",
		"monitoring-performance-schema", "monitoring-disk-usage", "monitoring-disk-usage-", "monitoring-error-log-length",
		"mail-", "slack-", "teams-", "pushover-", "alert-slack-channel", "alert-slack-user", "alert-teams-", "alert-pushover-", "verbose", "title", "keyfile",
	}},
	{"about replication-manager's own server and log", []string{
		"http-auth", "http-bind-address", "http-root", "http-session-lifetime", "http-refresh-interval", "http-use-react",
		"api-bind", "api-public-url", "api-token-timeout", "api-oauth-", "api-credentials-external",
		"api-credentials-acl-discard", "api-https-bind", "log-file", "log-syslog", "log-rotate-", "log-sql-in-monitoring",
		"log-heartbeat", "log-failed-election", "log-task-level", "log-backup-stream", "log-backup-stream-",
	}},
	{"drydock's backups do without it, or it comes with a later version", []string{
		"backup-keep-until-valid", "backup-restic-purge-", "backup-restic-save-", "backup-restic-run-", "backup-restic-storage-policy",
		"backup-restic-local-repository", "backup-lockddl", "backup-binlogs-keep", "backup-binlog-",
		"backup-logical-dump-", "backup-logical-load-", "backup-mydumper-regex", "backup-mysqlbinlog-",
		"backup-load-script", "backup-save-script", "backup-disk-threshold-", "backup-streaming",
		"backup-streaming-", "backup-mbstream-", "compress-backups-", "scheduler-sla-rotate-cron",
	}},
}

func foreignNames() (names []string) {
	for _, f := range foreignKeys {
		names = append(names, f.names...)
	}
	return names
}

// listed reports whether name is in list, itself or by a prefix ending in "-".
func listed(name string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		return name == entry || strings.HasSuffix(entry, "-") && strings.HasPrefix(name, entry)
	})
}

// sortOutUnknown judges every written key that is not in the table, and every key in the wrong scope.
func (l *loader) sortOutUnknown() {
	known := map[string]Scope{}
	for _, k := range Keys() {
		known[k.Name] = k.Scope
	}
	for _, s := range append([]*section{l.def}, l.clusters...) {
		for name, v := range s.values {
			scope, ok := known[name]
			switch {
			case !ok:
				l.judge(name, v)
			case scope == ScopeGlobal && s != l.def:
				l.problem(v.pos, name, "concerns the whole process, not cluster %q; move it to [Default]", s.name)
			}
		}
	}
	l.judgeEnv()
}

// judge decides between not built yet, foreign and misspelt.
func (l *loader) judge(name string, v value) {
	if what, ok := later[name]; ok {
		if on, err := parseBool(v.text()); on || err != nil {
			l.problem(v.pos, name, "asks for %s, which is not built yet; set it to false or remove it", what)
		}
		return
	}
	near, distance := nearest(name)
	// A prefix must not swallow a slip of the pen.
	if listed(name, foreign) && (slices.Contains(foreign, name) || distance > 2) {
		l.ignore(v.pos, name, "is a key of replication-manager that drydock has no use for")
		return
	}
	l.problem(v.pos, clip(name), "is unknown; the nearest known key is %q", near)
}

// judgeEnv warns of DRYDOCK_ variables that look like a misspelt key. Others may be anything: names behind env:, or
// what Kubernetes sets for a service called drydock.
func (l *loader) judgeEnv() {
	for name := range l.env {
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok || l.envUsed[name] {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if near, distance := nearest(key); distance == 1 || distance == 2 {
			k, _ := lookup(near)
			l.warn(pos{env: name}, "", "is no key of drydock; the nearest is %s", k.EnvName())
		}
	}
}

// nearest returns the known key with the least edit distance to name, the first of the table among equals.
func nearest(name string) (string, int) {
	name = clip(name)
	best, least := "", -1
	try := func(k string) {
		if d := distance(name, k); least < 0 || d < least {
			best, least = k, d
		}
	}
	for _, k := range Keys() {
		try(k.Name)
	}
	return best, least
}

// distance is the number of bytes to insert, delete or replace to make b of a, a swap of neighbours counting once.
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
