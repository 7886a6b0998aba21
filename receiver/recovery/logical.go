package recovery

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// install makes the data folder of an empty server, for a dump to be loaded into.
func (c *Copy) install(ctx context.Context) error {
	// Without --rpm the script takes the folder of the PAM plugin away from the server that this machine may have: it gives that to
	// the user named here.
	args := []string{"--no-defaults", "--rpm", "--datadir=" + c.Data(), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	return c.tool(ctx, nil, "", "mariadb-install-db", args...) // says nothing about the backup
}

// dump is where the files of a mydumper backup are unpacked.
func (c *Copy) dump() string { return filepath.Join(c.cfg.Folder, "dump") }

// untar unpacks a mydumper backup into a new folder. It is flat: any other entry is none of mydumper's.
func (c *Copy) untar(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return c.read(func(stream io.Reader) error {
		t := tar.NewReader(until{ctx, stream})
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w: read the archive: %w", ErrBackup, err)
			}
			if h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name) || h.Name == "." || h.Name == ".." {
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

// writeText makes a file of a dump of mysqldump.
func (c *Copy) writeText(ctx context.Context) error {
	if err := os.Mkdir(c.Data(), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(c.Data(), "dump.sql"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.read(func(stream io.Reader) error {
		_, err := io.Copy(f, until{ctx, stream})
		return err
	})
	return spaceOr(errors.Join(err, f.Close()))
}

// loadText gives a dump of mysqldump to the private server while it is read.
func (c *Copy) loadText(ctx context.Context) error {
	return c.read(func(stream io.Reader) error {
		return c.Outcome(ctx, blame(c.tool(ctx, stream, "", "mariadb", append([]string{"--no-defaults", "--protocol=socket"}, c.login("--binary-mode", "--max-allowed-packet=1G")...)...)))
	})
}

// loadFolder gives a dump of mydumper to the private server.
func (c *Copy) loadFolder(ctx context.Context) error {
	conf, err := c.clientOptions()
	if err != nil {
		return err
	}
	args := append([]string{"--defaults-file=" + conf}, c.login("--directory="+c.dump(), "--overwrite-tables", "--threads=2")...)
	return c.Outcome(ctx, blame(c.tool(ctx, nil, "", "myloader", args...)))
}

// login leads a client to the private server.
func (c *Copy) login(further ...string) []string {
	return append([]string{"--host=localhost", "--socket=" + c.server.socket(), "--user=root"}, further...)
}

// clientOptions writes an option file for a tool that would else read the machine's own, which may name a server in use: the
// tool drops tables.
func (c *Copy) clientOptions() (path string, err error) {
	path = filepath.Join(c.cfg.Folder, "client.cnf")
	text := "[client]\nuser=root\npassword=\nhost=localhost\nprotocol=socket\nsocket=" + plainOrQuoted(c.server.socket()) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the options of the tools: %w", err)
	}
	return path, nil
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._+-]+$`)

// plainOrQuoted leaves a plain path as it is: newer myloaders read their option file with a parser that keeps the quotes.
func plainOrQuoted(path string) string {
	if plainPath.MatchString(path) {
		return path
	}
	return quoted(path)
}
