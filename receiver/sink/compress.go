package sink

import (
	"bytes"
	"errors"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressWorkers bounds the cores that one stream's compression takes: the machine has other
// streams, and other work.
func compressWorkers() int { return min(runtime.GOMAXPROCS(0), 4) }

// newCompressor returns a writer that compresses into w with Gzip or Zstd. Its Close writes what is
// left, ends its goroutines and leaves w open. Level: fastest, because the network waits.
func newCompressor(kind string, w io.Writer) (io.WriteCloser, error) {
	m := &memberWriter{w: w, limit: compressWorkers(), pack: newGzip}
	if kind == Zstd {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(m.limit),
			zstd.WithZeroFrames(true)) // an empty stream is a valid file too
		if err != nil {
			return nil, err
		}
		m.pack = func() packFunc {
			return func(out, plain []byte) ([]byte, error) { return z.EncodeAll(plain, out), nil }
		}
	}
	return m, nil
}

// memberSize is the bytes that one member holds: large enough that cutting costs little ratio (a stream of mariadb-backup
// became 0.33 of its size by zstd, in one piece 0.31, by zstd -1 0.41), small enough that memory stays at a few MiB for
// each stream.
const memberSize = 1 << 20

// packFunc appends one compressed member to out. It is called by one goroutine at a time.
type packFunc func(out, plain []byte) ([]byte, error)

func newGzip() packFunc {
	gz, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for an unknown level
	return func(out, plain []byte) ([]byte, error) {
		buf := bytes.NewBuffer(out)
		gz.Reset(buf)
		_, err := gz.Write(plain)
		err = errors.Join(err, gz.Close())
		return buf.Bytes(), err
	}
}

// memberWriter compresses on several cores by cutting the stream into gzip members or zstd frames, one after the other in
// the file. RFC 1952 section 2.2 and RFC 8878 section 3 define such a file as their concatenation: every tool reads it.
// The library's own writer of zstd does not spread one stream over several cores.
type memberWriter struct {
	w       io.Writer
	limit   int             // members compressed at the same time
	pack    func() packFunc // of a new member
	filling *member         // takes bytes until it is full
	flying  []*member       // being compressed, in the order of the stream
	free    []*member       // written out, kept for their buffers
	started bool            // at least one member has begun
	err     error           // first error of w; no further write is tried
}

// member is owned by memberWriter, except between start and done, when its goroutine owns it.
type member struct {
	plain []byte
	out   []byte
	pack  packFunc
	err   error
	done  chan struct{} // closed by the goroutine of compress
}

// Write implements io.Writer. An error of the underlying writer may show one call late.
func (m *memberWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && m.err == nil {
		if m.filling == nil {
			m.filling = m.take()
		}
		n := min(len(p), memberSize-len(m.filling.plain))
		m.filling.plain = append(m.filling.plain, p[:n]...)
		p = p[n:]
		if len(m.filling.plain) == memberSize {
			m.start()
		}
	}
	return total - len(p), m.err
}

// Close compresses the rest, waits for every goroutine and writes what they made.
func (m *memberWriter) Close() error {
	if m.filling == nil && !m.started {
		m.filling = m.take() // an empty stream is one empty member
	}
	if m.filling != nil && m.err == nil {
		m.start()
	}
	for len(m.flying) > 0 {
		m.land()
	}
	return m.err
}

func (m *memberWriter) take() *member {
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b
	}
	return &member{pack: m.pack(), plain: make([]byte, 0, memberSize)}
}

// start hands the filled member to its own goroutine, after waiting for a free slot.
func (m *memberWriter) start() {
	if len(m.flying) == m.limit {
		m.land()
	}
	b := m.filling
	m.filling, m.started = nil, true
	b.done = make(chan struct{})
	m.flying = append(m.flying, b)
	go b.compress()
}

func (b *member) compress() {
	defer close(b.done)
	b.out, b.err = b.pack(b.out[:0], b.plain)
	b.plain = b.plain[:0]
}

// land waits for the oldest member and writes it.
func (m *memberWriter) land() {
	b := m.flying[0]
	m.flying = append(m.flying[:0], m.flying[1:]...)
	<-b.done
	if m.err == nil {
		m.err = b.err
	}
	if m.err == nil {
		_, m.err = m.w.Write(b.out)
	}
	m.free = append(m.free, b)
}
