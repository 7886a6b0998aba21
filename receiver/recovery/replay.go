package recovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// replayer is the account that a replay works as. Without grant tables a server refuses the statements about accounts that are
// replayed too; and the accounts in the data are not ours.
const replayer = "drydock-replay"

// Replaying brings the data to a later point: a private server is started on them, replay gives it what was logged, with dir for
// small files, and it is stopped in good order. The server has no private one of its own at that time.
func (c *Copy) Replaying(replay func(ctx context.Context, l Login, dir string) error) []Phase {
	return []Phase{
		{"start a private server for the replay", c.startForReplay},
		{"replay the binary logs", func(ctx context.Context) error {
			return c.Outcome(ctx, replay(ctx, c.server.login, c.tmp()))
		}},
		{"stop the private server", c.endReplay},
	}
}

// startForReplay starts a server that makes the account by itself.
func (c *Copy) startForReplay(ctx context.Context) error {
	login := Login{User: replayer, Password: rand.Text()}
	account := "'" + replayer + "'@'localhost'"
	path := filepath.Join(c.cfg.Folder, "replay.sql")
	text := fmt.Sprintf("CREATE OR REPLACE USER %s IDENTIFIED BY '%s';\nGRANT ALL PRIVILEGES ON *.* TO %s WITH GRANT OPTION;\n", account, login.Password, account)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the account of the replay: %w", err)
	}
	return errors.Join(c.startAs(ctx, login, "init-file="+quoted(path), "max-allowed-packet=1G", "local-infile=1", "innodb-flush-log-at-trx-commit=2"), os.Remove(path))
}

// endReplay removes the account again.
func (c *Copy) endReplay(ctx context.Context) error {
	if _, err := c.DB().ExecContext(ctx, "DROP USER IF EXISTS '"+replayer+"'@'localhost'"); err != nil {
		return c.Outcome(ctx, fmt.Errorf("remove the account of the replay: %w", err))
	}
	return c.Shutdown(ctx)
}
