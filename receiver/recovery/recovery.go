package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/sink"
	"drydock/store"
)

// Config is where and how a backup is made data again.
type Config struct {
	Folder     string         // private to it; [Copy.Open] makes it
	Memory     int64          // bytes that preparing and the private server may use for their pools
	Identities []age.Identity // open encrypted backups
	// Gentle lets the tools and the server come last at processor and disk.
	Gentle bool
	// Step is told what is done next, and Line what a tool or the server said. Both may be called from several goroutines.
	Step func(what string)
	Line func(text string)
	// Still is how long a tool may do nothing before it is ended; 0: an hour.
	Still time.Duration
	// Moved, if not nil, is told how many bytes of the stream were taken so far, for each block.
	Moved func(bytes int64)
}

// Backup is a file that a receiver has stored, as its manifest describes it.
type Backup struct {
	Path      string
	Compress  string // none, gzip or zstd
	Encrypted bool
	Algo      string // of the hash
	Hash      string // of the stream, before compression
	Size      int64  // bytes of the stream
	Format    job.Format
	XtraTool  bool // made by xtrabackup and not by mariabackup
}

// BackupOf is the backup that a manifest describes, whose file is at path. Errors: [job.ErrUnknownTask].
func BackupOf(m store.Manifest, path string) (Backup, error) {
	task, err := job.TaskByName(m.Task)
	if err != nil {
		return Backup{}, fmt.Errorf("restore %s: %w %q", m.ID, err, m.Task)
	}
	return Backup{
		Path: path, Compress: m.Compress, Encrypted: m.Encrypted, Algo: m.Algo, Hash: m.Hash, Size: m.Size,
		Format: task.Format, XtraTool: m.Task == "xtrabackup",
	}, nil
}

// Preparer is the tool that makes an unpacked physical backup consistent.
func (b Backup) Preparer() string {
	if b.XtraTool {
		return "xtrabackup"
	}
	return "mariadb-backup"
}

func (b Backup) unpacker() string {
	if b.XtraTool {
		return "xbstream"
	}
	return "mbstream"
}

// Tools are the programs that a backup needs to become files or, with load, data of a server.
func (b Backup) Tools(load bool) (names []string) {
	switch b.Format {
	case job.SQLText, job.Tar:
		if !load {
			return nil
		}
		loader := "mariadb"
		if b.Format == job.Tar {
			loader = "myloader"
		}
		return []string{"mariadb-install-db", "mariadbd", loader}
	}
	return []string{b.unpacker(), b.Preparer()}
}

// ErrBackup is in the chain of every error that is the backup's: it does not restore. Without it the work itself could not
// be done (no space, no tool, canceled) and says nothing about the backup.
var ErrBackup = errors.New("the backup does not restore")

// Phase is a part of the work.
type Phase struct {
	What string
	Do   func(context.Context) error
}

// Copy is what is made of one backup: its files, and a server on them. One goroutine uses it; [Copy.Close] ends it.
type Copy struct {
	cfg    Config
	backup Backup
	server *server // once it was started
}

// New makes nothing yet.
func New(cfg Config, b Backup) *Copy { return &Copy{cfg: cfg, backup: b} }

// Open makes the folder, if its disk has need bytes free ([Needs]). Errors: [ErrSpace].
func (c *Copy) Open(need int64) error {
	if err := Room(c.cfg.Folder, need); err != nil {
		return err
	}
	if err := os.MkdirAll(c.tmp(), 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	return nil
}

// Run does phases one after the other. Errors: [ErrBackup], [ErrSpace], [sink.ErrIdentity]; the context's cause when it was
// ended.
func (c *Copy) Run(ctx context.Context, phases ...Phase) error {
	for _, p := range phases {
		c.cfg.Step(p.What)
		if err := p.Do(ctx); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return fmt.Errorf("%s: %w", p.What, err)
		}
	}
	return nil
}

// Restoring is how the backup gets into a private server.
func (c *Copy) Restoring() []Phase {
	start := c.Starting()
	switch c.backup.Format {
	case job.SQLText:
		return []Phase{{"make an empty server", c.install}, start, {"load the dump", c.loadText}}
	case job.Tar:
		return []Phase{{"unpack", func(ctx context.Context) error { return c.untar(ctx, c.dump()) }}, {"make an empty server", c.install}, start, {"load the dump", c.loadFolder}}
	}
	return append(c.Preparing(), start)
}

// Preparing makes a physical backup a data folder that a server can start on.
func (c *Copy) Preparing() []Phase { return []Phase{c.Unpacking(), {"prepare", c.prepare}} }

