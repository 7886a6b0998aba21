package bus

import (
	"strings"
	"time"

	"drydock/job"
)

// The type names of the messages. The version changes when a reader of the old one would misunderstand the new one.
const (
	TypeJob      = "drydock.v1.job"
	TypeTick     = "drydock.v1.tick"
	TypeLog      = "drydock.v1.log"
	TypeProgress = "drydock.v1.progress"
	TypeAlert    = "drydock.v1.alert"
	TypeAudit    = "drydock.v1.audit"

	TypeNotification = "drydock.v1.notification"
)

// JobEvent is one transition of a job on StreamJobs. The state stands first so that a person reading `nats sub` sees it.
type JobEvent struct {
	State   job.State `json:"state"`
	Prev    job.State `json:"prev,omitempty"`
	Event   job.Event `json:"event"`
	Reason  string    `json:"reason,omitempty"`
	Actor   string    `json:"actor,omitempty"`
	Attempt int       `json:"attempt"`
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Job     job.Job   `json:"job"`
}

// Outcome is what was decided about a tick.
type Outcome string

// The outcomes. Fired and Late start jobs, the others record why none was started.
const (
	// Fired: started in time, or by hand.
	Fired Outcome = "fired"
	// Late: started after its time, because drydock was down when it was due (scheduler-catch-up).
	Late Outcome = "late"
	// Skipped: due, and not run on the servers named, with the reason.
	Skipped Outcome = "skipped"
	// Missed: fell due while no scheduler ran, and was not caught up.
	Missed Outcome = "missed"
	// Armed: the schedule was switched on or its spec changed; ticks count from here.
	Armed Outcome = "armed"
	// Disarmed: the schedule was switched off.
	Disarmed Outcome = "disarmed"
)

// Starts reports whether the outcome starts jobs.
func (o Outcome) Starts() bool { return o == Fired || o == Late }

// Tick is one entry of the ledger on StreamTasks.
type Tick struct {
	Outcome Outcome      `json:"outcome"`
	Due     time.Time    `json:"due"` // when the schedule asked for it, UTC; the time of the request for manual runs
	Cluster string       `json:"cluster"`
	Task    string       `json:"task"`
	Servers []job.Server `json:"servers,omitempty"` // the servers meant; empty for all that the task's schedule targets
	// Args go to every job that the tick starts ([job.Job.Args]).
	Args   map[string]string `json:"args,omitempty"`
	Reason string            `json:"reason,omitempty"`
	// Gate is what decided that nothing is started, of a skipped or missed tick; Reason says the same for people. Empty in
	// entries that an earlier drydock wrote.
	Gate    job.Gate    `json:"gate,omitempty"`
	Trigger job.Trigger `json:"trigger"`
	// Lateness is how long after Due the decision was made, in seconds.
	Lateness float64 `json:"lateness_s"`
	// Count is how many ticks this entry stands for when a long absence is recorded as one entry (missed, and skipped of a
	// schedule that was switched off meanwhile); they fell due from Due up to Until. 0 means one.
	Count int       `json:"count,omitempty"`
	Until time.Time `json:"until,omitzero"`
	// Cursor is up to when this schedule has been decided. Every entry carries it on, whatever the entry is about.
	Cursor time.Time `json:"cursor,omitzero"`
	Spec   string    `json:"spec,omitempty"` // cron spec and zone in force, empty when disarmed
	Zone   string    `json:"zone,omitempty"`
	Actor  string    `json:"actor,omitempty"` // scheduler or gateway that wrote it
	Type   string    `json:"type"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
}

// SkipID is the id of the entry that says that a tick started nothing on a server; the zero Server stands for the cluster.
func SkipID(tick string, srv job.Server) string {
	if srv == (job.Server{}) {
		return "skip-" + tick + "-" + NoServer
	}
	return "skip-" + tick + "-" + ServerToken(srv.Host, srv.Port)
}

// SkipOf is the id of the tick that the entry says to have started nothing, and where: the zero Server for the cluster. ok
// is false for an entry of another kind.
func (t Tick) SkipOf() (tick string, srv job.Server, ok bool) {
	if t.Outcome != Skipped {
		return "", job.Server{}, false
	}
	for _, srv := range append([]job.Server{{}}, t.Servers...) {
		if tick, ok := strings.CutPrefix(strings.TrimSuffix(t.ID, SkipID("", srv)[len("skip-"):]), "skip-"); ok && SkipID(tick, srv) == t.ID {
			return tick, srv, true
		}
	}
	return "", job.Server{}, false
}

// LogBatch is one decrypted batch of log lines on StreamLogs.
type LogBatch struct {
	Level   string     `json:"level"`
	Lines   []string   `json:"lines"`
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
	JobID   string     `json:"job_id,omitempty"` // empty for the client's own channels
	Attempt int        `json:"attempt,omitempty"`
	Type    string     `json:"type"`
	ID      string     `json:"id"`
	Time    time.Time  `json:"time"`
}

// Sign says what a [Progress] message is a sign of.
type Sign string

// The signs of life of a running job (architecture.md section 3).
const (
	SignBytes     Sign = "bytes"     // the receiver took or sent bytes
	SignLog       Sign = "log"       // a log batch arrived
	SignRow       Sign = "row"       // the job's row changed
	SignHeartbeat Sign = "heartbeat" // drydock's own script called
)

// Progress is a sign of life, at most one a second per job and kind, not stored.
type Progress struct {
	Sign    Sign       `json:"sign"`
	Bytes   int64      `json:"bytes,omitempty"`   // moved so far
	Rate    float64    `json:"rate,omitempty"`    // bytes per second over the last interval
	Percent float64    `json:"percent,omitempty"` // of the whole, 0 to 100, where the tool tells
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Task    string     `json:"task"`
	JobID   string     `json:"job_id"`
	Attempt int        `json:"attempt"`
	Type    string     `json:"type"`
	Time    time.Time  `json:"time"`
}

// OpenRequest asks a receiver to reserve a port for the stream of one attempt of a job. Repeating it for the same
// attempt answers the same reservation.
type OpenRequest struct {
	Key     job.Key `json:"key"`
	JobID   string  `json:"job_id"`
	Attempt int     `json:"attempt"`
	// Check opens a one-shot reservation that only hashes what comes (receive-jobs-check); no job stands behind it.
	Check bool `json:"check,omitempty"`
	// From are further IP addresses that the stream may come from, beside those of the server: drydock's own, when it does
	// the job itself and sends what its tools make.
	From []string `json:"from,omitempty"`
}

// OpenReply is the reservation.
type OpenReply struct {
	Receiver string `json:"receiver"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
}

