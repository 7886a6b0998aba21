package receiver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// Config is what a pool needs. Fields without "optional" are required.
type Config struct {
	Name     string // of this instance: in subjects, in Dispatch.Receiver; stays the same over restarts
	Version  string // optional: semantic version shown by `nats micro info`
	DataDir  string // monitoring-datadir; one receiver at a time
	Bind     string // optional: address to listen on; empty means all
	Address  string // what database hosts connect to (monitoring-address)
	Ports    []int  // optional: scheduler-db-servers-sender-ports; empty means any free port
	Reserved []int  // optional: drydock's own ports, never used for streams

	// AllowFrom widens who may connect beyond a server's own addresses (receiver-allow-from). Optional.
	AllowFrom []netip.Prefix

	// Reserve is how much of the data folder's disk backups leave free (disk-reserve), bytes. Optional.
	Reserve int64

	AcceptTimeout time.Duration // optional: from the start of the work to the connection; 0 means 2 m
	IdleTimeout   time.Duration // optional: between two reads of a stream; 0 means 10 m
	DrainTimeout  time.Duration // optional: what open streams get at shutdown; 0 means 30 s

	// Sign gives a manifest the installation's signature ([store.Signer]).
	Sign func(store.Manifest) (store.Manifest, error)

	Clusters map[string]Cluster
	Log      *slog.Logger
}

// Cluster is what the pool must know of one cluster.
type Cluster struct {
	Servers  []job.Server
	Hash     string // backup-hash: blake3 or sha256; empty means blake3
	Compress string // compress-backups: none, gzip or zstd; logs are never compressed
	// Recipients are whom backups are encrypted for (backup-encrypt-recipients); none leaves them as they are.
	Recipients []age.Recipient
	// Identities open encrypted backups that are to be sent back (backup-encrypt-identity).
	Identities []age.Identity
	// ReceiverPorts is where the scripts listen for a backup that is sent to them (scheduler-db-servers-receiver-ports).
	ReceiverPorts []int
}

// portsKey is the configuration key of [Config.Ports], named in every error about them.
const portsKey = "scheduler-db-servers-sender-ports"

// ErrConfig is in the chain of every error of [New] that a change of configuration cures.
var ErrConfig = errors.New("receiver configuration")

// withDefaults fills what is optional and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	c.AcceptTimeout = cmp.Or(c.AcceptTimeout, 2*time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 10*time.Minute)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 30*time.Second)
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...)))
	}
	if c.Name == "" || c.DataDir == "" || c.Address == "" || c.Log == nil || c.Sign == nil {
		refuse("name, data folder, address, signature and log are required")
	}
	if c.AcceptTimeout < 0 || c.IdleTimeout < 0 || c.DrainTimeout < 0 {
		refuse("a timeout is negative")
	}
	for name, cl := range c.Clusters {
		if !safeElement(name) || slices.Contains(ownFolders, name) {
			refuse("cluster %q cannot have a folder of that name in %s", name, c.DataDir)
		}
		for _, s := range cl.Servers {
			if !safeElement(s.Host) || s.Port < 1 || s.Port > 65535 {
				refuse("server %q of cluster %q cannot have a folder of that name", s, name)
			}
		}
		if !slices.Contains([]string{"", sink.BLAKE3, sink.SHA256}, cl.Hash) {
			refuse("backup-hash %q of cluster %q is not blake3 or sha256", cl.Hash, name)
		}
		if !slices.Contains([]string{"", sink.None, sink.Gzip, sink.Zstd}, cl.Compress) {
			refuse("compress-backups %q of cluster %q is not none, gzip or zstd", cl.Compress, name)
		}
	}
	return c, errors.Join(errs...)
}

// ownFolders are the names that drydock itself uses in the data folder (architecture.md section 4).
var ownFolders = []string{BackupsFolder, "nats", "tls", "work", "archive", "restic-cache", "drills"}

// BackupsFolder is the folder of all backups in the data folder (architecture.md section 4).
const BackupsFolder = "Backups"

// safeElement says whether s may be one element of a path.
func safeElement(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == '\\' || r < ' ' || r == 0x7f
	})
}

// BackupsOf is the folder of a server's backups; ok is false for names that are none of a folder.
func BackupsOf(dataDir, cluster string, s job.Server) (folder string, ok bool) {
	return Config{DataDir: dataDir}.folder(job.KindBackup, cluster, s), safeElement(cluster) && safeElement(s.Host)
}

// folder is where the files of a server go that are of this kind.
func (c Config) folder(kind job.Kind, cluster string, s job.Server) string {
	server := fmt.Sprintf("%s_%d", s.Host, s.Port)
	if kind == job.KindBackup {
		return filepath.Join(c.DataDir, BackupsFolder, cluster, server)
	}
	return filepath.Join(c.DataDir, cluster, server)
}

// knows says whether cluster and server are configured: nothing else ever becomes a path.
func (c Config) knows(cluster string, s job.Server) bool {
	cl, ok := c.Clusters[cluster]
	return ok && slices.Contains(cl.Servers, s)
}

// place is where the stream of one attempt goes. It depends on the names alone, so that it is the same after a restart
// (save Hash, Compress and Encrypted, which are the configuration's). Errors: [job.ErrUnknownTask], [job.ErrID], [ErrConfig].
func (c Config) place(k job.Key, id string, attempt int) (sink.Spec, job.Task, error) {
	if !c.knows(k.Cluster, k.Server) {
		return sink.Spec{}, job.Task{}, fmt.Errorf("%w: no server %s in cluster %q", ErrConfig, k.Server, k.Cluster)
	}
	task, err := job.TaskByName(k.Task)
	if err != nil {
		return sink.Spec{}, job.Task{}, fmt.Errorf("%w %q", err, k.Task)
	}
	if task.Flow != job.FlowIn {
		return sink.Spec{}, job.Task{}, fmt.Errorf("%w: task %s streams nothing to drydock", ErrConfig, k.Task)
	}
	due, err := job.TimeOfID(id)
	if err != nil || attempt < 1 || strings.ContainsFunc(id, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) {
		return sink.Spec{}, job.Task{}, fmt.Errorf("%w: %q attempt %d", job.ErrID, id, attempt)
	}
	cl := c.Clusters[k.Cluster]
	spec := sink.Spec{
		Dir: c.folder(task.Kind, k.Cluster, k.Server), Name: task.LogFile, Tag: job.RunName(id, attempt),
		Hash: cmp.Or(cl.Hash, sink.BLAKE3), Compress: sink.None,
	}
	if task.Kind == job.KindBackup {
		name := fmt.Sprintf("%s-%s-%s", task.Name, due.Format("20060102T150405Z"), id)
		if attempt > 1 { // a file that an earlier attempt published, and was not proven after all, is not in the way
			name += fmt.Sprintf("-%02d", attempt)
		}
		spec.Name = name + "." + string(task.Format)
		spec.Compress = cmp.Or(cl.Compress, sink.None)
		spec.Encrypted, spec.Recipients = len(cl.Recipients) > 0, cl.Recipients
	}
	return spec, task, nil
}
