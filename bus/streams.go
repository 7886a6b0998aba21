package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bound limits one stream.
type Bound struct {
	MaxAge   time.Duration
	MaxBytes int64
}

// Limits are the bounds of the streams and how many replicas they have (configuration keys nats-*).
type Limits struct {
	Replicas                                                     int // 1 for the embedded server
	Tasks, Jobs, Logs, Alerts, Notifications, Audit, Deadletters Bound
}

// DefaultLimits suit years of running one site on one disk.
func DefaultLimits() Limits {
	const day = 24 * time.Hour
	return Limits{
		Replicas:      1,
		Tasks:         Bound{400 * day, 1 << 30},
		Jobs:          Bound{400 * day, 4 << 30},
		Logs:          Bound{30 * day, 4 << 30},
		Alerts:        Bound{400 * day, 256 << 20},
		Notifications: Bound{400 * day, 128 << 20},
		Audit:         Bound{400 * day, 256 << 20},
		Deadletters:   Bound{90 * day, 64 << 20},
	}
}

// direct says whether a message may be read without asking the stream's leader. With several copies any of them would
// answer, also one that has not heard of the last writes; but reading back is how a write with a lost answer is settled.
func (l Limits) direct() bool { return l.Replicas <= 1 }

// compression is none for streams with copies. nats-server 2.15.2 may leave the block that it goes on to write compressed when
// a server of a cluster comes back from a crash; what it appends makes the block unreadable, and two such copies of three end
// the stream (docs/chaos.md). A server by itself was never seen to do it.
func (l Limits) compression() jetstream.StoreCompression {
	if l.Replicas > 1 {
		return jetstream.NoCompression
	}
	return jetstream.S2Compression
}

const (
	bucketBytes  = 512 << 20 // room for 10,000 servers' state, twice
	controlBytes = 16 << 20
	usersBytes   = 32 << 20
	loginsBytes  = 64 << 20 // more than 10,000 servers that log in each minute: they keep their tokens
)

// LoginsAge is how long [BucketLogins] remembers.
const LoginsAge = time.Hour

func streams(l Limits) []jetstream.StreamConfig {
	base := func(name, subject, about string, b Bound) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: about, Subjects: []string{subject}, Storage: jetstream.FileStorage,
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Replicas: max(l.Replicas, 1),
			MaxAge: b.MaxAge, MaxBytes: b.MaxBytes, AllowDirect: l.direct(), Compression: l.compression(),
			Duplicates: min(2*time.Minute, max(b.MaxAge, time.Second)),
		}
	}
	tasks := base(StreamTasks, AllTasks, "tick ledger: every due tick and manual run, with its outcome", l.Tasks)
	tasks.DenyDelete, tasks.AllowAtomicPublish, tasks.Metadata = true, true, schema(TypeTick)
	jobs := base(StreamJobs, AllJobs, "every job-state transition, with the whole job", l.Jobs)
	jobs.DenyDelete, jobs.AllowAtomicPublish, jobs.Metadata = true, true, schema(TypeJob)
	logs := base(StreamLogs, AllLogs, "decrypted log batches from the database hosts", l.Logs)
	logs.AllowAtomicPublish, logs.Metadata = true, schema(TypeLog)
	alerts := base(StreamAlerts, AllAlerts, "conditions opened and closed", l.Alerts)
	alerts.Metadata = schema(TypeAlert)
	told := base(StreamNotifications, AllNotifications, "every try to notify, before and after it was sent", l.Notifications)
	told.DenyDelete, told.Metadata = true, schema(TypeNotification)
	audit := base(StreamAudit, AllAudit, "who changed what", l.Audit)
	audit.DenyDelete, audit.DenyPurge, audit.Metadata = true, true, schema(TypeAudit)
	dead := base(StreamDeadletters, "", "messages that could not be processed (JetStream advisories)", l.Deadletters)
	dead.Subjects = []string{
		"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + StreamTasks + ".>",
		"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED." + StreamTasks + ".>",
	}
	control := bucket(BucketControl, "holds, blackouts, acknowledged conditions, and the places of running backups", l)
	control.MaxBytes = controlBytes
	users := bucket(BucketUsers, "users of the API, their tokens and ended sessions", l)
	users.MaxBytes = usersBytes
	logins := bucket(BucketLogins, "sealed identities of database hosts that were used", l)
	logins.MaxBytes, logins.MaxAge = loginsBytes, LoginsAge
	state := bucket(BucketState, "last and recent jobs per server and task (projection of DRYDOCK_JOBS)", l)
	if l.Replicas <= 1 {
		// It is rebuilt from the log, so it need not pay for a sync per write. Only unreplicated streams can do this.
		state.PersistMode = jetstream.AsyncPersistMode
	}
	binlogs := bucket(BucketBinlogs, "one manifest per segment of an archived binary log", l)
	if l.Replicas <= 1 {
		binlogs.PersistMode = jetstream.AsyncPersistMode // written at each flush, and rebuilt from the manifests
	}
	return []jetstream.StreamConfig{
		tasks, jobs, logs, alerts, told, audit, dead, state,
		bucket(BucketCatalog, "one manifest per backup", l),
		bucket(BucketKeys, "what gateways share: token signing key", l),
		control, users, logins, binlogs,
	}
}

