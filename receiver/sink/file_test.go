package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3"
)

// choppy returns short reads of random length, as a socket does.
type choppy struct {
	r   io.Reader
	rnd *rand.Rand
}

func (c choppy) Read(p []byte) (int, error) { return c.r.Read(p[:1+c.rnd.IntN(len(p))]) }

func oneShot(algo string, data []byte) string {
	sum := sha256.Sum256(data)
	if algo == BLAKE3 {
		sum = blake3.Sum256(data)
	}
	return hex.EncodeToString(sum[:])
}

func TestStoredFileIsTheStreamByteForByte(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, blockSize - 1, blockSize, blockSize + 1, memberSize + 1, 37<<20 + 11}
	for _, compress := range []string{None, Gzip, Zstd} {
		for _, algo := range []string{BLAKE3, SHA256} {
			for _, size := range sizes {
				t.Run(fmt.Sprintf("%s-%s-%d", compress, algo, size), func(t *testing.T) {
					spec := newSpec(t)
					spec.Compress, spec.Hash = compress, algo
					checkRoundTrip(t, spec, sample(size))
				})
			}
		}
	}
}

func checkRoundTrip(t *testing.T, spec Spec, data []byte) {
	f, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	var seen int64
	progress := func(n int64) {
		if n <= seen {
			t.Errorf("progress went from %d to %d", seen, n)
		}
		seen = n
	}
	src := choppy{bytes.NewReader(data), rand.New(rand.NewPCG(1, uint64(len(data))))}
	if err := f.Receive(t.Context(), src, progress); err != nil {
		t.Fatal(err)
	}
	res, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if res.Received != int64(len(data)) || seen != res.Received || res.Hash != oneShot(spec.Hash, data) || res.Algo != spec.Hash {
		t.Errorf("result %+v, last progress %d, want %d bytes", res, seen, len(data))
	}
	sum, size, err := HashFile(t.Context(), res.Path, spec.Hash, nil)
	if err != nil || sum != res.StoredHash || size != res.Stored {
		t.Errorf("file has hash %s, %d bytes (%v), result says %+v", sum, size, err, res)
	}
	if spec.Hash == SHA256 {
		if out := run(t, "sha256sum", res.Path); !strings.HasPrefix(out, res.StoredHash) {
			t.Errorf("sha256sum says %s, result %s", out, res.StoredHash)
		}
	}
	final, err := Publish(spec)
	if err != nil {
		t.Fatal(err)
	}
	switch spec.Compress {
	case Gzip:
		run(t, "gzip", "-dk", final)
	case Zstd:
		run(t, "zstd", "-dq", final)
	}
	plain := filepath.Join(spec.Dir, spec.Name)
	want := filepath.Join(t.TempDir(), "want")
	if err := os.WriteFile(want, data, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "cmp", plain, want)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestHashesAreTheStandardOnes(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for algo, want := range map[string]string{ // of no bytes, from the published test vectors
		BLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		if got, _, err := HashFile(t.Context(), empty, algo, nil); got != want || err != nil {
			t.Errorf("%s is %s, %v", algo, got, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := HashFile(canceled, empty, BLAKE3, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, _, err := HashFile(t.Context(), empty+"x", BLAKE3, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestFilesAreReadableByTheOwnerOnly(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	spec.Dir = filepath.Join(spec.Dir, "a", "b")
	res := receive(t, spec, []byte("x"))
	for path, want := range map[string]os.FileMode{
		res.Path: 0o600, spec.Dir: 0o700, filepath.Dir(spec.Dir): 0o700,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestTemporaryFileOfACrashIsNotReceivedInto(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	receive(t, spec, []byte("first"))
	if _, err := Create(spec); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create: %v", err)
	}
	if data, err := os.ReadFile(spec.Temp()); string(data) != "first" {
		t.Fatalf("temporary file is %q, %v", data, err)
	}
}

func TestCutStreamIsAReadErrorAndLeavesNoFile(t *testing.T) {
	t.Parallel()
	for _, compress := range []string{None, Gzip, Zstd} {
		t.Run(compress, func(t *testing.T) {
			spec := newSpec(t)
			spec.Compress = compress
			f, err := Create(spec)
			if err != nil {
				t.Fatal(err)
			}
			cut := io.MultiReader(bytes.NewReader(sample(3<<20)), errReader{syscall.ECONNRESET})
			err = f.Receive(t.Context(), cut, nil)
			if !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, ErrWrite) {
				t.Errorf("Receive: %v", err)
			}
			if _, err := f.Finish(); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Finish after a cut stream: %v", err)
			}
			if err := f.Receive(t.Context(), strings.NewReader("more"), nil); err == nil {
				t.Error("Receive went on after a cut stream")
			}
			for range 2 {
				if err := f.Abort(); err != nil {
					t.Errorf("Abort: %v", err)
				}
			}
			wantFiles(t, spec.Dir)
		})
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestReaderThatNeverEndsIsRefused(t *testing.T) {
	t.Parallel()
	f, err := Create(newSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	if err := f.Receive(t.Context(), errReader{}, nil); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("Receive: %v", err)
	}
}

func TestCanceledStreamSaysWhy(t *testing.T) {
	t.Parallel()
	f, err := Create(newSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	byOperator := errors.New("canceled by ops")
	ctx, cancel := context.WithCancelCause(t.Context())
	endless := rand.NewChaCha8([32]byte{})
	err = f.Receive(ctx, endless, func(n int64) {
		if n > 20<<20 {
			cancel(byOperator)
		}
	})
	if !errors.Is(err, byOperator) || errors.Is(err, ErrWrite) {
		t.Fatalf("Receive: %v", err)
	}
}

func TestAbortDoesNotTouchWhatCameAfter(t *testing.T) {
	t.Parallel()
	spec := newSpec(t)
	finished, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := finished.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := finished.Abort(); err != nil { // as a deferred one does
		t.Fatal(err)
	}
	wantFiles(t, spec.Dir, filepath.Base(spec.Temp()))

	if err := Discard(spec); err != nil {
		t.Fatal(err)
	}
	aborted, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := aborted.Abort(); err != nil {
		t.Fatal(err)
	}
	receive(t, spec, []byte("again"))
	if err := aborted.Abort(); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, spec.Dir, filepath.Base(spec.Temp()))
}

// smallDisk mounts a tmpfs of size bytes; false when this process may not mount.
func smallDisk(t *testing.T, size int) (dir string, mounted bool) {
	dir = t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return dir, false
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Detach: a child that another test is just forking may hold a descriptor until its exec.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir, true
}

func TestFullDiskIsAWriteErrorAndLeavesNoFile(t *testing.T) {
	t.Parallel()
	for _, compress := range []string{None, Gzip, Zstd} {
		for _, size := range []int{1 << 20, 40 << 20} { // the first fits into buffers until Finish
			t.Run(fmt.Sprintf("%s-%d", compress, size), func(t *testing.T) {
				dir, mounted := smallDisk(t, 256<<10)
				spec := newSpec(t)
				spec.Dir, spec.Compress = dir, compress
				f, err := Create(spec)
				if err != nil {
					t.Fatal(err)
				}
				if !mounted {
					useFullDevice(t, f)
				}
				err = f.Receive(t.Context(), bytes.NewReader(sample(size)), nil)
				if err == nil {
					_, err = f.Finish()
				}
				if !errors.Is(err, ErrWrite) || !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("got %v", err)
				}
				if _, err := f.Finish(); err == nil {
					t.Error("Finish succeeded after a failed write")
				}
				if err := f.Abort(); err != nil {
					t.Error(err)
				}
				wantFiles(t, dir)
			})
		}
	}
}

// useFullDevice makes the next writes of f fail as on a full disk.
func useFullDevice(t *testing.T, f *File) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.out.file.Close()
	f.out.file = full
}

func TestFailedWriteBackIsNotPassedOver(t *testing.T) {
	t.Parallel()
	// A pipe refuses sync_file_range as "cannot do that": tolerated. A closed descriptor is a real
	// error of the same call and must stop the stream, and the fsync at the end must not make up for it.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	win := &windowWriter{file: w}
	for range 3 {
		win.written += windowSize
		win.hand()
	}
	if err := win.settle(); err != nil || win.settled.Load() != 0 {
		t.Errorf("file without write-behind: %v, settled %d", err, win.settled.Load())
	}
	w.Close()
	win.written += windowSize
	win.hand()
	if err := win.settle(); !errors.Is(err, unix.EBADF) || !errors.Is(err, ErrWrite) {
		t.Errorf("failed write-back: %v", err)
	}
	if win.file, err = os.Create(t.TempDir() + "/other"); err != nil {
		t.Fatal(err)
	}
	defer win.file.Close()
	if _, err := win.Write([]byte("more")); !errors.Is(err, unix.EBADF) {
		t.Errorf("a write after it: %v", err)
	}
	if err := win.sync(); !errors.Is(err, unix.EBADF) {
		t.Errorf("the last fsync hides a failed write-back: %v", err)
	}
}

// A stream that fills the page cache drives out the pages of whatever else runs on the machine.
func TestWriteBehindKeepsThePageCacheSmall(t *testing.T) {
	t.Parallel()
	f, err := Create(newSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	if err := f.Receive(t.Context(), bytes.NewReader(sample(5*windowSize)), nil); err != nil {
		t.Fatal(err)
	}
	if w := f.out; w.written != 5*windowSize || w.handed != w.written || w.settled.Load() < 2*windowSize {
		t.Errorf("written %d, handed %d, settled %d", w.written, w.handed, w.settled.Load())
	}
	if err := f.out.settle(); err != nil || f.out.settled.Load() != 4*windowSize {
		t.Errorf("settled %d: %v", f.out.settled.Load(), err)
	}
}
