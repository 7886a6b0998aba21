// Package xbstream checks the stream format of mariabackup and xtrabackup while it passes by.
//
// It finds what an exit status and an end line do not: a stream that was cut, also between two files, a flipped bit, a file
// that never ended, a file that stands in the stream twice, which a backup under a concurrent table rebuild can produce
// and no tool unpacks, and a file whose folder no tool makes. It does not unpack anything.
//
// The stream is a sequence of chunks. All numbers are little-endian.
//
//	size  field
//	8     magic "XBSTCK01"
//	1     flags; bit 0: an unknown kind may be passed over; bit 1: the payload begins a file anew that was streamed before
//	      (mariabackup: its table was made anew meanwhile); else 0
//	1     kind: 'P' payload, 'E' end of file; 'S' sparse payload (xtrabackup) or seek (mariabackup);
//	      'R' rename and 'D' remove (mariabackup), for what happened to a file after it was streamed
//	4     length of the path
//	n     path
//	      'R' only:
//	4     length of the new path
//	n     new path
//	      seek only:
//	8     offset at which the file goes on
//	      'P', sparse 'S', and unknown kinds that may be passed over:
//	4     number of entries of the sparse map (sparse only)
//	8     length of the payload
//	8     offset of the payload in its file
//	4     CRC-32 (IEEE) of the sparse map and the payload
//	8 × m sparse map (sparse only); of each entry 4 bytes are the hole before its part, 4 the length of the part
//	      payload
//
// What it cannot find: a file without payload that changed its name or went, and a changed name in a rename or remove, as
// nothing else in the stream repeats it; and a payload that was changed together with its checksum. The tools do not find
// that either: the hash of the sent bytes and, of what matters to the server, a drill do.
package xbstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
)

// The defects a stream can have; each is wrapped with where it is.
var (
	ErrTruncated = errors.New("stream is truncated")
	ErrMagic     = errors.New("chunk does not begin as one")
	ErrKind      = errors.New("chunk is of no known kind")
	ErrLength    = errors.New("length or offset is not possible")
	ErrChecksum  = errors.New("checksum does not match")
	ErrOpenFile  = errors.New("file has no end")
	ErrTwice     = errors.New("file stands in the stream twice")
	ErrOffset    = errors.New("payload does not continue its file")
	ErrPath      = errors.New("path is not allowed")
	ErrEmpty     = errors.New("stream holds no file")
	ErrUnended   = errors.New("backup is not complete")
	// ErrRename is a stream that mbstream 10.11.19 does not unpack, though nothing is missing: it looks at the checksum of the
	// last payload again when a file ends, and the new name of a rename lies in its buffer.
	ErrRename = errors.New("an end without payload follows a rename of a table, which mbstream does not unpack")
)

// lastFiles are written by the tools when all else is in the stream: without them it was cut between two files. Each has
// the names of several versions; compression and encryption by the tool add a suffix.
var lastFiles = [][]string{
	{"xtrabackup_checkpoints", "mariadb_backup_checkpoints"},
	{"xtrabackup_info", "mariadb_backup_info"},
}

const (
	magic     = "XBSTCK01"
	headSize  = len(magic) + 1 + 1 + 4
	maxPath   = 4096    // as the tools' FN_REFLEN, with room
	maxSparse = 1 << 20 // entries
	maxFiles  = 1 << 22 // remembered; a stream of more is looked at no further, so that nobody can fill the memory
)

const (
	typePayload = 'P'
	typeSparse  = 'S' // or a seek
	typeRename  = 'R'
	typeRemove  = 'D'
	typeEOF     = 'E'
	typePassed  = 0 // unknown, may be passed over
)

// Checker is an [io.Writer] that reads a stream. Write never fails and never holds the stream up: the defect found is
// kept, and nothing is looked at after it. Not safe for concurrent use. The zero value is not ready; see [New].
type Checker struct {
	need   int    // bytes wanted before step is called
	have   []byte // of them, gathered so far; only while they are spread over several writes
	step   func([]byte) error
	copyN  int64 // payload bytes that go to the checksum instead of being gathered
	pos    int64 // in the stream
	begin  int64 // of the chunk
	whole  int64 // where the last whole chunk ended
	err    error
	opaque string // why the rest is not looked at, though nothing is wrong

	kind   byte
	anew   bool // the payload may begin a file anew
	stale  bool // a rename came after the last payload
	path   string
	first  []byte // what follows the path of an 'S', until it is known what it is
	length int64
	offset int64
	sum    uint32 // that the chunk says
	crc    uint32 // over what came

	files   map[string]*file
	open    int             // of them, not ended
	folders map[string]bool // that the files are in
}

// file is what is known of one file in the stream.
type file struct {
	next  int64 // offset that the next payload must have
	ended bool
}

// New makes a checker for one stream.
func New() *Checker {
	c := &Checker{files: map[string]*file{}, folders: map[string]bool{".": true}}
	c.next()
	return c
}

// next begins a chunk.
func (c *Checker) next() {
	c.whole = c.pos
	c.expect(headSize, c.head)
}

