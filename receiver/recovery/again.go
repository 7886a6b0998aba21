package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"drydock/job"
)

// ErrAgain is returned for data of which no physical backup can be made here.
var ErrAgain = errors.New("only data of a physical backup of MariaDB are backed up again")

// Repeatable looks, once the files are unpacked, whether a private server can back up all of them. It passes over what it has no
// plugin for, and a backup without that would look like a whole one. Errors: [ErrAgain], [ErrKeys].
func (c *Copy) Repeatable() Phase {
	return Phase{"look whether all of it can be backed up again", func(context.Context) error {
		if c.backup.Format != job.XBStream || c.backup.XtraTool {
			return ErrAgain
		}
		if c.keyed() {
			return ErrKeys
		}
		switch _, err := os.Lstat(filepath.Join(c.Data(), "#rocksdb")); {
		case err == nil:
			return fmt.Errorf("%w, and these have tables of MyRocks", ErrAgain)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		return nil
	}}
}

// BackingUp makes a physical backup of the data as they now are: a private server is started on them, to gets the stream of
// mariadb-backup, and the server is stopped in good order. The backup says that it goes up to gtid. The data are [Copy.Repeatable],
// and no private server runs.
func (c *Copy) BackingUp(gtid string, to io.Writer) []Phase {
	return []Phase{
		{"start a private server for the backup", c.start},
		{"back up", func(ctx context.Context) error { return c.backUp(ctx, gtid, to) }},
		{"stop the private server", c.Shutdown},
	}
}

// backUp notes the position where every server looks for it that is restored from the backup: this one has no binary log that
// could tell.
func (c *Copy) backUp(ctx context.Context, gtid string, to io.Writer) error {
	if _, err := c.DB().ExecContext(ctx, "SET GLOBAL gtid_slave_pos = ?", gtid); err != nil {
		return c.Outcome(ctx, fmt.Errorf("set gtid_slave_pos to %s: %w", gtid, err))
	}
	// Without grant tables, which are not ours, the server tells no privileges.
	return c.Outcome(ctx, c.toolTo(ctx, nil, to, endLine, c.backup.Preparer(), "--no-defaults", "--backup", "--stream=xbstream",
		"--loose-skip-check-privileges", "--user=root", "--socket="+c.server.socket(), "--datadir="+c.Data(), "--target-dir="+c.tmp()))
}
