package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/binlog"
	"drydock/receiver/recovery"
	"drydock/store"
)

// RestoreOptions are what is restored to a folder of this machine, and how.
type RestoreOptions struct {
	Found      Found
	Place      *recovery.Place
	Away       []string // folders that the place must not be in: the data folder, that of the backups
	Reserve    int64    // bytes to leave free on the disk of Away's first
	Load       bool     // make data of a server of a dump, and not its files
	To         Point    // until when the binary logs are replayed
	Folder     string   // of the backups, which holds the binary logs too
	Keys       []store.PublicKey
	Replay     *binlog.Plan    // the way to To, as [PlanRestore] found it
	Owner      *recovery.Owner // nil: drydock's user
	Clean      bool            // remove what a restore left there that was cut off
	Memory     int64           // bytes for preparing and for the private server
	Identities []age.Identity  // open encrypted backups
	By         string          // who asks for it
	Step, Line func(string)    // see [recovery.Config]
	Moved      func(int64)
}

// RestoreNote is the file drydock-restore.json in restored data: what they are.
type RestoreNote struct {
	Backup     string     `json:"backup"`
	Cluster    string     `json:"cluster"`
	Server     job.Server `json:"server"`
	Task       string     `json:"task"`
	Tool       string     `json:"tool,omitempty"`
	Ended      time.Time  `json:"ended"` // the backup
	BinlogFile string     `json:"binlog_file,omitempty"`
	BinlogPos  int64      `json:"binlog_pos,omitempty"`
	GTID       string     `json:"gtid,omitempty"`
	BinlogOf   string     `json:"binlog_of,omitempty"`
	// To is the point in time that was asked for, and GTID the last transaction before it; BinlogFile says nothing then.
	To string `json:"to,omitempty"`
	// Options are those that a server needs to read the data, as lines of an option file.
	Options  []string  `json:"options,omitempty"`
	Restored time.Time `json:"restored"`
	By       string    `json:"by"`
	Seconds  float64   `json:"seconds"` // that it took
}

const restoreNote = "drydock-restore.json"

// Restore makes the data of a backup anew in a folder of this machine, which gets its name when they are whole. It needs neither bus
// nor database. Errors: those of [recovery.Place.Take] and [recovery.Copy.Run]; the place is as it was then.
func Restore(ctx context.Context, o RestoreOptions) (note RestoreNote, err error) {
	b, err := recovery.BackupOf(o.Found.Manifest, o.Found.File)
	if err != nil {
		return note, err
	}
	if o.To.Given() && o.Replay == nil {
		return note, errors.New("restore to a point in time: no way to it was planned")
	}
	if err := o.Place.Take(o.Clean, o.Away...); err != nil {
		return note, err
	}
	defer func() { err = errors.Join(err, o.Place.Leave()) }()
	began := time.Now()
	c := recovery.New(recovery.Config{
		Folder: o.Place.Work(), Memory: o.Memory, Identities: o.Identities, Step: o.Step, Line: o.Line, Moved: o.Moved,
	}, b)
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Open(o.needs(b)); err != nil {
		return note, err
	}
	if err := c.Run(ctx, o.phases(c, b)...); err != nil {
		return note, err
	}
	note = o.note()
	note.Options, note.Restored, note.By, note.Seconds = c.Layout(), time.Now().UTC(), o.By, time.Since(began).Seconds()
	o.Step(lastStep)
	if ctx.Err() != nil { // the last chance: what has the name is restored, whoever is interrupted
		return note, context.Cause(ctx)
	}
	if err := note.write(c.Data()); err != nil {
		return note, err
	}
	return note, o.Place.Publish(c.Data(), o.Owner)
}

const lastStep = "give the data their name"

// phases are what is done between an empty private folder and whole data.
func (o RestoreOptions) phases(c *recovery.Copy, b recovery.Backup) []recovery.Phase {
	shutdown := recovery.Phase{What: "stop the private server", Do: c.Shutdown}
	list := []recovery.Phase{c.Unpacking()}
	switch {
	case b.Format == job.XBStream:
		preparing := c.Preparing()
		list = []recovery.Phase{preparing[0], c.Comparing(), preparing[1]}
	case o.Load:
		list = append(c.Restoring(), shutdown)
	}
	if o.To.Given() {
		list = append(list, o.replaying(c)...)
	}
	return list
}

// needs is how many bytes the work takes at the place.
func (o RestoreOptions) needs(b recovery.Backup) int64 {
	var replay int64
	if o.Replay != nil {
		replay = o.Replay.Bytes
	}
	if b.Format != job.XBStream && !o.Load {
		return recovery.NeedsUnpacked(b.Size)
	}
	return recovery.Needs(b.Format, b.Size) + replay
}

func (o RestoreOptions) note() RestoreNote {
	m := o.Found.Manifest
	n := RestoreNote{
		Backup: m.ID, Cluster: m.Cluster, Server: m.Server, Task: m.Task, Tool: m.Tool, Ended: m.Ended,
		BinlogFile: m.BinlogFile, BinlogPos: m.BinlogPos, GTID: m.GTID, BinlogOf: m.BinlogOf,
	}
	if o.Replay != nil {
		n.To, n.GTID = o.To.String(), o.Replay.GTID
		n.BinlogFile, n.BinlogPos, n.BinlogOf = "", 0, ""
	}
	return n
}

func (n RestoreNote) write(dir string) error {
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what was restored: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, restoreNote), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("note what was restored: %w", err)
	}
	return nil
}
