package binlog

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	dialTimeout = 5 * time.Second
	askTimeout  = 30 * time.Second
	// beat is how often a server that logs nothing says so.
	beat = time.Second
	// silence is how long nothing may come before the connection is given up: a dump thread that reads old files is not so quiet.
	silence = 30 * time.Second
	// maxEvent bounds one event, bytes: max_allowed_packet has no more.
	maxEvent = 1<<30 + 1<<20
)

// login is where and as whom a server is asked.
type login struct {
	addr, user, password string
	id                   uint32 // the server_id that the dump is asked for with
}

// tap is one connection to a server: first for SQL, through the driver, which does the handshake and the authentication. Then
// [tap.dump] makes it a stream of events, and nothing else may be asked any more.
type tap struct {
	login   login
	raw     net.Conn
	db      *sql.DB
	conn    *sql.Conn
	r       *bufio.Reader
	mariadb bool
	version string
}

func dial(ctx context.Context, l login) (*tap, error) {
	t := &tap{login: l}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", l.addr, l.user, l.password
	cfg.Timeout, cfg.Logger = dialTimeout, &mysql.NopLogger{}
	cfg.AllowNativePasswords = true
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		t.raw = c
		return c, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", l.addr, err)
	}
	t.db = sql.OpenDB(connector)
	t.db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if t.conn, err = t.db.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", l.addr, err), t.db.Close())
	}
	if err := t.conn.QueryRowContext(ctx, "SELECT @@version").Scan(&t.version); err != nil {
		t.close()
		return nil, fmt.Errorf("ask %s for its version: %w", l.addr, err)
	}
	t.mariadb = strings.Contains(t.version, "MariaDB")
	return t, nil
}

// close ends the connection, at once. It may be called from another goroutine to end a read.
func (t *tap) close() {
	if t.raw != nil {
		_ = t.raw.Close()
	}
	if t.conn != nil {
		_ = t.conn.Close()
	}
	_ = t.db.Close()
}

// logFile is one line of SHOW BINARY LOGS.
type logFile struct {
	name string
	size int64
}

// errNoLog is a server without a binary log.
var errNoLog = errors.New("its binary log is off: set log_bin and restart it")

const erNoBinlog = 1381

// logs lists the server's binary logs, oldest first.
func (t *tap) logs(ctx context.Context) ([]logFile, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rows, err := t.conn.QueryContext(ctx, "SHOW BINARY LOGS")
	var said *mysql.MySQLError
	if errors.As(err, &said) && said.Number == erNoBinlog {
		return nil, errNoLog
	}
	if err != nil {
		return nil, fmt.Errorf("list the binary logs: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out []logFile
	for rows.Next() {
		var l logFile
		into := make([]any, len(columns)) // MySQL has a third: encrypted
		for i := range into {
			into[i] = new(sql.RawBytes)
		}
		into[0], into[1] = &l.name, &l.size
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, rows.Err()
}

// dump asks for the events of a log from a position on. With once the stream ends (io.EOF) at the end of the last log.
func (t *tap) dump(ctx context.Context, file string, pos int64, once bool) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, stmt := range []string{
		"SET @master_binlog_checksum = @@global.binlog_checksum",
		"SET @source_binlog_checksum = @@global.binlog_checksum",
		"SET @master_heartbeat_period = " + strconv.FormatInt(beat.Nanoseconds(), 10),
		"SET @source_heartbeat_period = " + strconv.FormatInt(beat.Nanoseconds(), 10),
		"SET @mariadb_slave_capability = 4", // the events as they are in the file, GTIDs included
	} {
		if _, err := t.conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("prepare the dump: %w", err)
		}
	}
	body := []byte{0x12} // COM_BINLOG_DUMP
	body = binary.LittleEndian.AppendUint32(body, uint32(pos))
	var flags uint16
	if once {
		flags |= 1
	}
	if t.mariadb {
		flags |= 2 // the statements that row events came from, too
	}
	body = binary.LittleEndian.AppendUint16(body, flags)
	body = binary.LittleEndian.AppendUint32(body, t.login.id)
	body = append(body, file...)
	packet := append([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), 0}, body...)
	if err := t.raw.SetDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	if _, err := t.raw.Write(packet); err != nil {
		return fmt.Errorf("ask for the dump: %w", err)
	}
	t.r = bufio.NewReaderSize(t.raw, 256<<10)
	return nil
}

