package sink

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// packer is what a stream goes through on its way to the file: compression first, as encrypted bytes do not compress.
type packer struct {
	io.Writer
	closers []io.Closer // outermost first
}

// Close writes what every stage still holds. It leaves the file open.
func (p *packer) Close() error {
	var errs []error
	for _, c := range p.closers {
		errs = append(errs, c.Close()) // all of them: some own goroutines
	}
	return errors.Join(errs...)
}

// newPacker puts the stages of spec before w. The header of an encrypted file is written at once; without a recipient it
// is an error, never a plain file.
func newPacker(spec Spec, w io.Writer) (io.WriteCloser, error) {
	p := &packer{Writer: w}
	if spec.Encrypted {
		seal, err := age.Encrypt(w, spec.Recipients...)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		// Writes of one encrypted chunk each: the compressors write in pieces of any size.
		chunks := bufio.NewWriterSize(seal, blockSize)
		p.Writer, p.closers = chunks, []io.Closer{flusher{chunks}, seal}
	}
	if spec.Compress == "" || spec.Compress == None {
		return p, nil
	}
	c, err := newCompressor(spec.Compress, p.Writer)
	if err != nil {
		return nil, err
	}
	p.Writer, p.closers = c, append([]io.Closer{c}, p.closers...)
	return p, nil
}

// Pack writes what it is given to w, compressed and, with recipients, encrypted: what [Unpack] reads. Close ends it and leaves
// w open. For pieces of a file; a whole file is a [File].
func Pack(w io.Writer, compress string, recipients ...age.Recipient) (io.WriteCloser, error) {
	return newPacker(Spec{Compress: compress, Encrypted: len(recipients) > 0, Recipients: recipients}, w)
}

// flusher closes a buffer by writing it out.
type flusher struct{ w *bufio.Writer }

func (f flusher) Close() error { return f.w.Flush() }

// ErrIdentity is returned by [Unpack] for an encrypted file that none of the identities opens.
var ErrIdentity = errors.New("no identity opens the file: give the key of one of its recipients")

// Unpack reads the stream out of the bytes of a file that was stored with this compression and, when encrypted is true,
// for a recipient one of the identities belongs to. The end of a file that was cut is an error. Close frees what the
// reading took; r is the caller's.
func Unpack(r io.Reader, compress string, encrypted bool, identities ...age.Identity) (io.ReadCloser, error) {
	if encrypted {
		if len(identities) == 0 {
			return nil, ErrIdentity
		}
		plain, err := age.Decrypt(r, identities...)
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, ErrIdentity
		}
		if err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
		r = plain
	}
	switch compress {
	case "", None:
		return io.NopCloser(r), nil
	case Gzip:
		z, err := gzip.NewReader(bufio.NewReaderSize(r, blockSize))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return z, nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("decompress: unknown compression %q", compress)
}
