package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"lukechampine.com/blake3"

	"drydock/store"
)

// proof restores one backup without asking drydock: its file is read again, hashed with the plain libraries, unpacked
// by mbstream and prepared by mariadb-backup.
type proof struct {
	m   store.Manifest
	dir string // receives the unpacked backup and the tools' output; the caller removes it

	files             int // unpacked
	unpacked, prepare time.Duration
}

// run does it all. Its error says what does not hold.
func (p *proof) run(ctx context.Context) error {
	if err := os.MkdirAll(p.target(), 0o700); err != nil {
		return err
	}
	began := time.Now()
	if err := p.unpack(ctx); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(p.m.Path), err)
	}
	p.unpacked, began = time.Since(began), time.Now()
	files, err := countFiles(p.target())
	if err != nil || files == 0 {
		return fmt.Errorf("unpack %s: %d files, %w", filepath.Base(p.m.Path), files, err)
	}
	p.files = files
	log := filepath.Join(p.dir, "prepare.log")
	if err := runTool(ctx, log, "mariadb-backup", "--prepare", "--tmpdir="+p.dir, "--target-dir="+p.target()); err != nil {
		return fmt.Errorf("prepare %s: %w", filepath.Base(p.m.Path), err)
	}
	if last := lastLines(log, 1); !strings.HasSuffix(last, "completed OK!") { // its exit status alone is no proof
		return fmt.Errorf("prepare %s: %s", filepath.Base(p.m.Path), last)
	}
	p.prepare = time.Since(began)
	return nil
}

func (p *proof) target() string { return filepath.Join(p.dir, "restored") }

// unpack reads the file once: what is on disk and what comes out of the decompression are hashed on the way to mbstream.
func (p *proof) unpack(ctx context.Context) error {
	file, err := os.Open(p.m.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	onDisk, received := newHash(p.m.Algo), newHash(p.m.Algo)
	stored := io.TeeReader(file, onDisk)
	content, err := decompress(stored, p.m.Compress)
	if err != nil {
		return err
	}
	defer content.Close()
	size := new(counter)
	if err := p.extract(ctx, io.TeeReader(content, io.MultiWriter(received, size))); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stored); err != nil { // what a decompressor may leave unread at the end
		return err
	}
	return errors.Join(
		same("hash of the file", hex.EncodeToString(onDisk.Sum(nil)), p.m.StoredHash),
		same("hash of the content", hex.EncodeToString(received.Sum(nil)), p.m.Hash),
		same("size of the content", int64(*size), p.m.Size),
	)
}

// extract lets mbstream write the files of a stream.
func (p *proof) extract(ctx context.Context, stream io.Reader) error {
	log, err := os.Create(filepath.Join(p.dir, "mbstream.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("mbstream", "-x", "-C", p.target())
	cmd.Stdout, cmd.Stderr = log, log
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	c, err := startChild(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	_, err = io.Copy(pipe, until{ctx, stream})
	err = errors.Join(err, pipe.Close(), c.finish(ctx))
	if err != nil {
		return fmt.Errorf("mbstream: %w: %s", err, lastLines(log.Name(), 3))
	}
	// It ends with status 0 also when it gave up, as for a file that stands in the stream twice.
	if said := lastLines(log.Name(), 3); strings.Contains(said, "mbstream: ") {
		return errors.New(said)
	}
	return nil
}

// until is a reader that ends with a context.
type until struct {
	ctx context.Context
	r   io.Reader
}

// Read reads, or returns the context's cause.
func (u until) Read(b []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

func newHash(algo string) hash.Hash {
	if algo == "sha256" {
		return sha256.New()
	}
	return blake3.New(32, nil)
}

func decompress(r io.Reader, how string) (io.ReadCloser, error) {
	if how != "zstd" {
		return io.NopCloser(r), nil
	}
	z, err := zstd.NewReader(r)
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// counter counts the bytes written to it.
type counter int64

// Write never fails.
func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, the manifest says %v", what, got, want)
	}
	return nil
}

func countFiles(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			n++
		}
		return err
	})
	return n, err
}
