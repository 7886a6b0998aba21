package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"drydock/internal/mariadbd"
	"drydock/job"
)

// startServers starts primary and replica and connects them.
func (d *demo) startServers(ctx context.Context) error {
	d.sql = &site{cluster: "sql", mode: job.SQL}
	d.api = &site{cluster: "api", mode: job.API, extra: apiExtra}
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, s := range d.sites() {
		wg.Go(func() {
			s.server, errs[i] = mariadbd.Start(ctx, mariadbd.Options{
				Dir: d.path("mariadb", s.cluster), Password: d.password, LogBin: true, Extra: s.settings(),
			})
		})
	}
	wg.Wait()
	for _, s := range d.sites() {
		if s.server != nil {
			d.cleanup.add("end server of cluster "+s.cluster, s.server.Kill) // its data are thrown away
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, s := range d.sites() {
		d.monitor("server of cluster "+s.cluster, s.server.Done(), func() error { return errors.New(lastLines(s.server.ErrorLog(), 3)) })
	}
	if err := mariadbd.Replicate(ctx, d.sql.server, d.api.server); err != nil {
		return err
	}
	d.say("primary %s and replica %s are up, replication by GTID runs", d.sql.server.Addr(), d.api.server.Addr())
	return nil
}

// settings are what the demo wants beside the defaults of package mariadbd.
func (s *site) settings() []string {
	lines := []string{"binlog-annotate-row-events=0"} // every INSERT would stand twice in three logs
	if s.mode == job.API {
		lines = append(lines, "read-only=1") // drydock's own account may write all the same, as it would in production
	}
	return lines
}

// fillServers generates the data and gives the logs something to tell.
func (d *demo) fillServers(ctx context.Context) error {
	began, drawn := time.Now(), time.Time{}
	err := mariadbd.Generate(ctx, d.sql.server, d.Size, func(done int64) {
		if time.Since(drawn) > drawEvery {
			drawn = time.Now()
			d.screen.draw([]string{fmt.Sprintf("writing on the primary: %s of %s", bytes(done), bytes(d.Size))})
		}
	})
	d.screen.erase()
	if err != nil {
		return err
	}
	d.say("%s written on the primary in %s; waiting for the replica", bytes(d.Size), seconds(time.Since(began)))
	if err := mariadbd.CatchUp(ctx, d.sql.server, d.api.server); err != nil {
		return err
	}
	for _, s := range d.sites() {
		if err := writeLogs(ctx, s.server); err != nil {
			return fmt.Errorf("give the logs of %s something to tell: %w", s.server.Addr(), err)
		}
	}
	d.say("the replica has it all; both servers logged three refused logins and three slow queries")
	return nil
}

// writeLogs makes a server write warnings to its error log and statements to its slow query log.
func writeLogs(ctx context.Context, s *mariadbd.Server) error {
	for range 3 {
		if err := refusedLogin(ctx, s); err != nil {
			return err
		}
	}
	db, err := s.DB()
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx) // the threshold belongs to the session
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SET long_query_time = 0"); err != nil {
		return err
	}
	for _, word := range []string{"abc", "xyz", "drydock"} {
		var n sql.NullInt64
		query := "SELECT COUNT(*) FROM shop.customers WHERE body LIKE '%" + word + "%' ORDER BY amount"
		if err := conn.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return err
		}
	}
	return nil
}

// refusedLogin tries a wrong password; that it works is the error.
func refusedLogin(ctx context.Context, s *mariadbd.Server) error {
	cfg := s.Config()
	cfg.User, cfg.Passwd, cfg.Logger = "intruder", "guess", &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var refused *mysql.MySQLError
	if err := db.PingContext(ctx); !errors.As(err, &refused) {
		return fmt.Errorf("log in with a wrong password: got %w", err)
	}
	return nil
}
