package drill

import (
	"context"
	"errors"
	"os"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/recovery"
)

// Config is where and how a drill works.
type Config struct {
	Folder     string         // the scratch folder; made by Run, which leaves nothing of it behind
	Memory     int64          // bytes that preparing and the scratch server may use for their pools
	Identities []age.Identity // open encrypted backups
	Expect     *job.Inventory // what the backup must hold; nil: nothing is known of that
	// Step is told what the drill does next, and Line what a tool or the scratch server said. Both may be called from several
	// goroutines.
	Step func(what string)
	Line func(text string)
}

// Backup is a file that a receiver has stored.
type Backup = recovery.Backup

// Result is what a drill found. Times are those it took here: what a restore costs.
type Result struct {
	Restore time.Duration // until the scratch server had all of it
	Check   time.Duration // of the tables
	Version string        // of the scratch server
	Tables  int
	Rows    int64
	// Compared are the tables of Config.Expect: so many were looked for.
	Compared int
	// Skipped are the tables whose engine the scratch server does not have: they were not looked at.
	Skipped []string
	// Problems are the tables that are not well, with what the server says; none makes the backup restored.
	Problems []string
}

// What tells a backup that does not restore from a drill that could not be done.
var (
	ErrBackup = recovery.ErrBackup
	ErrSpace  = recovery.ErrSpace
)

// Run drills one backup. Errors: [ErrBackup], [ErrSpace], [recovery.ErrKeys], sink.ErrIdentity; the context's cause when it was ended.
func Run(ctx context.Context, cfg Config, b Backup) (res Result, err error) {
	d := &drill{cfg: cfg, copy: recovery.New(recovery.Config{
		Folder: cfg.Folder, Memory: cfg.Memory, Identities: cfg.Identities, Gentle: true, Step: cfg.Step, Line: cfg.Line,
	}, b)}
	if err := d.copy.Open(recovery.Needs(b.Format, b.Size)); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Folder)) }()
	began := time.Now()
	err = d.copy.Run(ctx, d.copy.Restoring()...)
	res.Restore = time.Since(began)
	if err == nil {
		began = time.Now()
		err = d.copy.Run(ctx, recovery.Phase{What: "check every table", Do: func(ctx context.Context) error { return d.check(ctx, &res) }})
		res.Check = time.Since(began)
	}
	return res, errors.Join(err, d.copy.Close())
}

// drill is one run of [Run].
type drill struct {
	cfg  Config
	copy *recovery.Copy
}
