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

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// ErrDamaged is in the chain of every error that says that a published file is not what was stored: another size,
// another hash, or a compression that cannot be undone.
var ErrDamaged = errors.New("file is damaged")

// Content is what a published file should hold once encryption and compression are undone.
type Content struct {
	Compress string // None, Gzip or Zstd; empty is None
	// Encrypted says that the file is encrypted around the compression; one of Identities must open it.
	Encrypted  bool
	Identities []age.Identity

	Size int64  // bytes
	Algo string // BLAKE3 or SHA256
	Hash string // hexadecimal
}

// Copy writes the decrypted and decompressed content of a file to w while it compares it with want, and returns the SHA-256 of what it
// wrote, hexadecimal. Only after an error of nil was all of it what it should be: the caller must not end what it sends
// in order before. moved, if not nil, gets the bytes written so far. The error of w comes as it is.
// Errors: [ErrDamaged], [ErrIdentity], the context's cause, those of the file system and of w.
func Copy(ctx context.Context, w io.Writer, path string, want Content, moved func(int64)) (sum string, err error) {
	f, err := OpenHeld(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, err := Unpack(bufio.NewReaderSize(&coldReader{file: f}, blockSize), want.Compress, want.Encrypted, want.Identities...)
	if errors.Is(err, ErrIdentity) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w: %w", path, ErrDamaged, err)
	}
	defer plain.Close()
	sent, err := NewHash(SHA256)
	if err != nil {
		return "", err
	}
	kept := sent
	if want.Algo != SHA256 {
		if kept, err = NewHash(want.Algo); err != nil {
			return "", err
		}
	}
	size, err := copyHashed(ctx, w, plain, moved, sent, kept)
	if err != nil {
		return "", err
	}
	switch got := HexSum(kept); {
	case size != want.Size:
		return "", fmt.Errorf("read %s: %w: it holds %d bytes, %d were stored", path, ErrDamaged, size, want.Size)
	case !strings.EqualFold(got, want.Hash):
		return "", fmt.Errorf("read %s: %w: its %s is not the one that was stored", path, ErrDamaged, want.Algo)
	}
	return hex.EncodeToString(sent.Sum(nil)), nil
}

// copyHashed is the loop of Copy. A hash that stands twice is fed once.
func copyHashed(ctx context.Context, w io.Writer, from io.Reader, moved func(int64), sent, kept Digest) (size int64, err error) {
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
