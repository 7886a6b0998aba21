package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"drydock/durable"
)

// appendRecord is the content (JSON) of a log's two small companions:
//
//	.NAME.journal  an append has begun: bytes of the log from Base on may be part of it
//	.NAME.last     the last append that was completed
//
// The first becomes the second by a rename, and that rename is the commit.
type appendRecord struct {
	Tag   string `json:"tag"`
	Base  int64  `json:"base"`  // the log's size before, bytes
	Size  int64  `json:"size"`  // bytes appended
	Inode uint64 `json:"inode"` // of the log: after a rotation Base says nothing about the new file
}

// logLocks holds one *sync.Mutex for each log ever appended to, by absolute path: a few for each server.
var logLocks sync.Map

// AppendLog appends the finished temporary file of spec to the log spec.Final() and removes the
// temporary file. The stream's bytes are then the log's size bytes from base on.
//
// It may be repeated with the same tag after an error or a crash at any point: an append that had
// not been committed is taken back first (also one of another tag, whose temporary file stays for
// its own repetition), and the one committed last is a success that changes nothing. Calls on the
// same log wait for each other. fs.ErrNotExist says that there is no temporary file to append.
// Logs are not compressed.
func AppendLog(spec Spec) (base, size int64, err error) {
	return appendLog(spec, func(string) {})
}

// appendLog calls at before each step; tests crash there.
func appendLog(spec Spec, at func(step string)) (base, size int64, err error) {
	if err := spec.validate(); err != nil {
		return 0, 0, err
	}
	if suffix, _ := spec.suffix(); suffix != "" {
		return 0, 0, fmt.Errorf("append to %s: a log cannot be compressed", spec.Name)
	}
	path, err := filepath.Abs(spec.Final())
	if err != nil {
		return 0, 0, err
	}
	lock, _ := logLocks.LoadOrStore(path, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()

	rec, err := logAppend{spec: spec, at: at}.run()
	if err != nil {
		return 0, 0, fmt.Errorf("append to %s: %w", path, err)
	}
	return rec.Base, rec.Size, nil
}

// logAppend is one call of AppendLog.
type logAppend struct {
	spec Spec
	at   func(step string)
}

func (l logAppend) companion(what string) string {
	return filepath.Join(l.spec.Dir, l.spec.hidden(what))
}
func (l logAppend) journal() string { return l.companion("journal") }
func (l logAppend) last() string    { return l.companion("last") }

func (l logAppend) run() (appendRecord, error) {
	if err := l.takeBack(); err != nil {
		return appendRecord{}, err
	}
	last, found, err := readRecord(l.last())
	if err != nil {
		return appendRecord{}, err
	}
	if found {
		if err := l.dropTemp(last.Tag); err != nil { // the crash was between commit and removal
			return appendRecord{}, err
		}
		if last.Tag == l.spec.Tag {
			return last, nil
		}
	}
	return l.appendTemp()
}

// takeBack undoes an append that was begun and not committed.
func (l logAppend) takeBack() error {
	rec, found, err := readRecord(l.journal())
	if err != nil || !found {
		return err
	}
	l.at("cut log")
	if err := cutLog(l.spec.Final(), rec); err != nil {
		return writeError(err)
	}
	l.at("remove journal")
	if _, err := removeIfThere(l.journal()); err != nil {
		return writeError(err)
	}
	return l.syncDir()
}

// cutLog gives the log the size it had before rec. A log that is another file now, or shorter, was
// rotated in between: cutting it would lose bytes that are not rec's.
func cutLog(path string, rec appendRecord) error {
	log, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if inode(info) != rec.Inode || info.Size() <= rec.Base {
		return nil
	}
	if err := log.Truncate(rec.Base); err != nil {
		return err
	}
	return log.Sync()
}

func (l logAppend) appendTemp() (appendRecord, error) {
	part, err := os.OpenFile(l.spec.Temp(), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return appendRecord{}, err
	}
	defer part.Close()
	l.at("open log")
	// Not O_APPEND: the kernel then copies from file to file without passing the bytes through here.
	log, err := os.OpenFile(l.spec.Final(), os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return appendRecord{}, writeError(err)
	}
	defer log.Close()
	rec, err := l.begin(part, log)
	if err != nil {
		return appendRecord{}, err
	}
	if err := l.copyTemp(part, log, rec); err != nil {
		return appendRecord{}, errors.Join(err, l.takeBack())
	}
	return rec, l.commit()
}

// begin writes the journal. Syncing the folder covers the log's own entry too, when it is new.
func (l logAppend) begin(part, log *os.File) (appendRecord, error) {
	in, err := part.Stat()
	if err != nil {
		return appendRecord{}, err
	}
	out, err := log.Stat()
	if err != nil {
		return appendRecord{}, writeError(err)
	}
	rec := appendRecord{Tag: l.spec.Tag, Base: out.Size(), Size: in.Size(), Inode: inode(out)}
	l.at("write journal")
	if err := writeRecord(l.companion("journal.tmp"), rec); err != nil {
		return appendRecord{}, writeError(err)
	}
	l.at("rename journal")
	if err := os.Rename(l.companion("journal.tmp"), l.journal()); err != nil {
		return appendRecord{}, writeError(err)
	}
	l.at("sync journal")
	return rec, l.syncDir()
}

func (l logAppend) copyTemp(part, log *os.File, rec appendRecord) error {
	l.at("copy")
	if _, err := log.Seek(rec.Base, io.SeekStart); err != nil {
		return writeError(err)
	}
	n, err := io.Copy(log, part)
	if err != nil {
		return writeError(err)
	}
	if n != rec.Size {
		return fmt.Errorf("temporary file changed: %d bytes, expected %d", n, rec.Size)
	}
	l.at("sync log")
	if err := log.Sync(); err != nil {
		return writeError(err)
	}
	return nil
}

func (l logAppend) commit() error {
	l.at("commit")
	if err := os.Rename(l.journal(), l.last()); err != nil {
		return writeError(err)
	}
	l.at("sync commit")
	if err := l.syncDir(); err != nil {
		return err
	}
	l.at("remove temp")
	return l.dropTemp(l.spec.Tag)
}

func (l logAppend) dropTemp(tag string) error {
	done := l.spec
	done.Tag = tag
	if err := Discard(done); err != nil {
		return writeError(err)
	}
	return nil
}

func (l logAppend) syncDir() error {
	if err := durable.SyncFolder(l.spec.Dir); err != nil {
		return writeError(err)
	}
	return nil
}

func readRecord(path string) (rec appendRecord, found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, false, nil
	}
	if err != nil {
		return rec, false, err
	}
	// A torn record cannot come from a crash (writeRecord, then rename): guessing would risk the log.
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, false, fmt.Errorf("parse %s: %w", path, err)
	}
	if !tagPattern.MatchString(rec.Tag) || rec.Base < 0 || rec.Size < 0 {
		return rec, false, fmt.Errorf("parse %s: not a record of an append", path)
	}
	return rec, true, nil
}

// writeRecord leaves a synced file; the caller renames it.
func writeRecord(path string, rec appendRecord) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
