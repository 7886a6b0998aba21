package mariadbd

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AwkwardTable is one of the tables Generate fills, named to break whatever
// quotes carelessly: a double quote, a hyphen and a letter outside ASCII.
const AwkwardTable = `we"ird-täble`

// statementBytes is the size of one INSERT; larger ones gain nothing.
const statementBytes = 1 << 20

// shopTable is one generated table: what it is and what share of the bytes it gets.
type shopTable struct {
	name    string
	engine  string
	share   int64 // in percent; the shares add up to 100
	payload int   // bytes of text in a row
}

// shop lists the tables by the connection that fills them. Each half takes
// about as long as the other, and no table has two writers: their keys would
// interleave and split every page into two half empty ones. Row sizes and
// engines are mixed; the Aria table is there because a backup has to copy such
// tables under a lock.
var shop = [][]shopTable{
	{{"orders", "InnoDB", 40, 1200}, {"customers", "InnoDB", 10, 200}},
	{{"order_lines", "InnoDB", 30, 400}, {AwkwardTable, "InnoDB", 10, 3000}, {"audit_trail", "Aria", 10, 600}},
}

// rowOverhead is about what a row takes beside its text: key, columns, header.
const rowOverhead = 48

// Generate fills the schema "shop" with about the given number of bytes of
// data and returns when it is committed. The text is made of random words, so
// it compresses like real data. Calls add up. progress, if not nil, is told
// the bytes written so far after each statement, never twice at a time.
// With a binary log, all of it is logged.
func Generate(ctx context.Context, s *Server, size int64, progress func(done int64)) error {
	cfg := s.Config()
	cfg.MaxAllowedPacket = 64 << 20
	db, err := open(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := createShop(ctx, db); err != nil {
		return fmt.Errorf("generate data: %w", err)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := filler{db: db, words: newVocabulary(), report: progress}
	var wg sync.WaitGroup
	for i, tables := range shop {
		wg.Go(func() {
			if err := f.fill(ctx, uint64(i), tables, size); err != nil {
				cancel(err) // the first error stops the other writer
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("generate data: %w", err)
	}
	return nil
}

func createShop(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS shop"); err != nil {
		return err
	}
	for _, t := range slices.Concat(shop...) {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+t.ident()+` (
			id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
			ref INT UNSIGNED NOT NULL,
			amount DECIMAL(10,2) NOT NULL,
			created DATETIME NOT NULL,
			body TEXT NOT NULL) ENGINE=`+t.engine)
		if err != nil {
			return fmt.Errorf("create table %s: %w", t.name, err)
		}
	}
	return nil
}

func (t shopTable) ident() string {
	return "shop.`" + strings.ReplaceAll(t.name, "`", "``") + "`"
}

// filler writes rows and counts what it wrote.
type filler struct {
	db     *sql.DB
	words  vocabulary
	mu     sync.Mutex // guards done, and serialises report
	done   int64
	report func(done int64)
}

// fill gives each table its share of size, over one connection.
func (f *filler) fill(ctx context.Context, seed uint64, tables []shopTable, size int64) error {
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	rng := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano())))
	var stmt bytes.Buffer
	for _, t := range tables {
		for left := size * t.share / 100; left > 0; left -= statementBytes {
			n := min(left, statementBytes)
			stmt.Reset()
			f.compose(&stmt, rng, t, n)
			if _, err := conn.ExecContext(ctx, stmt.String()); err != nil {
				return fmt.Errorf("insert into %s: %w", t.name, err)
			}
			f.count(n)
		}
	}
	return nil
}

func (f *filler) count(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += n
	if f.report != nil {
		f.report(f.done)
	}
}

// compose writes an INSERT of about size bytes of rows.
func (f *filler) compose(stmt *bytes.Buffer, rng *rand.Rand, t shopTable, size int64) {
	fmt.Fprintf(stmt, "INSERT INTO %s (ref, amount, created, body) VALUES ", t.ident())
	for left := size; left > 0; left -= int64(t.payload) + rowOverhead {
		if left != size {
			stmt.WriteByte(',')
		}
		stmt.WriteByte('(')
		stmt.Write(strconv.AppendUint(stmt.AvailableBuffer(), uint64(rng.Uint32()), 10))
		fmt.Fprintf(stmt, ",%d.%02d,'2024-%02d-%02d 10:%02d:00','",
			rng.IntN(10000), rng.IntN(100), 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(60))
		f.words.text(stmt, rng, t.payload)
		stmt.WriteString("')")
	}
}

// vocabulary is a fixed set of random words of eight letters, each with its
// space. None needs quoting.
type vocabulary [4096][9]byte

func newVocabulary() (words vocabulary) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range words {
		for j := range words[i] {
			words[i][j] = 'a' + byte(rng.IntN(26))
		}
		words[i][len(words[i])-1] = ' '
	}
	return words
}

// text appends n bytes of words.
func (v *vocabulary) text(to *bytes.Buffer, rng *rand.Rand, n int) {
	for n > 0 {
		bits := rng.Uint64() // enough for five words
		for range 5 {
			word := v[bits%uint64(len(v))][:]
			bits /= uint64(len(v))
			word = word[:min(n, len(word))]
			to.Write(word)
			n -= len(word)
		}
	}
}
