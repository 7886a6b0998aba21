package local

import (
	"database/sql"
	"time"

	"drydock/job"
)

// Open prepares connections to a server, one at a time, each answer within timeout. It connects to nothing yet; the
// caller closes it.
func Open(s job.Server, user, password string, timeout time.Duration) *sql.DB {
	c := sqlConfig(s, user, password)
	c.ReadTimeout = timeout
	db := sql.OpenDB(connector(c))
	db.SetMaxOpenConns(1)
	return db
}
