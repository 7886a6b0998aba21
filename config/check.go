package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// graphitePort belongs to Graphite in this ecosystem (wire.md section 6).
const graphitePort = 10002

// checkGlobal looks at what only several global keys together can tell.
func (l *loader) checkGlobal(g *Global) {
	l.checkPair("api-https-cert", g.APICert, "api-https-key", g.APIKey)
	l.checkPair("nats-tls-cert", g.NATS.TLSCert, "nats-tls-key", g.NATS.TLSKey)
	l.checkPorts(g)
	l.checkBus(&g.NATS)
}

func (l *loader) checkPair(certKey, cert, keyKey, key string) {
	switch {
	case cert != "" && key == "":
		l.problem(l.where(certKey, nil), certKey, "is set without %s; set both or none", keyKey)
	case cert == "" && key != "":
		l.problem(l.where(keyKey, nil), keyKey, "is set without %s; set both or none", certKey)
	}
}

// ownPort is a port of drydock and the key it comes from.
type ownPort struct {
	key  string
	port int
}

// ownPorts lists the ports that this configuration makes drydock listen on, apart from the pool.
func ownPorts(g *Global) []ownPort {
	ports := []ownPort{{"api-port", g.APIPort}}
	if g.HTTPServer {
		ports = append(ports, ownPort{"http-port", g.HTTPPort})
	}
	if g.NATS.URL == "" {
		_, text, _ := net.SplitHostPort(g.NATS.Listen)
		port, _ := strconv.Atoi(text) // listenAddress checked it
		ports = append(ports, ownPort{"nats-listen", port})
	}
	return slices.DeleteFunc(ports, func(p ownPort) bool { return p.port == 0 })
}

func (l *loader) checkPorts(g *Global) {
	const pool = "scheduler-db-servers-sender-ports"
	own := ownPorts(g)
	for i, p := range own {
		for _, q := range own[:i] {
			if p.port == q.port {
				l.problem(l.where(p.key, nil), p.key, "port %d is also that of %s; choose another", p.port, q.key)
			}
		}
		l.checkPrivileged(p.key, p.port)
	}
	own = append(own, ownPort{"Graphite, which shares these hosts", graphitePort})
	for _, port := range g.Receiver.Ports {
		for _, p := range own {
			if p.port == port {
				l.problem(l.where(pool, nil), pool, "port %d is that of %s; choose another", port, p.key)
			}
		}
		l.checkPrivileged(pool, port)
	}
}

func (l *loader) checkPrivileged(key string, port int) {
	if port < 1024 && !l.root {
		l.problem(l.where(key, nil), key, "port %d is below 1024 and drydock does not run as root; choose one from 1024 to 65535", port)
	}
}

func (l *loader) checkBus(n *NATS) {
	if n.Replicas%2 == 0 {
		l.problem(l.where("nats-replicas", nil), "nats-replicas", "%d copies cannot form a majority; write 1, 3 or 5", n.Replicas)
	}
	if n.URL != "" {
		return // the space and the address are the external server's
	}
	if n.Replicas > 1 {
		l.problem(l.where("nats-replicas", nil), "nats-replicas", "the embedded server keeps one copy; set nats-url or write 1")
	}
	l.checkStore(n)
	host, _, _ := net.SplitHostPort(n.Listen)
	addr, err := netip.ParseAddr(host)
	if loopback := host == "localhost" || err == nil && addr.IsLoopback(); !loopback && n.TLSCert == "" {
		l.warn(l.where("nats-listen", nil), "nats-listen", "passwords cross the network in clear; set nats-tls-cert and nats-tls-key")
	}
}

// BucketsReserve is what the buckets of the bus take of nats-max-store beside the streams, bytes. NATS reserves all of it at once, and
// refuses the first stream that does not fit, whatever is in it.
const BucketsReserve = 2160 * mib