func (c *Checker) expect(n int, step func([]byte) error) { c.need, c.step = n, step }

// Write takes the next bytes. It always returns len(p), nil.
func (c *Checker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && c.err == nil && c.opaque == ""; {
		rest = c.take(rest)
	}
	return len(p), nil
}

// take uses some bytes and returns the others.
func (c *Checker) take(p []byte) []byte {
	if c.copyN > 0 {
		n := min(c.copyN, int64(len(p)))
		c.crc = crc32.Update(c.crc, crc32.IEEETable, p[:n])
		c.copyN -= n
		c.pos += n
		if c.copyN == 0 {
			c.fail(c.payloadEnd())
		}
		return p[n:]
	}
	n := min(c.need-len(c.have), len(p))
	field := p[:n]
	if len(c.have) > 0 || n < c.need {
		c.have = append(c.have, field...)
		field = c.have
	}
	c.pos += int64(n)
	if len(field) == c.need {
		c.fail(c.step(field))
		c.have = c.have[:0]
	}
	return p[n:]
}

func (c *Checker) fail(err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("%w (chunk at byte %d%s)", err, c.begin, named(c.path))
	}
}

func named(path string) string {
	if path == "" {
		return ""
	}
	return fmt.Sprintf(", file %q", path)
}

func (c *Checker) head(b []byte) error {
	c.begin, c.path = c.pos-int64(headSize), ""
	if string(b[:len(magic)]) != magic {
		return ErrMagic
	}
	return c.afterMagic(b[len(magic):])
}

func (c *Checker) afterMagic(b []byte) error {
	const ignorable, rewrite = 1, 2
	flags, n := b[0], binary.LittleEndian.Uint32(b[2:])
	c.kind, c.anew = b[1], false
	switch c.kind {
	case typePayload:
		c.anew, flags = flags&rewrite != 0, flags&^rewrite
		fallthrough
	case typeSparse, typeRename, typeRemove, typeEOF:
		if flags != 0 { // no tool sets one, and none looks at it
			return fmt.Errorf("%w: kind %q with flags %#x", ErrKind, c.kind, flags)
		}
	default:
		if flags != ignorable {
			return fmt.Errorf("%w: %q", ErrKind, c.kind)
		}
		c.kind = typePassed
	}
	return c.expectPath(n, c.gotPath)
}

func (c *Checker) expectPath(n uint32, then func([]byte) error) error {
	if n == 0 || n > maxPath {
		return fmt.Errorf("%w: length %d", ErrPath, n)
	}
	c.expect(int(n), then)
	return nil
}

// pathOf refuses what tools refuse or take for another name.
func pathOf(b []byte) (string, error) {
	name := string(b)
	if !filepath.IsLocal(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%w: %q", ErrPath, name)
	}
	return name, nil
}

func (c *Checker) gotPath(b []byte) (err error) {
	if c.path, err = pathOf(b); err != nil {
		return err
	}
	switch c.kind {
	case typeEOF:
		return c.end()
	case typeRemove:
		return c.remove()
	case typeRename:
		c.expect(4, func(b []byte) error { return c.expectPath(binary.LittleEndian.Uint32(b), c.rename) })
	case typeSparse:
		c.expect(8+len(magic), c.sparseOrSeek)
	default:
		c.expect(8+8+4, func(b []byte) error { return c.payloadHead(b, 0) })
	}
	return nil
}

// sparseOrSeek tells the two apart: after the offset of a seek the next chunk begins, where a sparse one has the upper half
// of a length, which is never that large.
func (c *Checker) sparseOrSeek(b []byte) error {
	if string(b[8:]) != magic {
		c.first = append(c.first[:0], b...)
		c.expect(4+8+8+4-len(b), c.sparseHead)
		return nil
	}
	f, err := c.file()
	if err != nil {
		return err
	}
	if f.ended {
		return ErrTwice
	}
	if f.next = int64(binary.LittleEndian.Uint64(b)); f.next < 0 {
		return fmt.Errorf("%w: seek to %d", ErrLength, f.next)
	}
	c.begin, c.path = c.pos-int64(len(magic)), ""
	c.expect(headSize-len(magic), c.afterMagic)
	return nil
}

func (c *Checker) sparseHead(b []byte) error {
	head := append(c.first, b...)
	n := binary.LittleEndian.Uint32(head)
	if n > maxSparse {
		return fmt.Errorf("%w: sparse map of %d entries", ErrLength, n)
	}
	return c.payloadHead(head[4:], int(n))
}

// payloadHead takes the fields before the sparse map of so many entries, or before the payload.
func (c *Checker) payloadHead(b []byte, sparse int) error {
	c.length = int64(binary.LittleEndian.Uint64(b))
	c.offset = int64(binary.LittleEndian.Uint64(b[8:]))
	c.sum = binary.LittleEndian.Uint32(b[16:])
	c.crc = 0
	if c.length < 0 || c.offset < 0 || c.offset+c.length < 0 {
		return fmt.Errorf("%w: length %d at %d", ErrLength, c.length, c.offset)
	}
	if sparse > 0 {
		c.expect(8*sparse, c.sparseMap)
		return nil
	}
	return c.payload(0)
}

