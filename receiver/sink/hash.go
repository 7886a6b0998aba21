package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// blocks keeps the read buffers of ended streams for the next ones.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// Digest is the part of hash.Hash in use. Its Write never fails.
type Digest interface {
	io.Writer
	Sum(b []byte) []byte
}

// NewHash begins a hash with [BLAKE3] or [SHA256].
func NewHash(algo string) (Digest, error) {
	switch algo {
	case BLAKE3:
		return new(treeHash), nil
	case SHA256:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("check sink: unknown hash %q", algo)
}

// HexSum is the hash so far, lower-case hexadecimal.
func HexSum(h Digest) string { return hex.EncodeToString(h.Sum(nil)) }

// HashFile reads a file again and returns its hash (lower-case hexadecimal, as in [Result]) and its
// size in bytes. It ends early with the context's cause. What it read is dropped from the page
// cache, so that verifying a large backup does not evict a database's pages on the same machine. moved, if not nil, gets the
// bytes read so far.
func HashFile(ctx context.Context, path, algo string, moved func(int64)) (sum string, size int64, err error) {
	h, err := NewHash(algo)
	if err != nil {
		return "", 0, err
	}
	f, err := OpenHeld(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	for {
		if ctx.Err() != nil {
			return "", 0, fmt.Errorf("hash %s: %w", path, context.Cause(ctx))
		}
		n, err := io.ReadFull(f, block[:])
		_, _ = h.Write(block[:n])
		size += int64(n)
		if moved != nil {
			moved(size)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return HexSum(h), size, nil
		}
		if err != nil {
			return "", 0, fmt.Errorf("hash %s: %w", path, err)
		}
		if size%windowSize == 0 {
			_ = unix.Fadvise(int(f.Fd()), size-windowSize, windowSize, unix.FADV_DONTNEED)
		}
	}
}