// CloseRequest ends the reservation of an attempt, if it is still open, and removes what was not published. An open
// stream is cut: the sender sees a reset connection.
type CloseRequest struct {
	JobID   string `json:"job_id"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
}

// CommitRequest asks the receiver that holds a complete stream to publish it: rename and manifest, or append to the
// log. It may be repeated.
type CommitRequest struct {
	Job    job.Job     `json:"job"`
	Checks []job.Check `json:"checks"`
}

// CommitReply names what was published.
type CommitReply struct {
	Path   string `json:"path"`
	Backup string `json:"backup,omitempty"` // id in the catalogue
}

// CheckReply is what came through a [OpenRequest.Check] reservation.
type CheckReply struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// SendRequest asks the receiver that holds a backup ([store.Manifest.Receiver]) to stream it to an address over TCP,
// decompressed and as the tool made it. The answer comes at once and says that the sending begins; what became of it
// stands in the job's Stream, written by the receiver compare-and-swap, because a transfer lasts for hours and an answer
// may be lost: Opened before the first byte; at the end Complete with Bytes and the SHA-256 of what was sent (Algo
// sha256), after the receiver compared it with the manifest; Err and Closed when it broke. Meanwhile there is [Progress].
// It ends with the job: a job that is not live any more has its stream reset.
//
// The connection is ended in order (FIN) only after every byte was read, and the manifest's hash held: a sender that
// must fail resets it. The listener should answer the end by closing its side. A request may be repeated for the same
// attempt; one with another address or nonce is refused then.
//
// The streams to the script are not asked for: a receiver begins them by itself when a job of a task with flow out,
// that is not drydock's own, is waiting and its [job.ArgReceiver] is this receiver.
type SendRequest struct {
	Key     job.Key    `json:"key"` // of the job that wants the backup; the backup is of the same cluster
	JobID   string     `json:"job_id"`
	Attempt int        `json:"attempt"`
	From    job.Server `json:"from"`   // whose backup it is
	Backup  string     `json:"backup"` // id in the catalogue
	Address string     `json:"address,omitempty"`
	// Nonce, when set, has the stream begin with [SendPreamble]: a listener of drydock itself knows by it that the
	// stream is the one it asked for. 16 to 64 letters and digits.
	Nonce string `json:"nonce,omitempty"`
	// Probe only asks whether the backup could be sent: its file is here and has the size it should have. No job is
	// needed for it.
	Probe bool `json:"probe,omitempty"`
}

// SendReply says what will come. Errors: [CodeGone] when the backup or its file is not here, [CodeRefused],
// [CodeExhausted] when the receiver sends as many backups as it may.
type SendReply struct {
	Size int64  `json:"size"` // bytes, without the preamble
	Algo string `json:"algo"` // of Hash
	Hash string `json:"hash"` // of the bytes, as in the manifest
}

// SendPreamble is the line that a stream with a nonce begins with. It counts neither as bytes nor for the hash.
func SendPreamble(nonce string) string { return "drydock-backup " + nonce + "\n" }

// The verbs of [ReceiverSubject].
const (
	VerbOpen   = "open"
	VerbClose  = "close"
	VerbCommit = "commit"
	VerbCheck  = "check" // waits for the end of a Check stream
	VerbSend   = "send"  // streams a backup out ([SendRequest], [SendReply])
	VerbPlan   = "plan"  // what a prune would do now ([PlanRequest], [PlanReply])
	VerbPrune  = "prune" // deletes what a plan named ([PruneRequest], [PruneReply])
	VerbDisk   = "disk"  // how full the disk is, and when it will be ([DiskReply])
	VerbPorts  = "ports" // how many ports of the pool are in use ([PortsReply])
)

// PlanRequest asks a receiver what it would keep and delete of the backups of a cluster that it holds. Nothing is changed.
type PlanRequest struct {
	Cluster string `json:"cluster"`
	From    int    `json:"from,omitempty"` // [PlanReply.Next] of the page before
}

// PlanReply is a page of a plan.
type PlanReply struct {
	Items []PlanItem `json:"items"`
	Next  int        `json:"next,omitempty"` // where the next page begins; 0 when there is none
}

// PlanItem is a backup, or something that was left behind in the folder of one, and what is to become of it.
type PlanItem struct {
	Receiver string     `json:"receiver"`
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server,omitzero"`
	Task     string     `json:"task,omitempty"`
	Backup   string     `json:"backup,omitempty"` // its id; empty for what is no backup
	File     string     `json:"file,omitempty"`
	Ended    time.Time  `json:"ended,omitzero"`
	Bytes    int64      `json:"bytes"`
	Keep     bool       `json:"keep"`
	Why      []string   `json:"why"`
	// Going says that a prune that was interrupted had begun to delete it. One that is to be kept by now must be named in a
	// [PruneRequest], too: its record is taken back.
	Going bool `json:"going,omitempty"`
	// Problem says what is wrong with it, or that the receiver did not answer; empty when all is well.
	Problem string `json:"problem,omitempty"`
}

