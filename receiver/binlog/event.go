package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// The event types that are looked into; all others are bytes.
const (
	evQuery           = 2
	evStop            = 3
	evRotate          = 4
	evFormat          = 15
	evXID             = 16
	evIncident        = 26
	evHeartbeat       = 27
	evGTIDMySQL       = 33
	evAnonymous       = 34
	evPreviousMySQL   = 35
	evXAPrepare       = 38
	evHeartbeatMySQL  = 41
	evCheckpoint      = 161
	evGTID            = 162
	evGTIDList        = 163
	evEncryption      = 164
	evQueryCompressed = 165
)

const (
	headerLen = 19
	crcLen    = 4
	magic     = "\xfebin"

	flagArtificial = 0x20 // made by the server that sends it: not in its file
	flagStandalone = 1    // of a GTID event: one statement without COMMIT

	checksumCRC32 = 1
)

// ErrEvent is in the chain of every error that says that bytes are no events of a binary log.
var ErrEvent = errors.New("not an event of a binary log")

// event is one event with its checksum, as it stands in the file.
type event []byte

func (e event) when() uint32   { return binary.LittleEndian.Uint32(e) }
func (e event) kind() byte     { return e[4] }
func (e event) server() uint32 { return binary.LittleEndian.Uint32(e[5:]) }
func (e event) size() int64    { return int64(binary.LittleEndian.Uint32(e[9:])) }
func (e event) end() int64     { return int64(binary.LittleEndian.Uint32(e[13:])) }
func (e event) flags() uint16  { return binary.LittleEndian.Uint16(e[17:]) }

// time is zero for an event that has none.
func (e event) time() time.Time {
	if e.when() == 0 {
		return time.Time{}
	}
	return time.Unix(int64(e.when()), 0).UTC()
}

// sum is the CRC-32 of the whole event, to know it again.
func (e event) sum() uint32 { return crc32.ChecksumIEEE(e) }

// format is what a format description event says.
type format struct {
	version  string // of the server
	checksum byte
	created  time.Time
}

// mariadb tells the two dialects apart.
func (f format) mariadb() bool { return bytes.Contains([]byte(f.version), []byte("MariaDB")) }

// parseFormat reads a format description event, which has a checksum whatever it says of the others.
func parseFormat(e event) (format, error) {
	const fixed = headerLen + 2 + 50 + 4 + 1
	if len(e) < fixed+1+crcLen || int64(len(e)) != e.size() || e.kind() != evFormat {
		return format{}, fmt.Errorf("%w: no format description", ErrEvent)
	}
	f := format{created: e.time(), checksum: e[len(e)-crcLen-1]}
	f.version = string(bytes.TrimRight(e[headerLen+2:headerLen+52], "\x00"))
	if binary.LittleEndian.Uint16(e[headerLen:]) != 4 {
		return f, fmt.Errorf("%w: the log is of another version than 4", ErrEvent)
	}
	return f, f.check(e)
}

// check compares an event with its length and checksum. That of a format description leaves out the mark that the log is in use.
func (f format) check(e event) error {
	if len(e) < headerLen || int64(len(e)) != e.size() {
		return fmt.Errorf("%w: it says it has another length", ErrEvent)
	}
	if f.checksum != checksumCRC32 {
		return nil
	}
	if len(e) < headerLen+crcLen {
		return fmt.Errorf("%w: it has no room for its checksum", ErrEvent)
	}
	body := e[:len(e)-crcLen]
	if e.kind() == evFormat && e.flags()&1 != 0 {
		body = bytes.Clone(body)
		body[17] &^= 1
	}
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(e[len(e)-crcLen:]) {
		return fmt.Errorf("%w: the checksum of the event that ends at %d is wrong", ErrEvent, e.end())
	}
	return nil
}

// body is the event without header and checksum.
func (f format) body(e event) []byte {
	if f.checksum == checksumCRC32 && len(e) >= headerLen+crcLen {
		return e[headerLen : len(e)-crcLen]
	}
	return e[headerLen:]
}

// rotate reads where a rotate event leads.
func (f format) rotate(e event) (file string, pos int64, err error) {
	b := f.body(e)
	if len(b) < 9 {
		return "", 0, fmt.Errorf("%w: rotate event too short", ErrEvent)
	}
	return string(b[8:]), int64(binary.LittleEndian.Uint64(b)), nil
}

// gtid reads a GTID event of MariaDB.
func (f format) gtid(e event) (g GTID, standalone bool, err error) {
	b := f.body(e)
	if len(b) < 13 {
		return g, false, fmt.Errorf("%w: GTID event too short", ErrEvent)
	}
	g = GTID{Domain: binary.LittleEndian.Uint32(b[8:]), Server: e.server(), Seq: binary.LittleEndian.Uint64(b)}
	return g, b[12]&flagStandalone != 0, nil
}

// gtidList reads the list at the head of a log of MariaDB: all that was logged before. Of each domain the last one counts.
func (f format) gtidList(e event) (State, error) {
	b := f.body(e)
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: GTID list too short", ErrEvent)
	}
	n := int(binary.LittleEndian.Uint32(b) & (1<<28 - 1))
	b = b[4:]
	if len(b) < 16*n {
		return nil, fmt.Errorf("%w: GTID list too short", ErrEvent)
	}
	s := State{}
	for ; n > 0; n, b = n-1, b[16:] {
		g := GTID{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}
		s[g.Domain] = g
	}
	return s, nil
}

// statement is the text of a query event; empty when it is compressed, which no BEGIN or COMMIT ever is.
func (f format) statement(e event) string {
	b := f.body(e)
	if e.kind() != evQuery || len(b) < 13 {
		return ""
	}
	skip := 13 + int(binary.LittleEndian.Uint16(b[11:])) + int(b[8]) + 1
	if len(b) < skip {
		return ""
	}
	return string(b[skip:])
}
