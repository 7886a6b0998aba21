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
	"drydock/internal/mariadbd"
	"drydock/job"
)

// user is the name that every entry's account has for drydock.
const user = "drydock"

// proxy lets many entries share a few real servers: each entry has a schema and an account of its own, which it knows by the names that all
// have. A jobs table holds one row a task.
type proxy struct {
	l     net.Listener
	to    []int // the ports of the real servers
	mu    sync.Mutex
	conns map[net.Conn]bool // all that are open; nil: it is being closed
	wg    sync.WaitGroup
}

func startProxy(to []int) (*proxy, error) {
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
	ip := from.LocalAddr().(*net.TCPAddr).IP
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.to[entry(ip)%len(p.to)]))
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

// prepareAccounts makes the accounts of all entries, each on its real server, and removes the tables of an earlier drydock: the first account by statements, the others as copies of its rows, since a
// GRANT takes the longer the more accounts there are.
func (b *bench) prepareAccounts(ctx context.Context, servers int) error {
	for k, of := range b.shares(servers) {
		if err := makeAccounts(ctx, b.dbs[k], of); err != nil {
			return fmt.Errorf("make the accounts of %d entries: %w", len(of), err)
		}
	}
	return nil
}

// shares are the entries of each real server that so many share.
func (b *bench) shares(servers int) [][]net.IP {
	shares := make([][]net.IP, len(b.sharing(servers)))
	for i := range servers {
		k := i % len(shares)
		shares[k] = append(shares[k], net.ParseIP(address(i)))
	}
	return shares
}

func makeAccounts(ctx context.Context, on *mariadbd.Server, of []net.IP) error {
	db, err := on.DB()
	if err != nil {
		return err
	}
	defer db.Close()
	first := account(of[0])
	for _, statement := range []string{
		"CREATE USER IF NOT EXISTS " + first + " IDENTIFIED BY '" + password + "'",
		"GRANT ALL PRIVILEGES ON " + schema(of[0]) + ".* TO " + first,
		"GRANT PROCESS, RELOAD, REPLICATION SLAVE, SLAVE MONITOR, BINLOG MONITOR, BINLOG ADMIN, READ ONLY ADMIN, CONNECTION ADMIN ON *.* TO " + first,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	var columns string // of mysql.db, but for the account and the schema
	if err := db.QueryRowContext(ctx, `SELECT GROUP_CONCAT(COLUMN_NAME) FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'db' AND COLUMN_NAME NOT IN ('User', 'Db')`).Scan(&columns); err != nil {
		return err
	}
	for _, ip := range of { // the live rows of a drydock before this one would be in the way
		if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+schema(ip)); err != nil {
			return err
		}
	}
	for _, ip := range of[1:] {
		_, errAccount := db.ExecContext(ctx, "REPLACE INTO mysql.global_priv SELECT Host, ?, Priv FROM mysql.global_priv WHERE User = ?", account(ip), first)
		_, errSchema := db.ExecContext(ctx, "REPLACE INTO mysql.db (User, Db, "+columns+") SELECT ?, ?, "+columns+" FROM mysql.db WHERE User = ?", account(ip), schema(ip), first)
		if err := errors.Join(errAccount, errSchema); err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, "FLUSH PRIVILEGES")
	return err
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
	for k, of := range b.shares(servers) {
		n, err := countRows(ctx, b.dbs[k], of)
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}

func countRows(ctx context.Context, on *mariadbd.Server, of []net.IP) (rows int, err error) {
	db, err := on.DB()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for _, ip := range of {
		var n int
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+schema(ip)+".jobs WHERE state = 0 AND done = 0").Scan(&n); err != nil {
			return rows, fmt.Errorf("count the rows of %s: %w", ip, err)
		}
		rows += n
	}
	return rows, nil
}
