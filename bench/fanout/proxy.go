package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"drydock/gateway/jobtable"
	"drydock/job"
)

// user is the name that every entry's account has for drydock.
const user = "drydock"

// proxy lets many entries share one real server: each has a schema and an account of its own, which it knows by the names that all
// have. A jobs table holds one row a task.
type proxy struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	conns map[net.Conn]bool // all that are open; nil: it is being closed
	wg    sync.WaitGroup
}

func startProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, to: to, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(conn) })
		}
	})
	return p, nil
}

func (p *proxy) port() int { return p.l.Addr().(*net.TCPAddr).Port }

func (p *proxy) close() error {
	err := p.l.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// keep has a connection end with the proxy, and reports false when that is over.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) pass(from net.Conn) {
	defer p.drop(from)
	to, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.drop(to)
	if !p.keep(from) || !p.keep(to) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		from.Close()
	})
	ip := from.LocalAddr().(*net.TCPAddr).IP
	buf, name, own := make([]byte, 64<<10), []byte(user+"\x00"), []byte(account(ip)+"\x00") // in the first packet
	for {
		n, err := from.Read(buf) // a statement of the driver is one write, and much shorter
		if _, werr := to.Write(bytes.ReplaceAll(buf[:n], name, own)); err != nil || werr != nil {
			break
		}
		name, own = []byte(jobtable.Database), []byte(schema(ip))
	}
	to.Close()
	back.Wait()
}

// schema is the name of an entry's own schema, as long as the one that it knows.
func schema(ip net.IP) string {
	prefix := jobtable.Database[:len(jobtable.Database)-9]
	ip = ip.To4()
	return fmt.Sprintf("%s%03d%03d%03d", prefix, ip[1], ip[2], ip[3])
}

// account is the name of an entry's own account, as long as the one that it knows. It sees no schema but its own: a thousand entries
// that list the tables of all would list a million.
func account(ip net.IP) string {
	ip = ip.To4()
	return fmt.Sprintf("%c%03d%03d", 'a'+ip[1], ip[2], ip[3])
}

// prepareAccounts makes the accounts of all entries: the first by statements, the others as copies of its rows, since a GRANT takes the longer
// the more accounts there are.
func (b *bench) prepareAccounts(ctx context.Context, servers int) error {
	db, err := b.dbs[0].DB()
	if err != nil {
		return err
	}
	defer db.Close()
	first := net.ParseIP(address(0))
	do := func(ip net.IP, statement string, args ...any) error {
		if _, err := db.ExecContext(ctx, statement, args...); err != nil {
			return fmt.Errorf("make the account of %s: %w", ip, err)
		}
		return nil
	}
	for _, statement := range []string{
		"CREATE USER IF NOT EXISTS %s IDENTIFIED BY '" + password + "'",
		"GRANT ALL PRIVILEGES ON " + schema(first) + ".* TO %s",
		"GRANT PROCESS, RELOAD, REPLICATION SLAVE, SLAVE MONITOR, BINLOG MONITOR, BINLOG ADMIN, READ ONLY ADMIN, CONNECTION ADMIN ON *.* TO %s",
	} {
		if err := do(first, fmt.Sprintf(statement, account(first))); err != nil {
			return err
		}
	}
	var columns string // of mysql.db, but for the account and the schema
	if err := db.QueryRowContext(ctx, `SELECT GROUP_CONCAT(COLUMN_NAME) FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'db' AND COLUMN_NAME NOT IN ('User', 'Db')`).Scan(&columns); err != nil {
		return err
	}
	for i := 1; i < servers; i++ {
		ip := net.ParseIP(address(i))
		err := errors.Join(
			do(ip, "REPLACE INTO mysql.global_priv SELECT Host, ?, Priv FROM mysql.global_priv WHERE User = ?", account(ip), account(first)),
			do(ip, "REPLACE INTO mysql.db (User, Db, "+columns+") SELECT ?, ?, "+columns+" FROM mysql.db WHERE User = ?", account(ip), schema(ip), account(first)))
		if err != nil {
			return err
		}
	}
	return do(first, "FLUSH PRIVILEGES")
}

// prepareTables makes the jobs tables as drydock does: with a real server for each entry they were there since the first job.
func (b *bench) prepareTables(ctx context.Context, servers, port int) error {
	var wg sync.WaitGroup
	const width = 8
	room := make(chan struct{}, width)
	errs := make([]error, servers)
	for i := range servers {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			t := jobtable.Open(job.Server{Host: address(i), Port: port}, b.dbs[0].User(), password)
			errs[i] = errors.Join(t.Setup(ctx), t.Close())
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// rowsIn counts the rows of all entries' tables that a script may take.
func (b *bench) rowsIn(ctx context.Context, servers int) (rows int, err error) {
	db, err := b.dbs[0].DB()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for i := range servers {
		var n int
		name := schema(net.ParseIP(address(i)))
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+name+".jobs WHERE state = 0 AND done = 0").Scan(&n); err != nil {
			return rows, fmt.Errorf("count the rows of %s: %w", name, err)
		}
		rows += n
	}
	return rows, nil
}
