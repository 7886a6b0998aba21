package local

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"drydock/job"
	"drydock/store/attempt"
)

// account is how drydock's own account on a server was before its system tables were replaced.
type account struct {
	name   string   // CURRENT_USER()
	makes  string   // the statement that makes it
	grants []string // the statements that give it what it may do
}

func readAccount(ctx context.Context, s *session) (a account, err error) {
	if err := s.conn.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&a.name); err != nil {
		return a, err
	}
	if err := s.conn.QueryRowContext(ctx, "SHOW CREATE USER CURRENT_USER()").Scan(&a.makes); err != nil {
		return a, err
	}
	// Where an account has no password the server answers no account either; the statement is run as it stands.
	a.makes = strings.Replace(a.makes, "CREATE USER", "CREATE OR REPLACE USER", 1)
	rows, err := s.conn.QueryContext(ctx, "SHOW GRANTS")
	if err != nil {
		return a, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var g string
		if err := rows.Scan(&g); err != nil {
			return a, err
		}
		a.grants = append(a.grants, g)
	}
	return a, rows.Err()
}

// ensure puts the loaded accounts into force and makes sure that drydock can still log in. The accounts are those of the
// primary: an account that may come from this host there need not be one that may here. The session is from before, and
// keeps what it may do; with it the old account comes back if need be.
func (a account) ensure(ctx context.Context, c Cluster, s job.Server, old *session, say func(level, text string)) error {
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	if err := old.exec(ctx, "FLUSH PRIVILEGES"); err != nil {
		return err
	}
	refused := a.try(ctx, c, s)
	if refused == nil {
		return nil
	}
	say(attempt.Warn, fmt.Sprintf("the accounts of the primary keep drydock out (%s); %s is made again as it was", sqlReason(refused), a.name))
	if err := old.exec(ctx, a.makes); err != nil {
		return errors.New("make it again: " + sqlReason(err)) // the statement, which an error may quote, has a password's hash
	}
	for _, g := range a.grants {
		if err := old.exec(ctx, g); err != nil {
			say(attempt.Warn, "a grant of "+a.name+" could not be given back: "+sqlReason(err))
		}
	}
	return a.try(ctx, c, s)
}

// try logs in anew, and asks for what drydock needs most.
func (a account) try(ctx context.Context, c Cluster, s job.Server) error {
	fresh, err := openSession(ctx, c, s)
	if err != nil {
		return err
	}
	defer fresh.close()
	_, err = records(ctx, fresh.conn, "SHOW ALL SLAVES STATUS")
	return err
}
