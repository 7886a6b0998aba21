package sink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"drydock/durable"
)

// File is one stream on its way to disk. It belongs to one goroutine. The order of calls is Create,
// Receive, Finish; Abort at any point, and harmless after Finish, so it may be deferred.
type File struct {
	spec   Spec
	out    *windowWriter
	failed error // first error of Receive; Finish refuses
	ended  bool  // Finish or Abort was called

	received int64
	hash     Digest // of the received bytes

	// Only with compression or encryption: Receive writes to packer, packer to buffer, buffer to stored.
	packer io.WriteCloser
	buffer *bufio.Writer
	stored *hashWriter
}

// Result is what a finished stream turned out to be.
type Result struct {
	Received   int64  // bytes of the stream
	Stored     int64  // bytes of the file; differs from Received with compression or encryption
	Hash       string // of the received bytes, lower-case hexadecimal
	StoredHash string // of the file's bytes, what [HashFile] on Path gives
	Algo       string // [BLAKE3] or [SHA256], for both hashes
	Path       string // the temporary file
}

// writeError marks err as one of the storage side.
func writeError(err error) error { return fmt.Errorf("%w: %w", ErrWrite, err) }

// Create opens the temporary file of spec, which must not exist: fs.ErrExist says that this attempt
// of the job has been received already, or was cut by a crash (see [Discard]). The folder is made
// when missing. The final file is not touched.
func Create(spec Spec) (*File, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	h, err := NewHash(spec.Hash)
	if err != nil {
		return nil, err
	}
	if err := durable.MakeFolder(spec.Dir); err != nil {
		return nil, writeError(err)
	}
	file, err := os.OpenFile(spec.Temp(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, writeError(err)
	}
	f := &File{spec: spec, hash: h, out: &windowWriter{file: file}}
	if err := f.openPacker(); err != nil {
		return nil, errors.Join(err, f.Abort())
	}
	return f, nil
}

func (f *File) openPacker() error {
	if suffix, _ := f.spec.suffix(); suffix == "" {
		return nil
	}
	h, err := NewHash(f.spec.Hash)
	if err != nil {
		return err
	}
	f.stored = &hashWriter{w: f.out, hash: h}
	f.buffer = bufio.NewWriterSize(f.stored, blockSize)
	f.packer, err = newPacker(f.spec, f.buffer)
	return err
}

// Receive copies r into the file until r ends, and returns nil at io.EOF. It returns the first
// error at once: one of the storage side has [ErrWrite] in its chain, any other is r's ("read
// stream: ...") or the context's cause. After an error only Abort is left.
//
// ctx is looked at between reads. It cannot interrupt one: the caller sets r's deadline or closes r.
//
// progress, when not nil, is called after each read with the bytes received so far, from the
// calling goroutine; it must return quickly. The bytes may not be on disk yet: only Finish says that.
func (f *File) Receive(ctx context.Context, r io.Reader, progress func(n int64)) error {
	if f.ended || f.failed != nil {
		return errors.New("receive stream: the sink has ended")
	}
	f.failed = f.receive(ctx, r, progress)
	return f.failed
}

// receive hashes in the reading goroutine: on two cores a second one cost 8 % more CPU and gained nothing (bench/receive;
// perf.md 1c says the same). Whole blocks keep BLAKE3's tree wide.
func (f *File) receive(ctx context.Context, r io.Reader, progress func(n int64)) error {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	for {
		n, readErr := f.fill(ctx, r, block[:], progress)
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("read stream: %w", readErr)
		}
		if err := f.store(block[:n]); err != nil {
			return err
		}
		if readErr == io.EOF {
			return nil
		}
	}
}

// maxEmptyReads is how often r may return nothing and no error before it is taken for broken.
const maxEmptyReads = 100

// fill reads until block is full or r ends.
func (f *File) fill(ctx context.Context, r io.Reader, block []byte, progress func(n int64)) (n int, err error) {
	for empty := 0; n < len(block) && err == nil; {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		var got int
		got, err = r.Read(block[n:])
		n += got
		f.received += int64(got)
		if got > 0 {
			empty = 0
			if progress != nil {
				progress(f.received)
			}
		} else if empty++; empty > maxEmptyReads && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

func (f *File) store(p []byte) error {
	_, _ = f.hash.Write(p)
	if f.packer == nil {
		_, err := f.out.Write(p)
		return err
	}
	_, err := f.packer.Write(p)
	return err
}

// Finish writes what is buffered and makes the temporary file and its folder entry durable. After
// an error the file is not proof of anything; Abort removes it.
func (f *File) Finish() (Result, error) {
	if f.failed != nil {
		return Result{}, fmt.Errorf("finish sink after an error: %w", f.failed)
	}
	if f.ended {
		return Result{}, errors.New("finish sink: it has ended")
	}
	if err := f.settle(); err != nil {
		f.failed = err
		return Result{}, err
	}
	f.ended = true
	res := Result{Received: f.received, Stored: f.received, Algo: f.spec.Hash, Path: f.spec.Temp()}
	res.Hash = HexSum(f.hash)
	res.StoredHash = res.Hash
	if f.packer != nil {
		res.Stored, res.StoredHash = f.stored.n, HexSum(f.stored.hash)
	}
	return res, nil
}

func (f *File) settle() error {
	if f.packer != nil {
		if err := f.packer.Close(); err != nil {
			return err
		}
		if err := f.buffer.Flush(); err != nil {
			return err
		}
	}
	if err := f.out.sync(); err != nil {
		return err
	}
	if err := f.out.file.Close(); err != nil {
		return writeError(err)
	}
	if err := durable.SyncFolder(f.spec.Dir); err != nil {
		return writeError(err)
	}
	return nil
}

// Abort closes and removes the temporary file. It does nothing when called again, or after a
// Finish that succeeded ([Discard] removes that file).
func (f *File) Abort() error {
	if f.ended {
		return nil
	}
	f.ended = true
	if f.packer != nil {
		_ = f.packer.Close() // only to end its goroutines; the file is going away
	}
	_ = f.out.settle()
	_ = f.out.file.Close() // closed already when Finish failed late
	_, err := removeIfThere(f.spec.Temp())
	return err
}

// hashWriter counts and hashes what a compressor produced.
type hashWriter struct {
	w    io.Writer
	hash Digest
	n    int64
}

func (h *hashWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	_, _ = h.hash.Write(p[:n])
	h.n += int64(n)
	return n, err
}