// checkStore compares the space of the embedded server with what is reserved in it.
func (l *loader) checkStore(n *NATS) {
	const key = "nats-max-store"
	sum, parts := int64(BucketsReserve), []string(nil)
	for _, s := range []struct {
		name string
		Limit
	}{
		{"tasks", n.Tasks}, {"jobs", n.Jobs}, {"logs", n.Logs}, {"alerts", n.Alerts}, {"notifications", n.Notifications},
		{"audit", n.Audit}, {"deadletters", n.DeadLetters},
	} {
		parts = append(parts, fmt.Sprintf("nats-%s-max-bytes (%s)", s.name, formatSize(s.MaxBytes)))
		if sum += s.MaxBytes; sum < 0 { // there is no such disk
			sum = math.MaxInt64
			break
		}
	}
	if sum > n.MaxStore {
		l.problem(l.where(key, nil), key, "%s is less than the %s that are reserved: %s and %s for the buckets; raise it or lower them",
			formatSize(n.MaxStore), formatSize(sum), strings.Join(parts, ", "), formatSize(BucketsReserve))
	}
}

// checkClusters looks at each cluster as a whole and at all of them together.
func (l *loader) checkClusters(g *Global, clusters []Cluster) {
	if len(clusters) == 0 {
		l.warn(l.def.pos, "", "has no cluster; add a section such as [prod] with db-servers-hosts and db-servers-credential")
	}
	owner := map[Server]string{}
	for i, c := range clusters {
		s := l.clusters[i]
		for _, server := range c.Servers {
			if other, taken := owner[server]; taken {
				l.warn(l.where("db-servers-hosts", s), "db-servers-hosts", "server %s is also in cluster %q; its jobs would run twice", server, other)
			}
			owner[server] = c.Name
		}
		l.checkBackupHosts(c, s)
		l.checkSchedules(c, s)
		l.checkSSH(g, c, s)
		l.checkOrchestrator(c, s)
		l.checkArchive(c, s)
		l.checkPrune(c, s)
	}
	l.checkNotify(&g.Notify, clusters)
}

func (l *loader) checkBackupHosts(c Cluster, s *section) {
	const key = "db-servers-backup-hosts"
	for _, server := range c.BackupHosts {
		if len(c.Servers) > 0 && !slices.Contains(c.Servers, server) {
			l.problem(l.where(key, s), key, "server %s is not in db-servers-hosts of cluster %q; add it there or remove it here", server, c.Name)
		}
	}
}

func (l *loader) checkSchedules(c Cluster, s *section) {
	for _, t := range []struct {
		key string
		Schedule
	}{
		{"scheduler-db-servers-logs", c.Logs},
		{"scheduler-db-servers-physical-backup", c.PhysicalBackup},
		{"scheduler-db-servers-logical-backup", c.LogicalBackup},
		{"scheduler-db-servers-optimize", c.Optimize},
		{"scheduler-jobs-ssh", c.SSH.Schedule},
		{"scheduler-db-servers-analyze", c.Analyze},
		{"scheduler-db-servers-checksum", c.Checksum},
		{"scheduler-db-servers-logs-table-rotate", c.LogsTableRotate},
		{"scheduler-db-servers-schema-monitor", c.SchemaMonitor},
		{"scheduler-rolling-restart", c.Rolling.Restart},
		{"scheduler-rolling-reprov", c.Rolling.Reprov},
		{"scheduler-backup-prune", c.Prune},
		{"scheduler-backup-restic-prune", c.Archive.Prune},
		{"scheduler-backup-restic-check", c.Archive.Check},
		{"scheduler-backup-drill", c.Drill.Schedule},
	} {
		if !t.Enabled {
			continue
		}
		if !c.Scheduler {
			l.warn(l.where(t.key, s), t.key, "is on but monitoring-scheduler is off, so it never fires in cluster %q", c.Name)
		}
		if spec, err := parseCron(t.Cron); err == nil && firesPerMinute(spec) > 1 {
			l.warn(l.where(t.key+"-cron", s), t.key+"-cron",
				`%q fires %d times a minute: of six fields the first is seconds; write "0 * * * * *" for every minute`, t.Cron, firesPerMinute(spec))
		}
	}
}

