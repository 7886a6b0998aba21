// Package bus is drydock's message bus: the embedded NATS server or the connection to an external one, and the one
// place where every stream, subject, bucket and message type is named.
//
// It owns how things are written (compare-and-swap appends, batches) and read (followers, durable workers). What the
// messages mean is the business of package job and of the services. See DESIGN.md beside this file.
package bus

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The streams (architecture.md section 2).
const (
	// StreamTasks is the tick ledger. Payload [Tick]. Written by schedulers and by gateways (manual runs), consumed by
	// the schedulers' fan-out. Append-only, every write compare-and-swap on its literal subject.
	StreamTasks = "DRYDOCK_TASKS"
	// StreamJobs is the truth about jobs. Payload [JobEvent] with the whole job. Written by package store only,
	// compare-and-swap on the literal subject of the (cluster, server, task).
	StreamJobs = "DRYDOCK_JOBS"
	// StreamLogs holds decrypted log batches. Payload [LogBatch]. Written by gateways, in atomic batches.
	StreamLogs = "DRYDOCK_LOGS"
	// StreamAlerts holds conditions opened and closed. Payload [Alert]. Written by the evaluators, compare-and-swap on the
	// literal subject of the condition: the last message there says whether it is open.
	StreamAlerts = "DRYDOCK_ALERTS"
	// StreamNotifications holds every try to tell a destination about conditions. Payload [Notification]. Written by the one
	// notifier that holds the lease, compare-and-swap on the literal subject of the destination: the intent before anything
	// is sent, the outcome after it.
	StreamNotifications = "DRYDOCK_NOTIFICATIONS"
	// StreamAudit holds what people and programs changed or tried to. Payload [Audit]. Written by gateways and by the
	// commands, through package store. Append-only.
	StreamAudit = "DRYDOCK_AUDIT"
	// StreamDeadletters captures JetStream's max-deliveries and terminated advisories.
	StreamDeadletters = "DRYDOCK_DEADLETTERS"
)

// The buckets.
const (
	// BucketState is what serverstate.json held: `<cluster>.<server>.<task>` with the last and recent jobs. A
	// projection of StreamJobs; it may be deleted at any time.
	BucketState = "drydock_serverstate"
	// BucketCatalog holds one backup manifest per `<cluster>.<server>.<backup id>`.
	BucketCatalog = "drydock_catalog"
	// BucketUsers holds one document per user of the API: those that were added at run time whole, of those of the
	// configuration what changes at run time (tokens, ended sessions). No projection.
	BucketUsers = "drydock_users"
	// BucketKeys holds what gateways share and nobody else may see: the key that signs tokens, digests of the database passwords, the users of the
	// bus that only read, and the key that signs manifests.
	BucketKeys = "drydock_keys"
	// BucketControl holds what operators ordered and schedulers agreed on: holds and blackouts, schedules that are switched
	// off, acknowledged conditions, and which backups have a place under scheduler-max-concurrent-backups. No projection: what is acknowledged here is on disk.
	BucketControl = "drydock_control"
	// BucketLogins remembers for an hour which sealed identities were used: the nonces of database hosts, hashed, without a
	// value. Written by gateways where api-require-fresh-login is set, never twice under a key.
	BucketLogins = "drydock_logins"
	// BucketBinlogs holds what is archived of binary logs: one signed description per segment, `<cluster>.<server>.<segment>`.
	// It can be filled again from the manifests beside the segments.
	BucketBinlogs = "drydock_binlogs"
)

// StreamCatalog is the stream behind BucketCatalog, for those who follow it.
const StreamCatalog = "KV_" + BucketCatalog

// DurableFanout is the durable consumer on StreamTasks that all schedulers share.
const DurableFanout = "scheduler-fanout"

// DurablePings is the durable consumer on StreamJobs that the notifiers share for alert-ping-url.
const DurablePings = "alert-pings"

// SubjectNotifyTest has the notifier that leads send a test message ([NotifyTestRequest], answers [Notification]); served
// by the micro service NotifierService.
const (
	SubjectNotifyTest = "drydock.notifier.test"
	NotifierService   = "drydock-notifier"
)

// ReceiverService is the name of the receivers' micro service, as `nats micro ls` shows it.
const ReceiverService = "drydock-receiver"

// KeeperService is the name of the micro service that keeps the backup folder of a receiver in order.
const KeeperService = "drydock-keeper"

// SubjectNext asks a scheduler for the schedules and their next ticks; answers [NextReply], packed (Content-Encoding: gzip) when it is
// longer than 900 KiB. Served by the micro service SchedulerService.
const (
	SubjectNext      = "drydock.scheduler.next"
	SchedulerService = "drydock-scheduler"
)

