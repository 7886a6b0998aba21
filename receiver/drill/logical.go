package drill

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// install makes the data folder of an empty server, for a dump to be loaded into.
func (d *drill) install(ctx context.Context) error {
	args := []string{"--no-defaults", "--datadir=" + d.data(), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	return d.tool(ctx, nil, "", "mariadb-install-db", args...) // says nothing about the backup
}

// dump is where the files of a mydumper backup are unpacked.
func (d *drill) dump() string { return filepath.Join(d.cfg.Folder, "dump") }

// untar unpacks a mydumper backup. Its folder is flat: any other entry is none of mydumper's.
func (d *drill) untar(ctx context.Context) error {
	if err := os.Mkdir(d.dump(), 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(d.dump())
	if err != nil {
		return err
	}
	defer root.Close()
	return d.read(func(stream io.Reader) error {
		t := tar.NewReader(until{ctx, stream})
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w: read the archive: %w", ErrBackup, err)
			}
			if h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name) {
				return fmt.Errorf("%w: the archive holds %q, which mydumper does not make", ErrBackup, h.Name)
			}
			if err := extract(root, h.Name, t); err != nil {
				return err
			}
		}
	})
}

func extract(root *os.Root, name string, from io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: the archive holds %q twice", ErrBackup, name)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		return spaceOr(fmt.Errorf("unpack %s: %w", name, err))
	}
	return nil
}

// loadText gives a dump of mysqldump to the scratch server while it is read.
func (d *drill) loadText(ctx context.Context) error {
	return d.read(func(stream io.Reader) error {
		return blame(d.tool(ctx, stream, "", "mariadb", "--no-defaults", "--socket="+d.server.socket(), "--user=root", "--binary-mode", "--max-allowed-packet=1G"))
	})
}

// loadFolder gives a dump of mydumper to the scratch server.
func (d *drill) loadFolder(ctx context.Context) error {
	return blame(d.tool(ctx, nil, "", "myloader", "--socket="+d.server.socket(), "--user=root", "--directory="+d.dump(), "--overwrite-tables", "--threads=2"))
}
