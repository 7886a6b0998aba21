package job

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// Server is the address of one database server, exactly as configured.
type Server struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// String is HOST:PORT as the envelope spells it (wire.md section 2); IPv6 hosts stand without brackets there. The zero
// Server, which is the whole cluster, is `_`.
func (s Server) String() string {
	if s == (Server{}) {
		return "_"
	}
	return s.Host + ":" + strconv.Itoa(s.Port)
}

// Addr is HOST:PORT for dialing, IPv6 hosts in brackets.
func (s Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// ReceiverPort is where the script of server number index of its cluster listens for what drydock sends: the ports of
// scheduler-db-servers-receiver-ports are spread over the servers (wire.md section 5); 4444 when there are none.
func ReceiverPort(ports []int, index int) int {
	if len(ports) == 0 {
		return 4444
	}
	return ports[index%len(ports)]
}

// ErrServer is returned by [ParseServer] for a text that names no server.
var ErrServer = errors.New("not a server: want HOST or HOST:PORT, IPv6 in brackets before a port")

// ParseServer reads a server as people write it; Port is 0 when none is given. Errors: [ErrServer].
func ParseServer(s string) (Server, error) {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (strings.Count(s, ":") == 1 || strings.HasSuffix(s[:i], "]")) {
		host, port = s[:i], s[i+1:]
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return Server{}, fmt.Errorf("%w: %q", ErrServer, s)
		}
	}
	n, _ := strconv.Atoi(port) // checked above; none is 0
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if host == "" || strings.ContainsAny(host, "[]/ ") {
		return Server{}, fmt.Errorf("%w: %q", ErrServer, s)
	}
	return Server{host, n}, nil
}

// Key names the slot that holds at most one live job.
type Key struct {
	Cluster string `json:"cluster"`
	Server  Server `json:"server"`
	Task    string `json:"task"`
}

// String is for logs and messages to people.
func (k Key) String() string { return k.Cluster + "/" + k.Server.String() + "/" + k.Task }

// Trigger says what started a job.
type Trigger struct {
	Kind TriggerKind `json:"kind"`
	By   string      `json:"by,omitempty"` // user name for manual runs
	// Force lets a run by hand begin although its cluster is on hold or blacked out.
	Force bool `json:"force,omitempty"`
}

// TriggerKind is one of the ways a job starts (architecture.md section 3).
type TriggerKind string

// The trigger kinds.
const (
	Cron    TriggerKind = "cron"
	Manual  TriggerKind = "manual"
	CatchUp TriggerKind = "catch-up"
	Drill   TriggerKind = "drill"
	// Rolling is a step of a rolling operation, whose job By names.
	Rolling TriggerKind = "rolling"
)

// Scheduled reports whether a schedule asked for the job, and not a person.
func (t Trigger) Scheduled() bool { return t.Kind == Cron || t.Kind == CatchUp }

// Gate says what keeps a queued job from being offered, or a tick from starting one. The schedulers shut and open it.
type Gate string

// The gates, in the order in which a job meets them.
const (
	GateHold     Gate = "hold"     // an operator holds the cluster or the fleet
	GateBlackout Gate = "blackout" // it falls into a blackout
	GateWindow   Gate = "window"   // outside maintenance-windows
	GateRolling  Gate = "rolling"  // a rolling operation has the cluster for itself
	GateSplay    Gate = "splay"    // its delay of scheduler-splay is not over
	GateLimit    Gate = "limit"    // scheduler-max-concurrent-backups run already
)

// The gates that only a tick meets. With those above they say in the ledger why it started nothing.
const (
	GateOff      Gate = "off"           // its schedule is switched off
	GateRunning  Gate = "previous-run"  // the job of an earlier tick is still going on, or a later one came first
	GateConfig   Gate = "configuration" // no such cluster, server or task, or the configuration makes it impossible
	GateDatabase Gate = "database"      // no server is fit for it
	GateAbsence  Gate = "no-scheduler"  // none ran when it was due, or none started its jobs
	GateLateness Gate = "lateness"      // scheduler-max-lateness
	GateCatchUp  Gate = "catch-up"      // scheduler-catch-up
)