// SubjectReceiverOpen reserves a port on any receiver ([OpenRequest], [OpenReply]); receivers share it as a queue group.
const SubjectReceiverOpen = "drydock.receiver.open"

// Wildcards for those who listen to everything.
const (
	AllTasks         = "drydock.task.>"
	AllJobs          = "drydock.job.>"
	AllLogs          = "drydock.log.>"
	AllAlerts        = "drydock.alert.>"
	AllAudit         = "drydock.audit.>"
	AllNotifications = "drydock.notification.>"
	AllProgress      = "drydock.progress.>"
	AllCatalog       = "$KV." + BucketCatalog + ".>" // in StreamCatalog
)

// AllControl is where BucketControl changes.
const AllControl = "$KV." + BucketControl + ".>"

// NoCluster stands where a cluster's token would, for what concerns the whole fleet.
const NoCluster = "_"

// NoServer stands where a server's tokens would, for what concerns a whole cluster.
const NoServer = "_"

// TaskSubject is `drydock.task.<cluster>.<task>`: the ledger of one schedule.
func TaskSubject(cluster, task string) string {
	return "drydock.task." + token(cluster, clusterSafe) + "." + task
}

// JobSubject is `drydock.job.<cluster>.<host>.<port>.<task>`: the slot of at most one live job. Work on a whole cluster
// (the zero [job.Server]) has `_.0` for host and port, as a server called `_` cannot ([ServerToken] makes `=5F` of it).
func JobSubject(cluster, host string, port int, task string) string {
	return "drydock.job." + slot(cluster, host, port) + "." + task
}

// LogSubject is `drydock.log.<cluster>.<host>.<port>.<task>.<level>`.
func LogSubject(cluster, host string, port int, task, level string) string {
	return "drydock.log." + slot(cluster, host, port) + "." + task + "." + level
}

// ProgressSubject is `drydock.progress.<cluster>.<host>.<port>.<task>`, core NATS, not stored.
func ProgressSubject(cluster, host string, port int, task string) string {
	return "drydock.progress." + slot(cluster, host, port) + "." + task
}

// ReceiverSubject is `drydock.receiver.<instance>.<verb>`: a request to one receiver.
func ReceiverSubject(instance, verb string) string {
	return "drydock.receiver." + token(instance, clusterSafe) + "." + verb
}

// StateKey is `<cluster>.<host>.<port>.<name>` in BucketState; names that begin with `_` are no tasks.
func StateKey(cluster, host string, port int, name string) string {
	return slot(cluster, host, port) + "." + name
}

// CatalogKey is `<cluster>.<host>.<port>.<backup id>` in BucketCatalog.
func CatalogKey(cluster, host string, port int, id string) string {
	return slot(cluster, host, port) + "." + id
}

// BinlogKey is `<cluster>.<host>.<port>.<segment>` in BucketBinlogs.
func BinlogKey(cluster, host string, port int, segment string) string {
	segment = token(segment, clusterSafe)
	return slot(cluster, host, port) + "." + segment
}

// FileToken is a text as the name of a file: letters, digits, `-`, `_` and dots stay, but for a dot at its beginning.
func FileToken(s string) string {
	out := token(s, func(c byte) bool { return hostSafe(c) || c == '_' })
	if strings.HasPrefix(out, ".") {
		out = "=2E" + out[1:]
	}
	return out
}

// BinlogFilter finds all of a cluster in BucketBinlogs.
func BinlogFilter(cluster string) string { return token(cluster, clusterSafe) + ".>" }

// ControlKey is `<cluster>.<name>` in BucketControl, or the name alone for the whole fleet (empty cluster).
func ControlKey(cluster, name string) string {
	if cluster == "" {
		return name
	}
	return token(cluster, clusterSafe) + "." + name
}

func slot(cluster, host string, port int) string {
	if host == "" {
		return token(cluster, clusterSafe) + "." + NoServer + ".0"
	}
	return token(cluster, clusterSafe) + "." + ServerToken(host, port)
}

// ServerToken is host and port as two tokens: lower case; letters, digits and `-` stay, `.` becomes `_`, anything else
// `=HH`. 10.0.1.5 port 3306 is `10_0_1_5.3306`. [ParseServerToken] is the inverse (up to letter case).
func ServerToken(host string, port int) string {
	return hostToken(host) + "." + strconv.Itoa(port)
}

func hostToken(host string) string {
	return strings.ReplaceAll(token(strings.ToLower(host), hostSafe), ".", "_")
}

// ErrToken is returned for a text that no encoder here wrote.
var ErrToken = errors.New("not a server token")