// Reserved is what the streams and buckets take of a server's space at once, bytes, whatever is in them.
func (l Limits) Reserved() (sum int64) {
	for _, cfg := range streams(l) {
		sum += cfg.MaxBytes
	}
	return sum
}

func schema(typ string) map[string]string { return map[string]string{"drydock.schema": typ} }

// bucket is a key-value bucket spelled as the stream that it is, which is the only way to choose its persistence.
func bucket(name, about string, l Limits) jetstream.StreamConfig {
	stream, subjects := BucketStream(name)
	return jetstream.StreamConfig{
		Name: stream, Description: about, Subjects: []string{subjects}, Storage: jetstream.FileStorage,
		Replicas: max(l.Replicas, 1), MaxMsgsPerSubject: 1, MaxBytes: bucketBytes, Discard: jetstream.DiscardNew,
		AllowRollup: true, DenyDelete: true, AllowDirect: l.direct(), Duplicates: 2 * time.Minute,
	}
}

// StreamNames are the streams of drydock, those behind its buckets as well.
func StreamNames() []string {
	var names []string
	for _, cfg := range streams(Limits{}) {
		names = append(names, cfg.Name)
	}
	return names
}

// needsLevel is the JetStream API level of atomic batches and of everything else that drydock asks for.
const needsLevel = 2

// ErrOldServer is returned by [Conn.Declare] for an external server that lacks something drydock needs.
var ErrOldServer = errors.New("nats server is too old")

// Declare creates every stream and bucket or brings it up to date. It is idempotent, and it also heals streams whose
// metadata a crash damaged: NATS adopts the messages it finds.
// Errors: [ErrOldServer], or what the server refused.
func (c *Conn) Declare(ctx context.Context, l Limits) error {
	info, err := c.JS.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("ask the bus for its limits: %w", err)
	}
	if info.API.Level < needsLevel {
		return fmt.Errorf("%w: its JetStream API level is %d, drydock needs %d (nats-server 2.12 or newer)", ErrOldServer, info.API.Level, needsLevel)
	}
	var unpacked []string
	defer c.buckets.Clear() // they may be read in another way now
	for _, cfg := range streams(l) {
		if c.compressed(ctx, cfg) {
			unpacked = append(unpacked, cfg.Name)
		}
		if err := c.declare(ctx, cfg); err != nil {
			if noRoom(err) {
				err = fmt.Errorf("%w; streams and buckets reserve %d MiB in all (nats-*-max-bytes and what the buckets take), the server has less for them", err, l.Reserved()>>20)
			}
			return fmt.Errorf("declare stream %s: %w", cfg.Name, err)
		}
	}
	if len(unpacked) > 0 {
		c.log.Warn("streams are no longer compressed: restart each NATS server once, one after the other; until then each goes on to compress what it ends",
			"streams", unpacked, "see", "docs/install.md")
	}
	if c.embedded != nil {
		if err := c.embedded.stage(); err != nil {
			c.log.Warn("stage groups of messages on disk: they take longer", "err", err)
		}
		c.cheap.Store(c.embedded.staged() != "")
	}
	return nil
}

// compressed reports whether a stream with copies is compressed now and shall no longer be. A server learns that from the stream's
// configuration when it starts, and not before (nats-server 2.15.2).
func (c *Conn) compressed(ctx context.Context, cfg jetstream.StreamConfig) bool {
	if cfg.Replicas <= 1 || cfg.Compression != jetstream.NoCompression {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	now, err := c.JS.Stream(ctx, cfg.Name)
	return err == nil && now.CachedInfo().Config.Compression != jetstream.NoCompression // what is wrong otherwise, the declaration finds
}

// noRoom reports whether a server has too little space for what is to be reserved. A cluster says so among the reasons for which it
// finds no servers.
func noRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == storageExceeded || strings.Contains(api.Description, "insufficient storage"))
}

// declareTimeout is for one stream. A cluster that loses its leader meanwhile never answers.
const declareTimeout = 10 * time.Second

func (c *Conn) declare(ctx context.Context, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	_, err := c.JS.CreateOrUpdateStream(ctx, cfg)
	return err
}

// Bucket opens one of the buckets that [Conn.Declare] made. The server is asked about it once: facts of a large fleet are
// thousands of reads and writes a minute, and each question costs more than they do.
func (c *Conn) Bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	if kv, ok := c.buckets.Load(name); ok {
		return kv.(jetstream.KeyValue), nil
	}
	kv, err := c.JS.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	c.buckets.Store(name, kv)
	return kv, nil
}