// Unpacking makes files of the backup: those of a server that are still to be prepared, those of mydumper in the folder dump, or
// dump.sql. All of them are in the data folder.
func (c *Copy) Unpacking() Phase {
	switch c.backup.Format {
	case job.SQLText:
		return Phase{"unpack", c.writeText}
	case job.Tar:
		return Phase{"unpack", func(ctx context.Context) error {
			return errors.Join(os.Mkdir(c.Data(), 0o700), c.untar(ctx, filepath.Join(c.Data(), "dump")))
		}}
	}
	return Phase{"unpack", c.unpack}
}

// Starting runs the private server on the data.
func (c *Copy) Starting() Phase { return Phase{"start a private server", c.start} }

// Data is the data folder.
func (c *Copy) Data() string { return filepath.Join(c.cfg.Folder, "data") }

func (c *Copy) tmp() string { return filepath.Join(c.cfg.Folder, "tmp") }

// unpack lets the tool write the files of the stream.
func (c *Copy) unpack(ctx context.Context) error {
	if err := os.Mkdir(c.Data(), 0o700); err != nil {
		return err
	}
	if err := c.read(func(stream io.Reader) error {
		return blame(c.tool(ctx, stream, "", c.backup.unpacker(), "-x", "-C", c.Data()))
	}); err != nil {
		return err
	}
	return removeLinks(c.Data())
}

// removeLinks removes the notes of where tables with a DATA DIRECTORY lay. Their files are unpacked with the others; a server that
// reads such a note looks for the origin's file, too, and opens neither when there are two.
func removeLinks(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".isl" {
			return err
		}
		return os.Remove(path)
	})
}

// read gives the stream of the backup to take. It is hashed on its way: a file that rots on disk is told from a backup that
// was never one.
func (c *Copy) read(take func(io.Reader) error) error {
	file, err := sink.OpenHeld(c.backup.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := sink.Unpack(file, c.backup.Compress, c.backup.Encrypted, c.cfg.Identities...)
	if errors.Is(err, sink.ErrIdentity) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer content.Close()
	hash, err := sink.NewHash(c.backup.Algo)
	if err != nil {
		return err
	}
	size := &counter{moved: c.cfg.Moved}
	stream := io.TeeReader(blamed{content}, io.MultiWriter(hash, size))
	if err := take(stream); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // what the tool left unread
		return err
	}
	if size.n != c.backup.Size || sink.HexSum(hash) != c.backup.Hash {
		return fmt.Errorf("%w: the file is not what was received: %d bytes with another hash come out of it", ErrBackup, size.n)
	}
	return nil
}

// blamed makes what cannot be read the backup's fault: it is cut, or its encryption or compression cannot be undone.
type blamed struct{ r io.Reader }

func (b blamed) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", ErrBackup, err)
	}
	return n, err
}

// counter counts what is written to it.
type counter struct {
	n     int64
	moved func(int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	if c.moved != nil {
		c.moved(c.n)
	}
	return len(p), nil
}

// endLine is what the backup tools say last when all went well. Their exit status alone is no proof.
const endLine = "completed OK!"

func (c *Copy) prepare(ctx context.Context) error {
	return c.Unkeyed(blame(c.tool(ctx, nil, endLine, c.backup.Preparer(), "--prepare", fmt.Sprintf("--use-memory=%d", c.cfg.Memory),
		"--tmpdir="+c.tmp(), "--target-dir="+c.Data())))
}

// ErrKeys says that work failed on a backup of a server that has plugins to read its files, for their encryption as a rule, and
// that without these and their keys it cannot be told whether the backup is to blame.
var ErrKeys = errors.New("the server of the backup encrypts its files, or packs them by a plugin, and the private one has neither keys nor plugins")

// Unkeyed takes the blame from a failure that the want of keys may have caused.
func (c *Copy) Unkeyed(err error) error {
	if !errors.Is(err, ErrBackup) || !c.keyed() {
		return err
	}
	return fmt.Errorf("%w; without: %s", ErrKeys, err.Error()) // without its blame
}

// keyed reports whether the backup was taken of a server with a plugin for keys or compression: mariadb-backup notes these, and no
// others.
func (c *Copy) keyed() bool {
	options, err := os.ReadFile(filepath.Join(c.Data(), "backup-my.cnf"))
	return err == nil && bytes.Contains(options, []byte("\nplugin_load="))
}

// blame makes a tool's failure the backup's, unless the tool was not there, was killed, or had no room.
func blame(err error) error {
	if err == nil || errors.Is(err, ErrMissing) || errors.Is(err, errKilled) || errors.Is(err, ErrSpace) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBackup, err)
}
