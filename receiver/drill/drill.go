package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"drydock/job"
	"drydock/receiver/sink"
)

// Config is where and how a drill works.
type Config struct {
	Folder     string         // the scratch folder; made by Run, which leaves nothing of it behind
	Memory     int64          // bytes that preparing and the scratch server may use for their pools
	Identities []age.Identity // open encrypted backups
	// Step is told what the drill does next, and Line what a tool or the scratch server said. Both may be called from several
	// goroutines.
	Step func(what string)
	Line func(text string)
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

// Result is what a drill found. Times are those it took here: what a restore costs.
type Result struct {
	Restore time.Duration // until the scratch server had all of it
	Check   time.Duration // of the tables
	Version string        // of the scratch server
	Tables  int
	Rows    int64
	// Skipped are the tables whose engine the scratch server does not have: they were not looked at.
	Skipped []string
	// Problems are the tables that are not well, with what the server says; none makes the backup restored.
	Problems []string
}

// ErrBackup is in the chain of every error that is the backup's: it does not restore. Without it the drill itself could not
// be done (no space, no tool, canceled) and says nothing about the backup.
var ErrBackup = errors.New("the backup does not restore")

// Run drills one backup. Errors: [ErrBackup], [ErrSpace], [sink.ErrIdentity]; the context's cause when it was ended.
func Run(ctx context.Context, cfg Config, b Backup) (res Result, err error) {
	if err := room(cfg.Folder, needs(b.Format, b.Size)); err != nil {
		return res, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Folder, "tmp"), 0o700); err != nil {
		return res, fmt.Errorf("make the scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Folder)) }()
	d := &drill{cfg: cfg, backup: b}
	began := time.Now()
	err = d.run(ctx, d.restoring())
	res.Restore = time.Since(began)
	if err == nil {
		began = time.Now()
		err = d.run(ctx, []phase{{"check every table", func(ctx context.Context) error { return d.check(ctx, &res) }}})
		res.Check = time.Since(began)
	}
	return res, errors.Join(err, d.stop())
}

// phase is a part of a drill.
type phase struct {
	what string
	do   func(context.Context) error
}

// restoring is how a backup of its format gets into a server.
func (d *drill) restoring() []phase {
	start := phase{"start a scratch server", d.start}
	switch d.backup.Format {
	case job.SQLText:
		return []phase{{"make an empty server", d.install}, start, {"load the dump", d.loadText}}
	case job.Tar:
		return []phase{{"unpack", d.untar}, {"make an empty server", d.install}, start, {"load the dump", d.loadFolder}}
	}
	return []phase{{"unpack", d.unpack}, {"prepare", d.prepare}, start}
}

func (d *drill) run(ctx context.Context, phases []phase) error {
	for _, p := range phases {
		d.cfg.Step(p.what)
		if err := p.do(ctx); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
	}
	return nil
}

// drill is one run of [Run].
type drill struct {
	cfg    Config
	backup Backup
	server *server // once it was started
}

func (d *drill) data() string { return filepath.Join(d.cfg.Folder, "data") }

// unpack lets the tool write the files of the stream.
func (d *drill) unpack(ctx context.Context) error {
	if err := os.Mkdir(d.data(), 0o700); err != nil {
		return err
	}
	unpacker := "mbstream"
	if d.backup.XtraTool {
		unpacker = "xbstream"
	}
	return d.read(func(stream io.Reader) error {
		return blame(d.tool(ctx, stream, "", unpacker, "-x", "-C", d.data()))
	})
}

// read gives the stream of the backup to take. It is hashed on its way: a file that rots on disk is told from a backup that
// was never one.
func (d *drill) read(take func(io.Reader) error) error {
	file, err := sink.OpenHeld(d.backup.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := sink.Unpack(file, d.backup.Compress, d.backup.Encrypted, d.cfg.Identities...)
	if errors.Is(err, sink.ErrIdentity) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer content.Close()
	hash, err := sink.NewHash(d.backup.Algo)
	if err != nil {
		return err
	}
	size := &counter{}
	stream := io.TeeReader(content, io.MultiWriter(hash, size))
	if err := take(stream); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // what the tool left unread
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if size.n != d.backup.Size || sink.HexSum(hash) != d.backup.Hash {
		return fmt.Errorf("%w: the file is not what was received: %d bytes with another hash come out of it", ErrBackup, size.n)
	}
	return nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// endLine is what the backup tools say last when all went well. Their exit status alone is no proof.
const endLine = "completed OK!"

func (d *drill) prepare(ctx context.Context) error {
	tool := "mariadb-backup"
	if d.backup.XtraTool {
		tool = "xtrabackup"
	}
	return blame(d.tool(ctx, nil, endLine, tool, "--prepare", fmt.Sprintf("--use-memory=%d", d.cfg.Memory),
		"--tmpdir="+filepath.Join(d.cfg.Folder, "tmp"), "--target-dir="+d.data()))
}

// blame makes a tool's failure the backup's, unless the tool was not there, was killed, or had no room.
func blame(err error) error {
	if err == nil || errors.Is(err, errMissing) || errors.Is(err, errKilled) || errors.Is(err, ErrSpace) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBackup, err)
}