// Mode is how a job reaches the script (scheduler-jobs-mode).
type Mode string

// The dispatch modes (maintenance.txt section 6.1.8).
const (
	SQL Mode = "sql"
	API Mode = "api"
	// Local is no way to the script: drydock does the work itself, over SQL (section 6.1.8.5).
	Local Mode = "local"
	// ByReceiver is no way to the script either: a receiver does the work on its own machine.
	ByReceiver Mode = "receiver"
)

// Script reports whether the script does the job. The other modes are drydock's own work, which no client hears of.
func (m Mode) Script() bool { return m != Local && m != ByReceiver }

// Step is one transition in a job's history.
type Step struct {
	State  State     `json:"state"`
	Event  Event     `json:"event"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
	Actor  string    `json:"actor,omitempty"`
}

// MaxSteps bounds the history kept in a job; the stream DRYDOCK_JOBS keeps all of it.
const MaxSteps = 40

// Dispatch says where the job was offered and where its stream goes.
type Dispatch struct {
	Receiver string `json:"receiver,omitempty"` // receiver instance that holds the port
	Address  string `json:"address,omitempty"`  // address the database host connects to
	Port     int    `json:"port,omitempty"`     // 0: the task streams nothing
	Row      int64  `json:"row,omitempty"`      // id in replication_manager_schema.jobs; 0 in api mode
}

// Stream is what the receiver saw of the job's stream.
type Stream struct {
	Opened     time.Time `json:"opened,omitzero"`
	Closed     time.Time `json:"closed,omitzero"`
	Complete   bool      `json:"complete"`       // ended by FIN and is durable on disk; alone it proves nothing (wire.md section 5)
	Bytes      int64     `json:"bytes"`          // received
	Stored     int64     `json:"stored"`         // on disk, after compression
	Algo       string    `json:"algo,omitempty"` // blake3 or sha256
	Hash       string    `json:"hash,omitempty"` // of the received bytes, hex
	StoredHash string    `json:"stored_hash,omitempty"`
	Compress   string    `json:"compress,omitempty"`  // none, gzip or zstd: how it is on disk
	Encrypted  bool      `json:"encrypted,omitempty"` // with age, after compression
	Peer       string    `json:"peer,omitempty"`
	// Format is what the check of the stream's format found: FormatGood, why only the beginning could be looked at, or the
	// defect; empty when the task has no format that is checked.
	Format string `json:"format,omitempty"`
	Broken bool   `json:"broken,omitempty"` // Format names a defect
	// Said is what the stream says of itself, where its format does; it wins over the evidence, which a log gives.
	Said *Said  `json:"said,omitempty"`
	Path string `json:"path,omitempty"` // final path on the receiver's machine, once published
	Err  string `json:"err,omitempty"`
}

// FormatGood is the Format of a stream that was read to its end without a defect.
const FormatGood = "good"

// Evidence is what the worker's log and its reports say about the work.
type Evidence struct {
	Completed  bool     `json:"completed"` // the tool's own end line was seen
	Tool       string   `json:"tool,omitempty"`
	BinlogFile string   `json:"binlog_file,omitempty"`
	BinlogPos  int64    `json:"binlog_pos,omitempty"`
	GTID       string   `json:"gtid,omitempty"`
	Errors     []string `json:"errors,omitempty"` // the tool's error lines, the first few
	Exit       []int    `json:"exit,omitempty"`   // exit status of every pipeline member, when reported
	Sent       *int64   `json:"sent,omitempty"`   // bytes the worker says it sent, or received where drydock sends
	SentSHA256 string   `json:"sent_sha256,omitempty"`
	Result     string   `json:"result,omitempty"` // last lines of the tool's output
	// Finding is what is wrong with what the work looked at: it was done to its end, and what it found refutes it.
	Finding string `json:"finding,omitempty"`
	// Restore is the object a client attached to job-state (wire.md section 3), kept as it came.
	Restore json.RawMessage `json:"restore,omitempty"`
}

// Said is what a stream says of itself: a dump names the tool that made it and its position in a binary log.
type Said struct {
	Tool       string `json:"tool,omitempty"`
	BinlogFile string `json:"binlog_file,omitempty"`
	BinlogPos  int64  `json:"binlog_pos,omitempty"`
	GTID       string `json:"gtid,omitempty"`
	BinlogOf   string `json:"binlog_of,omitempty"` // whose binary log that is: BinlogOwn or BinlogSource; empty without a position
}

// The values of [Said.BinlogOf].
const (
	BinlogOwn    = "server" // of the server that the backup is of, be it a replica
	BinlogSource = "source" // of the server that it replicates from
)

// Job is one run of one task on one server. Every message on DRYDOCK_JOBS carries it whole.
type Job struct {
	State   State     `json:"state"`
	ID      string    `json:"id"`
	Cluster string    `json:"cluster"`
	Server  Server    `json:"server"`
	Task    string    `json:"task"`
	Attempt int       `json:"attempt"` // from 1
	Mode    Mode      `json:"mode"`
	Reason  string    `json:"reason,omitempty"`
	Trigger Trigger   `json:"trigger"`
	Due     time.Time `json:"due"`
	Created time.Time `json:"created"`
	Since   time.Time `json:"since"` // entered State
	Updated time.Time `json:"updated"`
	Tick    string    `json:"tick,omitempty"` // id of the tick in the ledger
	// Args are what the task was asked to do it with, such as the backup of a reseed. The tick brings them; names are the task's.
	Args     map[string]string `json:"args,omitempty"`
	Dispatch Dispatch          `json:"dispatch,omitzero"`
	Stream   *Stream           `json:"stream,omitempty"`
	Evidence Evidence          `json:"evidence,omitzero"`
	// Proven is when every check held and publishing began. From here on the job is not ended by anything but that: a
	// file that gets its name must not belong to a job that was canceled meanwhile.
	Proven time.Time `json:"proven,omitzero"`
	Backup string    `json:"backup,omitempty"` // id in the catalogue, once published
	Steps  []Step    `json:"steps,omitempty"`
	// Inventory is what the server held before and after the backup; nil where that is not known. Nobody changes what it
	// points to.
	Inventory *Inventory `json:"inventory,omitempty"`
	// Plan is how far a rolling operation is; nil for other tasks, and before it begins.
	Plan *Plan `json:"plan,omitempty"`
	// Ready is when the job last stopped waiting for another job of its server, or its gate opened; the time to pick it up
	// counts from here.
	Ready time.Time `json:"ready,omitzero"`
	// Gate, when not empty, keeps a queued job from being offered, and has an offer called back; Reason says the same for
	// people.
	Gate Gate `json:"gate,omitempty"`
	// NotBefore is the earliest time at which a queued job may be offered (scheduler-splay).
	NotBefore time.Time `json:"not_before,omitzero"`
	// Seen is the stream sequence of the last tick decided for this slot: a tick that is delivered again finds it and
	// starts nothing.
	Seen uint64 `json:"seen,omitempty"`
}

// The arguments of restores, and the first one of a drill ([Job.Args]).
const (
	ArgBackup   = "backup"   // id in the catalogue
	ArgFrom     = "from"     // HOST:PORT of the server that the backup is of
	ArgReceiver = "receiver" // receiver that holds the backup's file
	// ArgConfirm is HOST:PORT of the server whose data are replaced: who asked for it knows. A job without it ends as an error.
	ArgConfirm = "confirm"
	ArgTo      = "to"      // point in time, a GTID or a time as RFC 3339 has it
	ArgPrimary = "primary" // HOST:PORT that the restored server shall replicate from, when it is not known by itself
)

// HeldReason begins the reason of a queued job that waits for another heavy job of its server (wire.md section 6).
const HeldReason = "WARN0110: "

// Held reports whether the job waits for another heavy job of its server. Such a wait may last as long as that job.
func (j Job) Held() bool { return j.State == Queued && strings.HasPrefix(j.Reason, HeldReason) }

// Gated reports whether the job waits behind a gate. Such a wait may last as long as the gate is shut.
func (j Job) Gated() bool { return j.State == Queued && j.Gate != "" }

// CalledBack reports whether the job is offered and its gate was shut since: the dispatcher takes the offer back unless a
// script is quicker.
func (j Job) CalledBack() bool { return j.State == Available && j.Gate != "" }

// Key is the slot the job holds.
func (j Job) Key() Key { return Key{j.Cluster, j.Server, j.Task} }

// Run names one attempt: what a client claims, a row's payload carries and a temporary file is tagged with.
func (j Job) Run() string { return RunName(j.ID, j.Attempt) }

// RunName is the name of an attempt of a job. It sorts by age and is safe in a file name.
func RunName(id string, attempt int) string {
	if 0 <= attempt && attempt < 10 {
		return id + "-0" + strconv.Itoa(attempt) // asked for each job of a fleet at each sweep
	}
	return id + "-" + strconv.Itoa(attempt)
}

// LogValue gives every log line about a job the same keys.
func (j Job) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("cluster", j.Cluster), slog.String("server", j.Server.String()), slog.String("task", j.Task),
		slog.String("job_id", j.ID), slog.Int("attempt", j.Attempt), slog.String("state", string(j.State)),
	)
}

// Started is when a worker took the present attempt, zero when nobody did.
func (j Job) Started() (began time.Time) {
	for _, s := range j.Steps {
		switch {
		case s.Event == Retry:
			began = time.Time{}
		case s.State.Started() && began.IsZero():
			began = s.Time
		}
	}
	return began
}

// Ended is when the job left its live states, zero while it is live.
func (j Job) Ended() time.Time {
	if j.State.Live() {
		return time.Time{}
	}
	return j.Since
}

// NewID derives the id of the job that tick starts for key: 26 characters that sort by due time. The same tick gives
// the same id however often it is delivered, so that a caller who wrote the tick knows the ids of its jobs.
func NewID(due time.Time, tick string, key Key) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var id [26]byte
	ms := uint64(due.UnixMilli())
	for i := 9; i >= 0; i-- {
		id[i] = alphabet[ms&31]
		ms >>= 5
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{tick, key.Cluster, key.Server.String(), key.Task}, "\x00")))
	for i := range 16 {
		id[10+i] = alphabet[sum[i]&31]
	}
	return string(id[:])
}

// ErrID is returned for a text that is no job id.
var ErrID = errors.New("not a job id")

// TimeOfID is the due time coded in a job id, to the millisecond. Errors: [ErrID].
func TimeOfID(id string) (time.Time, error) {
	if len(id) != 26 {
		return time.Time{}, ErrID
	}
	var ms int64
	for _, c := range []byte(id[:10]) {
		v := strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c)
		if v < 0 {
			return time.Time{}, ErrID
		}
		ms = ms<<5 | int64(v)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// Advance applies an event to a copy of j: state, reason, times and history. now is UTC. It is pure.
// changed is false when the event repeats what is already so. Errors: [ErrTransition].
func (j Job) Advance(e Event, reason, actor string, now time.Time) (next Job, changed bool, err error) {
	to, err := Next(j.State, e)
	if err != nil {
		return j, false, err
	}
	if !j.Proven.IsZero() && j.State == Finished && (e == Error || e == Cut || e == Cancel) {
		return j, false, fmt.Errorf("%w: %s while the proven stream is published", ErrTransition, e)
	}
	if (e == Offer || e == Claim) && j.Gate != "" {
		return j, false, fmt.Errorf("%w: %s of a job that waits (%s)", ErrTransition, e, j.Gate)
	}
	next = j
	next.Updated = now
	if to == j.State {
		return next, false, nil
	}
	next.State, next.Reason, next.Since = to, reason, now
	next.Steps = append(append([]Step(nil), j.Steps...), Step{to, e, now, reason, actor})
	if len(next.Steps) > MaxSteps {
		next.Steps = next.Steps[len(next.Steps)-MaxSteps:]
	}
	if e != Withdraw {
		next.Gate, next.NotBefore = "", time.Time{} // it left the queue, or enters it anew
	}
	if e == Retry {
		next.Attempt++
	}
	if e == Retry || e == Withdraw || e == Release {
		// What an earlier taker sent or said does not vouch for the next one.
		next.Dispatch, next.Stream, next.Evidence, next.Proven, next.Backup = Dispatch{}, nil, Evidence{}, time.Time{}, ""
		next.Inventory = nil
	}
	return next, true, nil
}
