package mariadbd

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// template is an empty data folder as mariadb-install-db leaves it, kept in
// memory as a compressed tar (about 1 MB). Building one takes most of a
// second, unpacking it a few hundredths. Being in memory, it leaves nothing on
// disk however the program ends.
type template struct {
	mu  sync.Mutex
	tar []byte // nil until the first build succeeds; a failed build is tried again
}

// pristine serves all servers of the process.
var pristine template

// unpackTo fills the folder dir, which must not exist, with the data files.
func (t *template) unpackTo(ctx context.Context, dir string) error {
	packed, err := t.get(ctx)
	if err != nil {
		return fmt.Errorf("build data folder template: %w", err)
	}
	if err := unpack(packed, dir); err != nil {
		return fmt.Errorf("unpack data folder template: %w", err)
	}
	return nil
}

func (t *template) get(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tar == nil {
		packed, err := buildTemplate(ctx)
		if err != nil {
			return nil, err
		}
		t.tar = packed
	}
	return t.tar, nil
}

// buildTemplate runs mariadb-install-db in a temporary folder and packs the
// result. The --rpm switch is what keeps the script from changing owner and
// mode of the system's PAM plugin folder when run as root.
func buildTemplate(ctx context.Context) ([]byte, error) {
	install, err := lookTool("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "drydock-mariadbd-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()

	cnf := filepath.Join(tmp, "my.cnf")
	// A starting server deletes what it takes for its own leftovers in tmpdir: two of them in /tmp spoil each other's
	// installation.
	settings := append([]string{"[mariadbd]", "tmpdir=" + quoteSetting(tmp)}, storageSettings...)
	if err := os.WriteFile(cnf, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	data := filepath.Join(tmp, "data")
	args := []string{"--defaults-file=" + cnf, "--datadir=" + data, "--rpm", "--skip-name-resolve", "--skip-test-db"}
	args = append(args, userArgs()...)
	out, err := exec.CommandContext(ctx, install, args...).CombinedOutput()
	if err != nil {
		err = cmp.Or(ctx.Err(), err)                                                      // "signal: killed" would hide why
		return nil, fmt.Errorf("run mariadb-install-db: %w: %s", err, lastLines(out, 30)) // it ends with much general advice
	}
	return pack(data)
}

// pack turns the files and folders below dir into a zstd-compressed tar.
func pack(dir string) ([]byte, error) {
	var buf bytes.Buffer
	zw, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(zw)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	return buf.Bytes(), nil
}

// unpack writes the tar made by pack below dir.
func unpack(packed []byte, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	zr, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer zr.Close()
	for tr := tar.NewReader(zr); ; {
		head, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(head.Name))
		if head.FileInfo().IsDir() {
			err = os.Mkdir(path, 0o700)
			if errors.Is(err, fs.ErrExist) { // the root itself
				err = nil
			}
		} else {
			err = writeSparse(path, tr, head.Size)
		}
		if err != nil {
			return err
		}
	}
}

// writeSparse copies r to a new file and leaves holes for blocks of zeros:
// most of a fresh data folder is zeros, and a hole costs nothing to write.
func writeSparse(path string, r io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); err == nil && off < size; {
		var n int
		n, err = io.ReadFull(r, block[:min(int64(len(block)), size-off)])
		if err == nil && !bytes.Equal(block[:n], zeros[:n]) {
			_, err = f.WriteAt(block[:n], off)
		}
		off += int64(n)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	return errors.Join(err, f.Close())
}

// lastLines returns the end of a tool's output, for an error message.
func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