// Name is what a [PruneRequest] calls the item.
func (p PlanItem) Name() string {
	if p.Backup != "" {
		return p.Backup
	}
	return p.File
}

// PruneRequest has a receiver delete what a plan of its own named. It makes the plan anew before: what is to be kept by then
// is kept. A request may be repeated.
type PruneRequest struct {
	Cluster string   `json:"cluster"`
	Names   []string `json:"names"` // [PlanItem.Name], at most [PruneAtOnce]
	By      string   `json:"by"`    // the job
}

// PruneAtOnce is how many items one request may name: a deletion on a slow disk takes seconds.
const PruneAtOnce = 20

// PruneReply says what became of each item, in no order. What is not in it was gone already.
type PruneReply struct {
	Outcomes []PruneOutcome `json:"outcomes"`
}

// PruneOutcome is what became of one item.
type PruneOutcome struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
	Freed   int64  `json:"freed"`             // bytes
	Why     string `json:"why,omitempty"`     // why it was kept after all
	Problem string `json:"problem,omitempty"` // why it could not be deleted
}

// DiskReply is how full the disk of a receiver's backups is.
type DiskReply struct {
	Receiver string    `json:"receiver"`
	Time     time.Time `json:"time"`
	Folder   string    `json:"folder"`
	Total    int64     `json:"total"`   // bytes
	Free     int64     `json:"free"`    // bytes that drydock may write
	Reserve  int64     `json:"reserve"` // bytes of them that backups leave free (disk-reserve)
	// Full says that the disk is expected to be full within a year, FullIn in how many seconds from Time on.
	Full     bool            `json:"full"`
	FullIn   float64         `json:"full_in_s"`
	Outlook  string          `json:"outlook"` // the same for people
	Rejected []RejectedCount `json:"rejected,omitempty"`
}

// PortsReply is how many ports a receiver has in use. Total is the size of its pool, 0 when it takes any free port.
type PortsReply struct {
	Receiver string `json:"receiver"`
	Total    int    `json:"total"`
	InUse    int    `json:"in_use"`
}

// RejectedCount is how many files of a server lie in its folder "rejected".
type RejectedCount struct {
	Cluster string     `json:"cluster"`
	Server  job.Server `json:"server"`
	Files   int        `json:"files"`
	Bytes   int64      `json:"bytes"`
}

