package sink

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ErrDamaged is in the chain of every error that says that a published file is not what was stored: another size,
// another hash, or a compression that cannot be undone.
var ErrDamaged = errors.New("file is damaged")

// Content is what a published file should hold once its compression is undone.
type Content struct {
	Compress string // None, Gzip or Zstd; empty is None
	Size     int64  // bytes
	Algo     string // BLAKE3 or SHA256
	Hash     string // hexadecimal
}

// Copy writes the decompressed content of a file to w while it compares it with want, and returns the SHA-256 of what it
// wrote, hexadecimal. Only after an error of nil was all of it what it should be: the caller must not end what it sends
// in order before. moved, if not nil, gets the bytes written so far. The error of w comes as it is.
// Errors: [ErrDamaged], the context's cause, those of the file system and of w.
func Copy(ctx context.Context, w io.Writer, path string, want Content, moved func(int64)) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, closePlain, err := decompressor(want.Compress, bufio.NewReaderSize(&coldReader{file: f}, blockSize))
	if err != nil {
		return "", fmt.Errorf("read %s: %w: %w", path, ErrDamaged, err)
	}
	defer closePlain()
	sent, err := newHash(SHA256)
	if err != nil {
		return "", err
	}
	kept := sent
	if want.Algo != SHA256 {
		if kept, err = newHash(want.Algo); err != nil {
			return "", err
		}
	}
	size, err := copyHashed(ctx, w, plain, moved, sent, kept)
	if err != nil {
		return "", err
	}
	switch got := hexSum(kept); {
	case size != want.Size:
		return "", fmt.Errorf("read %s: %w: it holds %d bytes, %d were stored", path, ErrDamaged, size, want.Size)
	case !strings.EqualFold(got, want.Hash):
		return "", fmt.Errorf("read %s: %w: its %s is not the one that was stored", path, ErrDamaged, want.Algo)
	}
	return hex.EncodeToString(sent.Sum(nil)), nil
}

// copyHashed is the loop of Copy. A hash that stands twice is fed once.
func copyHashed(ctx context.Context, w io.Writer, from io.Reader, moved func(int64), sent, kept digest) (size int64, err error) {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	for {
		if ctx.Err() != nil {
			return size, context.Cause(ctx)
		}
		n, err := from.Read(block[:])
		_, _ = sent.Write(block[:n])
		if kept != sent {
			_, _ = kept.Write(block[:n])
		}
		if n > 0 {
			if _, err := w.Write(block[:n]); err != nil {
				return size, err
			}
			size += int64(n)
			if moved != nil {
				moved(size)
			}
		}
		switch {
		case err == io.EOF:
			return size, nil
		case err != nil:
			return size, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
}

// decompressor undoes the compression of a stored file; a gzip file may be a row of members.
func decompressor(kind string, r io.Reader) (plain io.Reader, close func(), err error) {
	switch kind {
	case "", None:
		return r, func() {}, nil
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { _ = z.Close() }, nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, fmt.Errorf("unknown compression %q", kind)
}

// coldReader drops from the page cache what it has read, so that a large backup does not evict what others need.
type coldReader struct {
	file    *os.File
	read    int64
	dropped int64
}

// Read implements io.Reader.
func (c *coldReader) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	c.read += int64(n)
	if c.read-c.dropped >= windowSize {
		_ = unix.Fadvise(int(c.file.Fd()), c.dropped, c.read-c.dropped, unix.FADV_DONTNEED)
		c.dropped = c.read
	}
	return n, err
}