const erFatalReading = 1236 // what was asked for is not there

// event reads the next one. Errors: io.EOF at the end of a dump that is asked for once; *[mysql.MySQLError] for the server's words.
func (t *tap) event() (event, error) {
	if err := t.raw.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	p, err := t.packet()
	if err != nil {
		return nil, err
	}
	switch {
	case len(p) == 0:
		return nil, errors.New("read the dump: an empty packet")
	case p[0] == 0xfe && len(p) < 9:
		return nil, io.EOF
	case p[0] == 0xff && len(p) >= 3:
		text := p[3:]
		if len(text) >= 6 && text[0] == '#' {
			text = text[6:]
		}
		return nil, &mysql.MySQLError{Number: binary.LittleEndian.Uint16(p[1:]), Message: string(text)}
	case p[0] != 0 || len(p) < 1+headerLen:
		return nil, fmt.Errorf("read the dump: %w", ErrEvent)
	}
	return event(p[1:]), nil
}

// packet reads one packet of the protocol, which comes in pieces when it is large.
func (t *tap) packet() ([]byte, error) {
	const whole = 1<<24 - 1
	var out []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(t.r, head[:]); err != nil {
			return nil, fmt.Errorf("read the dump: %w", noEOF(err))
		}
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		if len(out)+n > maxEvent {
			return nil, errors.New("read the dump: an event is larger than 1 GiB")
		}
		at := len(out)
		out = append(out, make([]byte, n)...)
		if _, err := io.ReadFull(t.r, out[at:]); err != nil {
			return nil, fmt.Errorf("read the dump: %w", noEOF(err))
		}
		if n < whole {
			return out, nil
		}
		if err := t.raw.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return nil, err
		}
	}
}

// noEOF keeps a broken connection apart from the end of a dump.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// head is how a log begins: what tells it apart from another one of its name.
type head struct {
	format  format
	raw     event // the format description
	had     State // what was logged before; empty for MySQL
	sum     string
	created time.Time
}

// headReader adds up the first events of a log: the format description and the list of GTIDs.
type headReader struct {
	head
	parts []event
}

// add takes an event and says whether the head is complete; e is part of it unless other is true.
func (h *headReader) add(e event) (done, other bool, err error) {
	switch e.kind() {
	case evFormat:
		if h.format, err = parseFormat(e); err != nil {
			return false, false, err
		}
		h.raw, h.had, h.created = e, State{}, e.time()
	case evEncryption:
	case evGTIDList:
		if h.had, err = h.format.gtidList(e); err != nil {
			return false, false, err
		}
		done = true
	case evPreviousMySQL:
		done = true
	default:
		done, other = true, true
	}
	if h.raw == nil {
		return false, false, fmt.Errorf("%w: a log that begins with type %d", ErrEvent, e.kind())
	}
	if !other {
		h.parts = append(h.parts, e)
	}
	if done {
		hash := sha256.New()
		for _, p := range h.parts {
			_, _ = hash.Write(p)
		}
		h.sum = hex.EncodeToString(hash.Sum(nil)[:8])
	}
	return done, other, nil
}

// readHead reads how a log begins, over a connection of its own.
func readHead(ctx context.Context, l login, file string) (head, error) {
	t, err := dial(ctx, l)
	if err != nil {
		return head{}, err
	}
	defer t.close()
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	if err := t.dump(ctx, file, int64(len(magic)), true); err != nil {
		return head{}, err
	}
	var h headReader
	for {
		e, err := t.event()
		if errors.Is(err, io.EOF) && h.raw != nil {
			_, _, err := h.add(event(make([]byte, headerLen))) // nothing follows
			return h.head, err
		}
		if err != nil {
			return head{}, fmt.Errorf("read how %s begins: %w", file, err)
		}
		if e.flags()&flagArtificial != 0 && e.kind() == evRotate {
			if h.raw != nil {
				_, _, err := h.add(event(make([]byte, headerLen)))
				return h.head, err
			}
			continue
		}
		if e.kind() == evHeartbeat || e.kind() == evHeartbeatMySQL {
			continue
		}
		if done, _, err := h.add(e); done || err != nil {
			return h.head, err
		}
	}
}
