package store

import (
	"slices"
	"time"

	"drydock/job"
)

// ManifestType is the version of [Manifest].
const ManifestType = "drydock.v1.manifest"

// Manifest describes one backup. It stands as JSON beside the backup file, as FILE.manifest.json, and in
// drydock_catalog. Sizes are bytes, times UTC, hashes hex.
type Manifest struct {
	Type     string      `json:"type"`
	ID       string      `json:"id"` // the job's id: one backup per job
	Cluster  string      `json:"cluster"`
	Server   job.Server  `json:"server"`
	Task     string      `json:"task"`
	Attempt  int         `json:"attempt"`
	Trigger  job.Trigger `json:"trigger"`
	Tool     string      `json:"tool,omitempty"`
	Started  time.Time   `json:"started"` // the worker began
	Ended    time.Time   `json:"ended"`   // the stream ended
	Receiver string      `json:"receiver"`
	Path     string      `json:"path"` // on the receiver's machine
	Compress string      `json:"compress"`
	// Encrypted says that the file is encrypted with age, around the compression.
	Encrypted bool   `json:"encrypted,omitempty"`
	Size      int64  `json:"size"`   // as received from the tool
	Stored    int64  `json:"stored"` // on disk
	Algo      string `json:"algo"`   // of both hashes
	Hash      string `json:"hash"`   // of the received bytes
	// StoredHash is the hash of the file on disk; it equals Hash when nothing was compressed.
	StoredHash string `json:"stored_hash"`
	BinlogFile string `json:"binlog_file,omitempty"`
	BinlogPos  int64  `json:"binlog_pos,omitempty"`
	GTID       string `json:"gtid,omitempty"`
	// BinlogOf says whose binary log that position is in ([job.Said]): of a dump of a replica it may be the
	// replica's own or its source's.
	BinlogOf string      `json:"binlog_of,omitempty"`
	Checks   []job.Check `json:"checks"` // what made it a backup
	// Inventory is what the server held before and after the backup, and what a drill looks for; nil where that is not known.
	// In the catalogue it is without the names of tables.
	Inventory *job.Inventory `json:"inventory,omitempty"`
	// Point says that a receiver made it, of another backup and of binary logs; nil for what a server gave. Ended is then when the
	// last of its transactions was committed.
	Point *Point `json:"point,omitempty"`
	// Signature vouches for all of it but what follows, which is in the catalogue and in the [Notes] beside the file.
	Signature *Signature `json:"signature,omitempty"`
	// Archives are the copies in archives, oldest first. The manifest beside the backup, which is archived with it, stays as it
	// was written.
	Archives []Archive `json:"archives,omitempty"`
	// Drills are the last tries to restore it, oldest first.
	Drills []Drill `json:"drills,omitempty"`
	// Verifications are the last looks at its bytes, oldest first.
	Verifications []Verification `json:"verifications,omitempty"`
	// Unverified says that the last verification could not be done; nil when it was.
	Unverified *Unverified `json:"unverified,omitempty"`
	// Pin is an operator's last word about keeping it.
	Pin *Pin `json:"pin,omitempty"`
	// Removal says that its file goes, or is gone.
	Removal *Removal `json:"removal,omitempty"`
	// Restores are the last times its data were got back to a directory, oldest first. Those to servers are jobs.
	Restores []Restore `json:"restores,omitempty"`
}

// Point is how a backup was made that no server gave.
type Point struct {
	Base string    `json:"base"` // id of the backup that it began with
	To   string    `json:"to"`   // the point in time that was asked for, TIME or GTID
	Made time.Time `json:"made"`
	Job  string    `json:"job"` // id of the job that made it
}

// Archive is a copy of a backup and its manifest in a repository of restic. Without a snapshot it says that there was
// none: the backup was deleted before.
type Archive struct {
	Repository string    `json:"repository"` // without passwords
	Snapshot   string    `json:"snapshot"`
	Time       time.Time `json:"time"`
	Bytes      int64     `json:"bytes"` // of backup and manifest
	Added      int64     `json:"added"` // what the repository grew by
	// Gone is when the snapshot was found to be there no more: forgotten by the backup-keep keys, or by hand.
	Gone time.Time `json:"gone,omitzero"`
}

// Archived is the newest copy that is still there; ok is false when there is none.
func (m Manifest) Archived() (a Archive, ok bool) {
	for _, a := range slices.Backward(m.Archives) {
		if a.Gone.IsZero() {
			return a, true
		}
	}
	return Archive{}, false
}

// Restore says that the data of a backup were got back to a directory.
type Restore struct {
	Time      time.Time `json:"time"`
	By        string    `json:"by"`
	Host      string    `json:"host"`
	Directory string    `json:"directory"`
	Seconds   float64   `json:"seconds"`
	// To is the point in time, TIME or GTID, that was replayed to; empty for that of the backup.
	To string `json:"to,omitempty"`
}

// restoresKept bounds what is remembered of them.
const restoresKept = 10