// The error codes of the receiver service, beside NATS's own.
const (
	CodeExhausted = "EXHAUSTED" // every port of the pool is in use
	CodeNoSpace   = "NOSPACE"   // the backup would not fit on the receiver's disk
	CodeGone      = "GONE"      // no such reservation or file here
	CodeRefused   = "REFUSED"   // the request is not allowed or not possible
)

// NextReply lists the schedules, as `drydock.scheduler.next` answers.
type NextReply struct {
	Schedules []ScheduleInfo `json:"schedules"`
}

// ScheduleInfo is one schedule and when it comes next.
type ScheduleInfo struct {
	Cluster string `json:"cluster"`
	Task    string `json:"task"`
	Enabled bool   `json:"enabled"`
	Why     string `json:"why,omitempty"` // why it is off
	// Refused says why the configuration makes the task impossible: every tick is skipped then.
	Refused string       `json:"refused,omitempty"`
	Spec    string       `json:"spec,omitempty"`
	Zone    string       `json:"zone,omitempty"`
	Servers []job.Server `json:"servers"`
	Cursor  time.Time    `json:"cursor,omitzero"` // decided up to here
	Next    []time.Time  `json:"next"`            // the next five, UTC
	// Windows is maintenance-windows, empty when there are none, and Policy what becomes of a tick outside.
	Windows string `json:"windows,omitempty"`
	Policy  string `json:"policy,omitempty"`
	// Closed says why nothing that is scheduled would begin now; Opens when that ends, zero when nobody knows.
	Closed string    `json:"closed,omitempty"`
	Opens  time.Time `json:"opens,omitzero"`
	// Outside lists those of Next that fall outside the windows or into a blackout.
	Outside []time.Time `json:"outside,omitempty"`
	// Barred lists those of Next that start nothing as things stand, or whose jobs will wait, and why.
	Barred []Barred `json:"barred,omitempty"`
	// Switch, when there is one, is who switched the schedule off: every tick is skipped until it is switched on again.
	Switch *Switch `json:"switch,omitempty"`
}

// Bar is what bars a tick to come; false when nothing does.
func (s ScheduleInfo) Bar(at time.Time) (Barred, bool) {
	for _, b := range s.Barred {
		if b.Due.Equal(at) {
			return b, true
		}
	}
	return Barred{}, false
}

// Barred is a tick to come that will start nothing, or whose jobs will wait, unless something changes before.
type Barred struct {
	Due    time.Time `json:"due"`
	Gate   job.Gate  `json:"gate"`
	Waits  bool      `json:"waits"` // its jobs will wait; otherwise it is skipped
	Reason string    `json:"reason"`
}