// ParseServerToken decodes what [ServerToken] wrote. Errors: [ErrToken].
func ParseServerToken(s string) (host string, port int, err error) {
	h, p, ok := strings.Cut(s, ".")
	if port, err = strconv.Atoi(p); !ok || err != nil || strconv.Itoa(port) != p {
		return "", 0, fmt.Errorf("%w: %q", ErrToken, s)
	}
	var b strings.Builder
	for i := 0; i < len(h); i++ {
		switch c := h[i]; {
		case c == '_':
			b.WriteByte('.')
		case c != '=':
			b.WriteByte(c)
		default:
			if i+3 > len(h) {
				return "", 0, fmt.Errorf("%w: %q", ErrToken, s)
			}
			v, err := strconv.ParseUint(h[i+1:i+3], 16, 8)
			if err != nil {
				return "", 0, fmt.Errorf("%w: %q", ErrToken, s)
			}
			b.WriteByte(byte(v))
			i += 2
		}
	}
	if host = b.String(); hostToken(host) != h {
		return "", 0, fmt.Errorf("%w: %q", ErrToken, s)
	}
	return host, port, nil
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
}
func hostSafe(c byte) bool    { return alnum(c) || c == '.' }
func clusterSafe(c byte) bool { return alnum(c) || c == '_' }

// token writes every byte that is not safe as `=HH`, so that a name never becomes a wildcard or two tokens.
func token(s string, safe func(byte) bool) string {
	first := 0
	for first < len(s) && safe(s[first]) {
		first++
	}
	if first == len(s) {
		return s // as nearly every name
	}
	var b strings.Builder
	b.WriteString(s[:first])
	for i := first; i < len(s); i++ {
		if safe(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "=%02X", s[i])
		}
	}
	return b.String()
}

// JobFilter is the subject filter for the jobs of a cluster, a server, a task; empty (port 0) stands for all.
func JobFilter(cluster, host string, port int, task string) string {
	c, h, p, t := "*", "*", "*", "*"
	if cluster != "" {
		c = token(cluster, clusterSafe)
	}
	if host != "" {
		h = hostToken(host)
	}
	if port != 0 {
		p = strconv.Itoa(port)
	}
	if task != "" {
		t = token(task, clusterSafe)
	}
	return "drydock.job." + c + "." + h + "." + p + "." + t
}

// TaskFilter is the subject filter for the ledgers of a cluster and a task; empty stands for all.
func TaskFilter(cluster, task string) string {
	c, t := "*", "*"
	if cluster != "" {
		c = token(cluster, clusterSafe)
	}
	if task != "" {
		t = token(task, clusterSafe)
	}
	return "drydock.task." + c + "." + t
}

// AlertSubject is `drydock.alert.<cluster>.<host>.<port>.<name>`, with [NoServer] in place of host and port when host is
// empty: the condition concerns the whole cluster. name is the code, and for a code that each task of a server has for
// itself `<code>-<task>`.
func AlertSubject(cluster, host string, port int, name string) string {
	server := NoServer
	if host != "" {
		server = ServerToken(host, port)
	}
	return "drydock.alert." + token(cluster, clusterSafe) + "." + server + "." + token(name, clusterSafe)
}

// AlertFilter is the subject filter for the conditions of a cluster; empty stands for all.
func AlertFilter(cluster string) string {
	if cluster == "" {
		return AllAlerts
	}
	return "drydock.alert." + token(cluster, clusterSafe) + ".>"
}

// NotificationSubject is `drydock.notification.<destination>`: the tries of one destination, one at a time.
func NotificationSubject(destination string) string {
	return "drydock.notification." + token(destination, clusterSafe)
}

// Condition is the name of a condition: its subject without what all of them begin with, as in
// `prod.10_0_1_5.3306.DOCK0101-mariabackup`.
func Condition(subject string) string { return strings.TrimPrefix(subject, "drydock.alert.") }

// AuditSubject is `drydock.audit.<cluster>.<verb>`, with [NoCluster] for what concerns the fleet (empty cluster).
func AuditSubject(cluster, verb string) string {
	return "drydock.audit." + auditCluster(cluster) + "." + token(verb, clusterSafe)
}

// AuditFilter is the subject filter for the acts on a cluster and of a verb; empty stands for all.
func AuditFilter(cluster, verb string) string {
	c, v := "*", "*"
	if cluster != "" {
		c = auditCluster(cluster)
	}
	if verb != "" {
		v = token(verb, clusterSafe)
	}
	return "drydock.audit." + c + "." + v
}

// auditCluster keeps a cluster called `_` apart from the fleet.
func auditCluster(cluster string) string {
	switch cluster {
	case "":
		return NoCluster
	case NoCluster:
		return "=5F"
	}
	return token(cluster, clusterSafe)
}

// UserKey is the key of a user in BucketUsers.
func UserKey(name string) string { return token(name, clusterSafe) }

// BucketStream is the stream that a bucket is, and the subject of all its keys.
func BucketStream(bucket string) (stream, subject string) {
	return "KV_" + bucket, "$KV." + bucket + ".>"
}