func (c *Checker) sparseMap(b []byte) error {
	c.crc = crc32.ChecksumIEEE(b)
	var holes int64
	for ; len(b) > 0; b = b[8:] {
		holes += int64(binary.LittleEndian.Uint32(b))
	}
	return c.payload(holes)
}

// payload begins one that spans so many bytes of holes, too.
func (c *Checker) payload(holes int64) error {
	if err := c.continues(holes); err != nil {
		return err
	}
	c.stale = false
	if c.copyN = c.length; c.copyN == 0 {
		return c.payloadEnd()
	}
	return nil
}

// continues checks that the payload belongs where its file is. A file that has ended must not go on: the tools would
// create it a second time.
func (c *Checker) continues(holes int64) error {
	if c.kind == typePassed {
		return nil
	}
	f, err := c.file()
	if err != nil {
		return err
	}
	if f.ended && c.anew {
		*f = file{}
		c.open++
	}
	if f.ended {
		return ErrTwice
	}
	if c.offset != f.next {
		return fmt.Errorf("%w: at %d, expected %d", ErrOffset, c.offset, f.next)
	}
	f.next = c.offset + holes + c.length
	return nil
}

// file is what is known of the chunk's file, which may be a new one.
func (c *Checker) file() (*file, error) {
	f := c.files[c.path]
	if f != nil {
		return f, nil
	}
	if err := c.enter(filepath.Dir(c.path)); err != nil {
		return nil, err
	}
	f = &file{}
	c.files[c.path] = f
	c.open++
	if len(c.files) > maxFiles {
		c.opaque = fmt.Sprintf("more than %d files", maxFiles)
	}
	return f, nil
}

// enter makes the folder of a new file, as the tools do: one that lies in a folder that is there, and never two at once.
func (c *Checker) enter(folder string) error {
	if !c.folders[folder] && !c.folders[filepath.Dir(folder)] {
		return fmt.Errorf("%w: nothing made the folder that %q is in", ErrPath, folder)
	}
	c.folders[folder] = true
	return nil
}

func (c *Checker) payloadEnd() error {
	c.next()
	if c.crc != c.sum {
		return fmt.Errorf("%w: %08x, the chunk says %08x", ErrChecksum, c.crc, c.sum)
	}
	return nil
}

func (c *Checker) end() error {
	c.next()
	f, err := c.file() // an empty file is an end alone
	if err != nil {
		return err
	}
	if f.ended {
		return ErrTwice
	}
	if c.stale && c.length > 0 {
		return ErrRename
	}
	f.ended = true
	c.open--
	return nil
}

// rename gives an ended file another name, also one that another file had. A tool tells it of files, too, that it has not
// streamed, and removes such.
func (c *Checker) rename(b []byte) error {
	c.next()
	c.stale = true
	name, err := pathOf(b)
	if err != nil {
		return err
	}
	for _, path := range []string{c.path, name} {
		if f := c.files[path]; f != nil && !f.ended {
			return fmt.Errorf("%w: it is renamed to %q", ErrOpenFile, name)
		}
	}
	if f := c.files[c.path]; f != nil {
		delete(c.files, c.path)
		c.files[name] = f
	}
	return nil
}

func (c *Checker) remove() error {
	c.next()
	if f := c.files[c.path]; f != nil && !f.ended {
		return fmt.Errorf("%w: it is removed", ErrOpenFile)
	}
	delete(c.files, c.path)
	return nil
}

// Close says what is wrong with the stream that was written, nil if nothing is.
// Errors: one of the Err values of this package.
func (c *Checker) Close() error {
	switch {
	case c.err != nil:
		return c.err
	case c.opaque != "":
		return nil
	case c.pos != c.whole:
		return fmt.Errorf("%w at byte %d%s", ErrTruncated, c.pos, named(c.path))
	case len(c.files) == 0:
		return ErrEmpty
	case c.open > 0:
		return fmt.Errorf("%w: %s", ErrOpenFile, c.openFiles())
	}
	for _, names := range lastFiles {
		if !c.has(names) {
			return fmt.Errorf("%w: the tool's file %q, which it writes at the end, is not in it", ErrUnended, names[0])
		}
	}
	return nil
}

// has reports whether one of the names is in the stream.
func (c *Checker) has(names []string) bool {
	for _, name := range names {
		for path := range c.files {
			if path == name || strings.HasPrefix(path, name+".") {
				return true
			}
		}
	}
	return false
}

func (c *Checker) openFiles() string {
	const few = 3
	var names []string
	for path, f := range c.files {
		if !f.ended {
			names = append(names, path)
		}
	}
	slices.Sort(names)
	return fmt.Sprintf("%d of %d, such as %q", c.open, len(c.files), names[:min(few, len(names))])
}

// Files is how many files the stream holds.
func (c *Checker) Files() int { return len(c.files) }

// Opaque says why only the beginning of the stream was looked at; "" if all of it was.
func (c *Checker) Opaque() string { return c.opaque }