// Switch is a time for which a person switched the schedule of a task off. Its calendar goes on, and each tick that falls
// due is recorded as skipped.
type Switch struct {
	Cluster string    `json:"cluster"`
	Task    string    `json:"task"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // when it was switched on again; zero while it is off
	By      string    `json:"by"`
	Note    string    `json:"note,omitempty"`
	OnBy    string    `json:"on_by,omitempty"` // who switched it on again
}

// String says it for people: "the schedule of optimize is switched off since 2026-11-22 20:00:00 UTC, by alice: bug 17".
func (s Switch) String() string {
	const layout = "2006-01-02 15:04:05 MST"
	text := "the schedule of " + s.Task + " is switched off since " + s.From.UTC().Format(layout)
	if !s.To.IsZero() {
		text = "the schedule of " + s.Task + " was switched off from " + s.From.UTC().Format(layout) + " to " + s.To.UTC().Format(layout)
	}
	if text += ", by " + s.By; s.Note != "" {
		text += ": " + s.Note
	}
	return text
}

// SwitchedLong is how long a schedule may be switched off before it is pointed out to everybody: longer than a day, somebody
// has forgotten it.
const SwitchedLong = 24 * time.Hour

// Long reports whether the schedule has been off for long at now.
func (s Switch) Long(now time.Time) bool { return s.To.IsZero() && now.Sub(s.From) > SwitchedLong }

// AlertState says which edge of a condition an [Alert] is.
type AlertState string

// The edges.
const (
	AlertOpened AlertState = "opened"
	AlertClosed AlertState = "closed"
)

// Severity is how much a condition matters.
type Severity string

// The severities.
const (
	SeverityInfo  Severity = "info"  // worth knowing, nothing to do
	SeverityWarn  Severity = "warn"  // look at it in time
	SeverityError Severity = "error" // something that was asked for did not happen
)

// Alert is one edge of a condition on StreamAlerts. The closing one repeats what the opening one said.
type Alert struct {
	State    AlertState `json:"state"`
	Code     string     `json:"code"`
	Severity Severity   `json:"severity"`
	Cluster  string     `json:"cluster"`
	Server   job.Server `json:"server,omitzero"` // none for a condition of the whole cluster
	Task     string     `json:"task,omitempty"`
	Text     string     `json:"text"`  // for people, as it was when the condition opened
	Since    time.Time  `json:"since"` // when it began to hold, as far as the facts tell
	JobID    string     `json:"job_id,omitempty"`
	Actor    string     `json:"actor,omitempty"` // evaluator that wrote it
	Type     string     `json:"type"`
	ID       string     `json:"id"`
	Time     time.Time  `json:"time"` // of this edge
}

// TryState says what became of a try to notify.
type TryState string

// The states of a try.
const (
	// TrySending is the intent. It is on disk before anything is sent.
	TrySending TryState = "sending"
	// TrySent: the destination took it.
	TrySent TryState = "sent"
	// TryFailed: it did not, Error says why. It is tried again.
	TryFailed TryState = "failed"
	// TryUnknown: the process ended between intent and outcome. It is sent again.
	TryUnknown TryState = "unknown"
)

// ToldKind says what a destination is told of a condition.
type ToldKind string

// The kinds.
const (
	ToldOpened   ToldKind = "opened"
	ToldRepeated ToldKind = "repeated" // it still holds (alert-repeat)
	ToldResolved ToldKind = "resolved"
)

// Told is one condition in a [Notification].
type Told struct {
	Kind      ToldKind `json:"kind"`
	Condition string   `json:"condition"` // [Condition] of the subject
	Seq       uint64   `json:"seq"`       // of its edge on StreamAlerts
}

// Notification is the beginning or the end of a try to tell a destination something, on StreamNotifications. The end
// repeats what the beginning said. It holds no address and no secret of the destination.
type Notification struct {
	State       TryState `json:"state"`
	Destination string   `json:"destination"`
	// Notification is the same in every try to tell the same, so that a receiver can know a repetition by it.
	Notification string    `json:"notification"`
	Try          int       `json:"try"` // from 1, since the last success
	Test         bool      `json:"test,omitempty"`
	Told         []Told    `json:"told"`
	Title        string    `json:"title"`
	Text         string    `json:"text"`
	Error        string    `json:"error,omitempty"`
	Actor        string    `json:"actor,omitempty"`
	Type         string    `json:"type"`
	ID           string    `json:"id"`
	Time         time.Time `json:"time"`
}

// NotifyTestRequest asks for a test message.
type NotifyTestRequest struct {
	Destination string `json:"destination"`
	By          string `json:"by"`
}

// AuditOutcome says what became of an act.
type AuditOutcome string

// The outcomes.
const (
	AuditDone    AuditOutcome = "done"
	AuditRefused AuditOutcome = "refused" // not granted, not possible, or wrong credentials
	AuditFailed  AuditOutcome = "failed"  // it broke; whether something was changed is open
)

// The ways in.
const (
	ViaSession = "session" // a token of POST /api/login
	ViaToken   = "token"   // a named API token
	ViaCommand = "command" // a command on a machine that has the configuration
)

// Audit is one act on StreamAudit that changed something or was meant to. It never holds a secret.
type Audit struct {
	Verb    string       `json:"verb"` // what was done, for example run, cancel, hold, user-add
	Outcome AuditOutcome `json:"outcome"`
	User    string       `json:"user,omitempty"` // who; of a command the account on that machine; of a login who it claims to be
	Via     string       `json:"via,omitempty"`
	Token   string       `json:"token,omitempty"`   // id of the API token or of the session
	Address string       `json:"address,omitempty"` // where it came from: an IP address, or of a command the machine's name
	Cluster string       `json:"cluster,omitempty"` // empty: the fleet
	Server  string       `json:"server,omitempty"`  // HOST:PORT
	Target  string       `json:"target,omitempty"`  // the task, job, user, backup or whatever the verb is about
	Detail  string       `json:"detail,omitempty"`  // what exactly, for example the grants
	Reason  string       `json:"reason,omitempty"`  // why, as whoever acted gave it
	Error   string       `json:"error,omitempty"`   // why it was refused or failed
	Jobs    []string     `json:"jobs,omitempty"`    // ids of the jobs that it starts
	// Omitted is how many refused acts before this one were left out, so that a flood does not push the rest out.
	Omitted int       `json:"omitted,omitempty"`
	Actor   string    `json:"actor"` // gateway or command that wrote it
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
}
