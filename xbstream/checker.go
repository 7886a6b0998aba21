// Package xbstream checks the stream format of mariabackup and xtrabackup while it passes by.
//
// It finds what an exit status and an end line do not: a stream that was truncated, a flipped bit, a file that never
// ended, and a file that stands in the stream twice, which a backup under a concurrent table rebuild can produce and no
// tool unpacks. It does not unpack anything.
//
// The stream is a sequence of chunks. All numbers are little-endian.
//
//	size  field
//	8     magic "XBSTCK01"
//	1     flags; bit 0: an unknown chunk may be ignored
//	1     type: 'P' payload, 'S' sparse payload (xtrabackup), 'E' end of file
//	4     length of the path
//	n     path
//	      then for 'P' and 'S':
//	4     number of entries of the sparse map ('S' only)
//	8     length of the payload
//	8     offset of the payload in its file
//	4     CRC-32 (IEEE) of the sparse map and the payload
//	8 × m sparse map ('S' only)
//	      payload
package xbstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The defects a stream can have; each is wrapped with where it is.
var (
	ErrTruncated = errors.New("stream is truncated")
	ErrMagic     = errors.New("chunk does not begin as one")
	ErrChecksum  = errors.New("checksum does not match")
	ErrOpenFile  = errors.New("file has no end")
	ErrTwice     = errors.New("file stands in the stream twice")
	ErrOffset    = errors.New("payload does not continue its file")
	ErrPath      = errors.New("path is not allowed")
	ErrEmpty     = errors.New("stream holds no file")
)

const (
	magic     = "XBSTCK01"
	headSize  = len(magic) + 1 + 1 + 4
	maxPath   = 4096    // as the tools' FN_REFLEN, with room
	maxSparse = 1 << 20 // entries
	maxFiles  = 1 << 22 // remembered; a stream of more is looked at no further, so that nobody can fill the memory
)

const (
	typePayload = 'P'
	typeSparse  = 'S'
	typeEOF     = 'E'
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
	err    error
	opaque string // why the rest is not looked at, though nothing is wrong

	kind   byte
	path   string
	sparse int // bytes of the sparse map
	length int64
	offset int64
	sum    uint32 // that the chunk says
	crc    uint32 // over what came

	files map[string]*file
	ended int
}

// file is what is known of one file in the stream.
type file struct {
	next  int64 // offset that the next plain payload must have
	ended bool
}

// New makes a checker for one stream.
func New() *Checker {
	c := &Checker{files: map[string]*file{}}
	c.expect(headSize, c.head)
	return c
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
	flags, kind := b[8], b[9]
	n := binary.LittleEndian.Uint32(b[10:])
	switch kind {
	case typePayload, typeSparse, typeEOF:
	default:
		if flags&1 == 0 || kind != 0 {
			// A newer tool may know more kinds. Not knowing one is no proof of damage, and beyond it nothing can be read.
			c.opaque = fmt.Sprintf("chunk kind %q at byte %d is not known", kind, c.begin)
			return nil
		}
	}
	if n == 0 || n > maxPath {
		return fmt.Errorf("%w: length %d", ErrPath, n)
	}
	c.kind = kind
	c.expect(int(n), c.gotPath)
	return nil
}

func (c *Checker) gotPath(b []byte) error {
	c.path = string(b)
	switch c.kind {
	case typeEOF:
		return c.end()
	case typeSparse:
		c.expect(4+8+8+4, c.payloadHead)
	default:
		c.expect(8+8+4, c.payloadHead)
	}
	return nil
}

func (c *Checker) payloadHead(b []byte) error {
	c.sparse = 0
	if c.kind == typeSparse {
		n := binary.LittleEndian.Uint32(b)
		if n > maxSparse {
			return fmt.Errorf("%w: sparse map of %d entries", ErrMagic, n)
		}
		c.sparse, b = int(n)*8, b[4:]
	}
	c.length = int64(binary.LittleEndian.Uint64(b))
	c.offset = int64(binary.LittleEndian.Uint64(b[8:]))
	c.sum = binary.LittleEndian.Uint32(b[16:])
	if c.length < 0 || c.offset < 0 {
		return fmt.Errorf("%w: length %d at %d", ErrMagic, c.length, c.offset)
	}
	if err := c.continues(); err != nil {
		return err
	}
	c.crc, c.copyN = 0, int64(c.sparse)+c.length
	if c.copyN == 0 {
		return c.payloadEnd()
	}
	return nil
}

// continues checks that the payload belongs where its file is. A file that has ended must not go on: the tools would
// create it a second time.
func (c *Checker) continues() error {
	f := c.file()
	if f.ended {
		return ErrTwice
	}
	if c.kind == typePayload && c.offset != f.next {
		return fmt.Errorf("%w: at %d, expected %d", ErrOffset, c.offset, f.next)
	}
	f.next = c.offset + c.length
	return nil
}

// file is what is known of the chunk's file, which may be a new one.
func (c *Checker) file() *file {
	f := c.files[c.path]
	if f == nil {
		f = &file{}
		c.files[c.path] = f
	}
	if len(c.files) > maxFiles {
		c.opaque = fmt.Sprintf("more than %d files", maxFiles)
	}
	return f
}

func (c *Checker) payloadEnd() error {
	c.expect(headSize, c.head)
	if c.crc != c.sum {
		return fmt.Errorf("%w: %08x, the chunk says %08x", ErrChecksum, c.crc, c.sum)
	}
	return nil
}

func (c *Checker) end() error {
	c.expect(headSize, c.head)
	f := c.file() // an empty file is an end alone
	if f.ended {
		return ErrTwice
	}
	f.ended = true
	c.ended++
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
	case c.copyN > 0 || len(c.have) > 0 || c.need != headSize:
		return fmt.Errorf("%w at byte %d%s", ErrTruncated, c.pos, named(c.path))
	case len(c.files) == 0:
		return ErrEmpty
	case c.ended < len(c.files):
		return fmt.Errorf("%w: %s", ErrOpenFile, c.openFiles())
	}
	return nil
}

func (c *Checker) openFiles() string {
	const few = 3
	var names []string
	for path, f := range c.files {
		if !f.ended && len(names) < few {
			names = append(names, path)
		}
	}
	return fmt.Sprintf("%d of %d, such as %q", len(c.files)-c.ended, len(c.files), names)
}

// Files is how many files the stream holds.
func (c *Checker) Files() int { return len(c.files) }

// Opaque says why only the beginning of the stream was looked at; "" if all of it was.
func (c *Checker) Opaque() string { return c.opaque }
