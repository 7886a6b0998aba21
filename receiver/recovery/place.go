package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"drydock/durable"
)

// Place is the folder that restored data get. They are made in a private folder beside it, under a lock, and get its name when
// all of it is there: what has the name is whole.
type Place struct {
	final string
	work  string
	lock  *os.File
}

// workSuffix is of the private folder, which is hidden beside the place.
const workSuffix = ".drydock-partial"

// What a place is refused for.
var (
	// ErrPlace: the folder is not one that data may be restored to. Another one is.
	ErrPlace = errors.New("the folder cannot be taken")
	// ErrBusy: another restore works on it.
	ErrBusy = errors.New("another restore to this folder is under way")
	// ErrLeft: a restore was cut off there, by a kill or a crash. Its remains have to be removed.
	ErrLeft = errors.New("a restore to this folder was cut off")
)

// NewPlace names a place: an absolute path, so that it is the same wherever it is said. Errors: [ErrPlace].
func NewPlace(dir string) (*Place, error) {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
		return nil, fmt.Errorf("%w: %q is not the absolute path of a folder", ErrPlace, dir)
	}
	dir = filepath.Clean(dir)
	return &Place{final: dir, work: filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+workSuffix)}, nil
}

// Look says why data cannot be restored here, nil when they can. It changes nothing. away are folders that it must not be in. Errors: [ErrPlace], [ErrBusy], [ErrLeft].
func (p *Place) Look(away ...string) error {
	lock, err := p.inspect(away)
	if lock != nil {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// inspect gives the lock of what was left, if its error is [ErrLeft].
func (p *Place) inspect(away []string) (*os.File, error) {
	if err := p.mayBe(away); err != nil {
		return nil, err
	}
	if err := p.free(); err != nil {
		return nil, err
	}
	return p.remains()
}

// Path is the place's name.
func (p *Place) Path() string { return p.final }

// Work is the private folder, for [Config].
func (p *Place) Work() string { return filepath.Join(p.work, "w") }

// mayBe refuses a path that leads elsewhere, and one in a folder that holds other things of drydock's.
func (p *Place) mayBe(away []string) error {
	parent := filepath.Dir(p.final)
	real, err := filepath.EvalSymlinks(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s does not exist: make it first", ErrPlace, parent)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPlace, err)
	}
	if real != parent {
		return fmt.Errorf("%w: %s is a link to %s: name the folder by that", ErrPlace, parent, real)
	}
	for _, a := range away {
		if real, err := filepath.EvalSymlinks(a); err == nil {
			a = real
		}
		if rel, err := filepath.Rel(a, p.final); err == nil && filepath.IsLocal(rel) {
			return fmt.Errorf("%w: it is in %s, which holds backups", ErrPlace, a)
		}
	}
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%w: %s cannot be written: %w", ErrPlace, parent, err)
	}
	return nil
}

// free refuses a folder that exists, unless it is empty and an ordinary one.
func (p *Place) free() error {
	info, err := os.Lstat(p.final)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPlace, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: %s exists and is no folder", ErrPlace, p.final)
	}
	above, err := os.Lstat(filepath.Dir(p.final))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPlace, err)
	}
	if device(info) != device(above) {
		return fmt.Errorf("%w: %s is a mount point: name a folder in it, such as %s", ErrPlace, p.final, filepath.Join(p.final, "data"))
	}
	entries, err := os.ReadDir(p.final)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPlace, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty: nothing is overwritten", ErrPlace, p.final)
	}
	return nil
}

func device(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev)
	}
	return 0
}

// remains finds what another restore to this place left or works on, and takes its lock. nil and nil is none.
// Errors: [ErrBusy]; [ErrLeft], with the lock; [ErrPlace].
func (p *Place) remains() (*os.File, error) {
	info, err := os.Lstat(p.work)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlace, err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !known || int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: %s is none of this user's folders", ErrPlace, p.work)
	}
	lock, err := Lock(p.lockPath(), 0, syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, ErrBusy
	case errors.Is(err, fs.ErrNotExist):
		return nil, p.strange()
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrPlace, err)
	}
	return lock, fmt.Errorf("%w: what it left is in %s", ErrLeft, p.work)
}

// strange is a private folder without a lock: a restore was killed just when it had made it, or it is not a restore's.
func (p *Place) strange() error {
	if entries, err := os.ReadDir(p.work); err == nil && len(entries) == 0 {
		return fmt.Errorf("%w: what it left is in %s", ErrLeft, p.work)
	}
	return fmt.Errorf("%w: %s is not what a restore leaves", ErrPlace, p.work)
}

func (p *Place) lockPath() string { return filepath.Join(p.work, ".lock") }

// Take makes the private folder. With clean, the remains of a restore that was cut off go first. [Place.Leave] must be called.
// Errors: those of [Place.Look].
func (p *Place) Take(clean bool, away ...string) error {
	lock, err := p.inspect(away)
	if clean && errors.Is(err, ErrLeft) {
		err = p.remove()
	}
	if lock != nil {
		err = errors.Join(err, lock.Close())
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(p.work, 0o700); errors.Is(err, fs.ErrExist) {
		return ErrBusy
	} else if err != nil {
		return fmt.Errorf("make the private folder: %w", err)
	}
	if p.lock, err = Lock(p.lockPath(), os.O_CREATE, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock the private folder: %w", err)
	}
	return nil
}

// remove takes the private folder away, its lock file last: without it nobody would dare to remove the rest.
func (p *Place) remove() error {
	EndStrays(p.Work())
	err := errors.Join(RemoveSocket(p.Work()), os.RemoveAll(p.Work()))
	if err == nil {
		err = os.RemoveAll(p.work)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", p.work, err)
	}
	return nil
}

// Owner is who gets the data; nil leaves them to drydock's user.
type Owner struct{ UID, GID int }

// Publish gives data, a folder in the private one, the place's name, when all of it is on disk. Errors: those of the file
// system; the place is as it was then.
func (p *Place) Publish(data string, owner *Owner) error {
	if owner != nil {
		if err := p.give(data, *owner); err != nil {
			return fmt.Errorf("give the data to their owner: %w", err)
		}
	}
	if err := syncDisk(data); err != nil {
		return fmt.Errorf("bring the data to disk: %w", err)
	}
	// A folder that is not empty is not replaced, nor is a file or a link. [os.Rename] would refuse an empty folder, too.
	if err := unix.Rename(data, p.final); err != nil {
		return fmt.Errorf("give the data their name: %w", err)
	}
	return durable.SyncFolder(filepath.Dir(p.final))
}

// give changes the owner of all that is in data, links themselves and not what they lead to.
func (p *Place) give(data string, o Owner) error {
	return filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.UID, o.GID)
	})
}

func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// Leave removes the private folder and what is still in it.
func (p *Place) Leave() error {
	if p.lock == nil {
		return nil
	}
	err := errors.Join(p.remove(), p.lock.Close())
	p.lock = nil
	return err
}

// Free is how many bytes may still be written at the place, and whether that is on the disk of another folder.
func (p *Place) Free(other string) (free int64, shared bool, err error) {
	var here, there unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(p.final), &here); err != nil {
		return 0, false, fmt.Errorf("look for space in %s: %w", filepath.Dir(p.final), err)
	}
	if unix.Statfs(other, &there) == nil {
		shared = here.Fsid == there.Fsid
	}
	return int64(here.Bavail) * here.Bsize, shared, nil
}
