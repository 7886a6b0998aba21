package jobtable_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/gateway/jobtable"
	"drydock/internal/mariadbd"
	"drydock/internal/mariadbdtest"
	"drydock/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// oddPassword has what a DSN, a shell and an option file would trip over.
const oddPassword = "p'a\"s s$w\\o%r&d@tcp(x)/?é#"

func server(t *testing.T, opts mariadbd.Options) *mariadbd.Server {
	t.Helper()
	if opts.Password == "" {
		opts.Password = oddPassword
	}
	return mariadbdtest.Start(t, opts)
}

func addr(s *mariadbd.Server) job.Server { return job.Server{Host: "127.0.0.1", Port: s.Port()} }

// open is a second process's access; several may be open.
func open(t *testing.T, s *mariadbd.Server) *jobtable.Table {
	t.Helper()
	tab := jobtable.Open(addr(s), s.User(), s.Password())
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

func ready(t *testing.T, s *mariadbd.Server) *jobtable.Table {
	t.Helper()
	tab := open(t, s)
	if err := tab.Setup(bound(t)); err != nil {
		t.Fatal(err)
	}
	return tab
}

func bound(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// as is a session of another program: a script, a DBA, a backup.
func as(t *testing.T, s *mariadbd.Server) *sql.Conn {
	t.Helper()
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(bound(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = db.Close() })
	return c
}

func run(t *testing.T, c *sql.Conn, stmts ...string) {
	t.Helper()
	for _, stmt := range stmts {
		if _, err := c.ExecContext(bound(t), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

// text is all rows of a query, columns joined by | and rows by newlines.
func text(t *testing.T, c *sql.Conn, query string) string {
	t.Helper()
	rows, err := c.QueryContext(bound(t), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		vals, ptrs := make([]sql.NullString, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		line := make([]string, len(cols))
		for i, v := range vals {
			line[i] = v.String
		}
		out = append(out, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

var morning = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// jobAt is attempt 1 of the job of a task that was due n minutes after the morning.
func jobAt(s *mariadbd.Server, task string, n int) job.Job {
	key := job.Key{Cluster: "prod", Server: addr(s), Task: task}
	due := morning.Add(time.Duration(n) * time.Minute)
	return job.Job{State: job.Queued, ID: job.NewID(due, "t", key), Cluster: key.Cluster, Server: key.Server, Task: task, Attempt: 1, Due: due}
}

func insert(t *testing.T, tab *jobtable.Table, j job.Job) int64 {
	t.Helper()
	row, err := tab.Insert(bound(t), j, "10.0.0.9", 4000)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func rows(t *testing.T, tab *jobtable.Table) map[string]jobtable.Row {
	t.Helper()
	r, err := tab.Rows(bound(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