// checkSSH looks whether the SSH runner has all it needs.
func (l *loader) checkSSH(g *Global, c Cluster, s *section) {
	const key = "scheduler-jobs-ssh"
	if !c.SSH.Enabled {
		return
	}
	missing := func(format string, args ...any) { l.problem(l.where(key, s), key, format, args...) }
	if !c.SSH.OnPremise {
		missing("is on for cluster %q but onpremise-ssh is off; set both or none", c.Name)
	}
	switch {
	case c.SSH.User == "":
		missing("needs an account on the hosts of cluster %q; set onpremise-ssh-credential", c.Name)
	case c.SSH.Password == "" && c.SSH.Key == "":
		missing("has neither a key nor a password for the hosts of cluster %q; set onpremise-ssh-private-key, or write a password into onpremise-ssh-credential", c.Name)
	}
	if g.APIPort == 0 {
		missing("tells the scripts where the API is, so it needs a fixed port; set api-port")
	}
}

// checkOrchestrator looks whether the orchestrator has all it needs whatever it is asked for.
func (l *loader) checkOrchestrator(c Cluster, s *section) {
	const key = "prov-orchestrator"
	problem := func(format string, args ...any) { l.problem(l.where(key, s), key, format, args...) }
	o := c.Orchestrator
	switch {
	case o.Kind == "none":
	case o.Kind == "onpremise" && !c.SSH.OnPremise:
		problem("is onpremise for cluster %q but onpremise-ssh is off; set it to true", c.Name)
	case o.Kind == "onpremise" && (c.SSH.User == "" || c.SSH.Password == "" && c.SSH.Key == ""):
		problem("needs an account on the hosts of cluster %q; set onpremise-ssh-credential, and onpremise-ssh-private-key or a password in it", c.Name)
	case o.Kind == "local" && o.Local == (ServiceActions{}):
		problem("is local for cluster %q and no command is set; set local-db-stop-command and local-db-start-command", c.Name)
	case o.Kind == "script" && o.Script == (ServiceActions{}):
		problem("is script for cluster %q and no script is set; set prov-db-stop-script and prov-db-start-script", c.Name)
	}
}

// checkPrune warns of a backup folder that only grows.
func (l *loader) checkPrune(c Cluster, s *section) {
	const key = "scheduler-backup-prune"
	taken := c.Scheduler && (c.PhysicalBackup.Enabled || c.LogicalBackup.Enabled)
	keepsAll := c.Archive.KeepLast+c.Archive.KeepHourly+c.Archive.KeepDaily+c.Archive.KeepWeekly+c.Archive.KeepMonthly+c.Archive.KeepYearly == 0
	switch {
	case taken && !c.Prune.Enabled:
		l.warn(l.where(key, s), key, "is off, so the backup folder of cluster %q only grows; see what it would delete with `drydock backups prune %s`", c.Name, c.Name)
	case c.Prune.Enabled && keepsAll:
		l.warn(l.where(key, s), key, "is on but every backup-keep key is 0, so it deletes no backup of cluster %q", c.Name)
	}
}

// checkArchive looks whether the archive has all it needs, and is cleaned up.
func (l *loader) checkArchive(c Cluster, s *section) {
	a := c.Archive
	const key = "backup-restic"
	for _, t := range []struct {
		key string
		on  bool
	}{{"scheduler-backup-restic-prune", a.Prune.Enabled}, {"scheduler-backup-restic-check", a.Check.Enabled}} {
		if t.on && !a.Enabled {
			l.warn(l.where(t.key, s), t.key, "is on but %s is off, so it never fires in cluster %q", key, c.Name)
		}
	}
	if !a.Enabled {
		return
	}
	if a.Password == "" {
		l.problem(l.where(key, s), key, "needs the password of the repository of cluster %q; set backup-restic-password", c.Name)
	}
	if a.AWS && (a.AWSKey == "" || a.AWSSecret == "") {
		l.problem(l.where("backup-restic-aws", s), "backup-restic-aws",
			"needs a key and its secret; set backup-restic-aws-access-key-id and backup-restic-aws-access-secret")
	}
	if !a.Prune.Enabled {
		l.warn(l.where(key, s), key, "is on but scheduler-backup-restic-prune is off, so the archive of cluster %q only grows", c.Name)
	}
}
